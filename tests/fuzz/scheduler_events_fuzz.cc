// Whatever events the bytes spell, the scheduler takes them: its invariants hold after each, a
// second one says the same in the same words, and what waits can be explained.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

constexpr int kEventsMax = 200;
constexpr int64_t kUnit = Amount::kUnit;

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  int Below(int n) { return Next() % n; }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return *(values.begin() + Below(static_cast<int>(values.size())));
  }

 private:
  int Next() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  const uint8_t* data_;
  size_t left_;
};

Labels SomeLabels(Bytes& bytes) {
  Labels labels;
  for (const char* key : {"zone", "market", "n"}) {
    const int value = bytes.Below(4);
    if (value > 0) labels.emplace(key, absl::StrCat(value));
  }
  return labels;
}

Resources SomeResources(Bytes& bytes) {
  Resources resources;
  resources.cpus = bytes.Of<int64_t>({0, kUnit, kUnit / 2, 3 * kUnit});
  resources.gpus = bytes.Of<int64_t>({0, kUnit, kUnit / 4, kUnit / 2, 2 * kUnit, 9000});
  resources.memory_bytes = int64_t{bytes.Below(3)} << 27;
  if (bytes.Below(5) == 4) resources.custom["license"] = kUnit / 2;
  return resources;
}

RequestSpec SomeSpec(Bytes& bytes) {
  RequestSpec spec;
  const int choices = 1 + bytes.Below(4);
  for (int i = 0; i < choices; ++i) {
    Choice choice;
    const std::string selector =
        bytes.Of<const char*>({"", "zone=1", "zone=in(1,2),market=!1", "market=exists()", "n=gt(1)",
                               "zone=!in(2,3)", "market=!exists(),zone=3"});
    choice.selector = *LabelSelector::ParseText(selector);
    choice.resources = SomeResources(bytes);
    if (i > 0) {
      choice.after = absl::Seconds(bytes.Of<int>({0, 0, 3, 60}));
      choice.advance_on = static_cast<uint8_t>(bytes.Below(16));
    }
    spec.choices.push_back(std::move(choice));
  }
  spec.bundles = bytes.Of<int>({1, 1, 1, 2, 5});
  spec.priority = bytes.Of<int>({0, 0, 1, -3});
  if (bytes.Below(3) == 0) spec.placement = static_cast<PlacementPolicy>(bytes.Below(3));
  spec.fail_if_infeasible = bytes.Below(4) == 3;
  spec.name = absl::StrCat(bytes.Below(3));
  return spec;
}

HeldLease SomeHeld(Bytes& bytes) {
  HeldLease held{.request = {static_cast<uint64_t>(bytes.Below(24))}};
  held.spec = SomeSpec(bytes);
  held.bundle = bytes.Below(4) - 1;
  held.placement.choice = bytes.Below(4) - 1;
  held.placement.resources = SomeResources(bytes);
  for (int device = 0; device * kUnit < held.placement.resources.gpus; ++device) {
    held.placement.devices.push_back(
        {.device = bytes.Below(5) - 1, .amount = std::min(kUnit, held.placement.resources.gpus)});
  }
  return held;
}

decltype(Event::what) SomeEvent(Bytes& bytes) {
  const NodeId node{static_cast<uint64_t>(bytes.Below(12))};
  const RequestId request{static_cast<uint64_t>(bytes.Below(24))};
  switch (bytes.Below(12)) {
    case 0: {
      NodeJoined joined{.node = node, .name = absl::StrCat("n", node.value)};
      joined.labels = SomeLabels(bytes);
      joined.total.cpus = kUnit * bytes.Below(5);
      joined.total.gpu_devices = bytes.Below(5);
      joined.total.memory_bytes = int64_t{bytes.Below(4)} << 27;
      if (bytes.Below(3) == 2) joined.total.custom["license"] = kUnit;
      for (int held = bytes.Below(4); held > 1; --held) joined.held.push_back(SomeHeld(bytes));
      return joined;
    }
    case 1:
      return NodeChanged{.node = node, .labels = SomeLabels(bytes)};
    case 2:
      return NodeReachable{.node = node, .reachable = bytes.Below(2) == 1};
    case 3: {
      NodeDraining drain{.node = node, .draining = bytes.Below(3) > 0};
      if (bytes.Below(2) == 1) {
        drain.deadline = absl::UnixEpoch() + absl::Seconds(int64_t{bytes.Below(60)});
      }
      if (bytes.Below(2) == 1) return drain;
      return DeviceHealth{.node = node,
                          .device = static_cast<int>(bytes.Below(5)) - 1,
                          .healthy = bytes.Below(2) == 1};
    }
    case 4:
      return NodeLost{.node = node};
    case 5:
      return RequestCancelled{.request = request};
    case 6:
      return LeaseBlocked{
          .request = request, .bundle = bytes.Below(4) - 1, .blocked = bytes.Below(2) == 1};
    case 7:
    case 8:
      return LeaseFinished{.request = request, .bundle = bytes.Below(4) - 1};
    case 9:
      return Tick{};
    default:
      return Requested{.request = request, .spec = SomeSpec(bytes)};
  }
}

void Drive(Bytes bytes) {
  SchedulerConfig config{.start = absl::UnixEpoch()};
  config.waiting_requests_max = bytes.Of<int>({1000, 3});
  config.infeasible_grace = absl::Seconds(bytes.Of<int>({0, 5}));
  config.idle_classes_kept = bytes.Below(3);
  config.placement = static_cast<PlacementPolicy>(bytes.Below(3));
  Scheduler scheduler(config);
  Scheduler twin(config);
  absl::Time now = config.start;
  for (int i = 0; i < kEventsMax && !bytes.empty(); ++i) {
    now += absl::Seconds(bytes.Of<int>({0, 0, 1, 40}));
    const Event event{.at = now, .what = SomeEvent(bytes)};
    std::vector<Action> actions;
    std::vector<Action> again;
    scheduler.Step(event, actions);
    twin.Step(event, again);
    MUSTER_CHECK(actions.size() == again.size());
    for (size_t a = 0; a < actions.size(); ++a) {
      MUSTER_CHECK(ToString(actions[a]) == ToString(again[a]));
    }
    scheduler.CheckInvariants();
    MUSTER_CHECK(scheduler.NextTick() == twin.NextTick());
    for (const WaitingClass& row : scheduler.Waiting(now)) {
      for (const RequestId waiting : row.requests) {
        MUSTER_CHECK(scheduler.Explain(waiting, now).has_value());
      }
    }
  }
}

}  // namespace
}  // namespace muster::sched

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::sched::Drive(muster::sched::Bytes(data, size));
  return 0;
}
