// Work that returns to earlier choices, in random clusters: invariants after each event, schedulers
// loaded from snapshots that go on alike, and the promise that what is asked for instead of work
// that was told to return gets the room at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/chance.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"

namespace muster::sched {
namespace {

constexpr int kEvents = 300;

class World {
 public:
  explicit World(uint64_t seed) : chance_(seed) {
    SchedulerConfig config;
    preemption_ = config.sharing.preemption = Percent(30);
    config.sharing.backfill = static_cast<Backfill>(Percent(50) ? 0 : Below(4));
    config.sharing.duration_default = absl::Seconds(20);
    if (Percent(20)) config.sharing.time_slice = absl::Seconds(10);
    config.placement = static_cast<PlacementPolicy>(Below(3));
    config.return_patience = absl::Seconds(1 + Below(5));
    scheduler_ = std::make_unique<Scheduler>(config);
    about_ = absl::StrCat(ToString(config.sharing.backfill), ", ", ToString(config.placement),
                          preemption_ ? ", preemption" : "");
    for (int i = 0; i < 3; ++i) Join();
    if (Percent(40)) {
      Quota quota{.name = "q", .limits = {{"gpus", 2 * Amount::kUnit}}};
      quota.selector = *LabelSelector::Parse({{"market", "spot"}});
      Do(QuotaSet{quota});
    }
  }

  void Run() {
    for (int i = 0; i < kEvents && !::testing::Test::HasFailure(); ++i) {
      now_ += absl::Milliseconds(Below(3000));
      if (Percent(15)) Reload();
      OneEvent();
    }
  }
  int returned() const { return returned_; }
  const std::string& about() const { return about_; }

 private:
  struct Running {
    SpecHandle spec{};
    std::vector<int> choices{};  // By bundle; -1: it has ended.
    bool told = false;           // To return, for no other reason since, and not revoked.
    bool granted = false;
  };

  bool Percent(int percent) { return Below(100) < percent; }
  int Below(int bound) { return chance_.Below(bound); }

  void Join() {
    NodeJoined joined{.node = {++last_node_}};
    joined.name = absl::StrCat("n", last_node_);
    joined.labels = {{"market", Percent(50) ? "spot" : "on-demand"}};
    joined.total = {.cpus = 16 * Amount::kUnit, .gpu_devices = 1 + Below(4)};
    nodes_.push_back(joined.node);
    Do(std::move(joined));
  }

  SpecHandle DrawSpec() {
    RequestSpec spec;
    const int64_t gpus = Percent(20) ? Amount::kUnit / 2 : (1 + Below(2)) * Amount::kUnit;
    const Resources needs{.cpus = Amount::kUnit, .gpus = gpus};
    Choice spot{.selector = *LabelSelector::Parse({{"market", "spot"}}), .resources = needs};
    if (Percent(20)) spot = {.resources = {.cpus = Amount::kUnit, .gpus = 3 * Amount::kUnit}};
    spec.choices.push_back(spot);
    if (Percent(80)) spec.choices.push_back({.resources = needs});
    if (Percent(30)) {
      spec.choices.push_back({.resources = {.cpus = Amount::kUnit}, .after = absl::Seconds(2)});
    }
    spec.bundles = Percent(70) ? 1 : 1 + Below(3);
    if (spec.bundles > 1 && Percent(40)) spec.strategy = {*ParseLevel("strict_pack")};
    spec.priority = Percent(20) ? 1 : 0;
    spec.tenant = Percent(50) ? "a" : "b";
    spec.job = absl::StrCat("j", Below(2));
    spec.return_to_preferred = {
        .moves = Below(4),
        .after = absl::Seconds(Below(10)),
        .grace = Percent(30) ? absl::InfiniteDuration() : absl::Seconds(1 + Below(10))};
    return SpecHandle(std::move(spec));
  }

  void Ask(const SpecHandle& spec, RequestId instead_of) {
    const RequestId id{++last_request_};
    requests_.emplace(id, Running{.spec = spec, .choices = {}});
    Do(Requested{.request = id, .spec = spec, .instead_of = instead_of});
  }

  // All of it, and its owner asks again.
  void End(RequestId id) {
    const Running ended = requests_.at(id);
    for (size_t i = 0; i < ended.choices.size(); ++i) {
      if (ended.choices[i] >= 0) Do(LeaseFinished{.request = id, .bundle = static_cast<int>(i)});
    }
    requests_.erase(id);
    if (!ended.told || Percent(20)) return;  // It may also be through.
    RequestSpec spec = *ended.spec;
    --spec.return_to_preferred.moves;
    ASSERT_GE(spec.return_to_preferred.moves, 0);
    const int worst = *std::max_element(ended.choices.begin(), ended.choices.end());
    Ask(SpecHandle(std::move(spec)), id);
    // The room may have gone after its first bundle ended, or to a higher priority.
    if (ended.choices.size() > 1 || (preemption_ && ended.spec->priority == 0)) return;
    const auto now = requests_.find(RequestId{last_request_});
    ASSERT_NE(now, requests_.end());
    ASSERT_TRUE(now->second.granted)
        << "request " << last_request_ << " instead of " << id.ToString() << ", by " << log_;
    EXPECT_LT(now->second.choices[0], worst) << log_;
    ++returned_;
  }

  void OneEvent() {
    const int which = Below(100);
    if (which < 40) return Ask(DrawSpec(), RequestId{});
    if (which < 75 && !requests_.empty()) {
      auto at = requests_.begin();
      std::advance(at, Below(static_cast<int>(requests_.size())));
      for (auto next = at; next != requests_.end(); ++next) {
        if (!next->second.granted) continue;
        return End(next->first);
      }
    }
    if (which < 80 && !requests_.empty()) {
      const RequestId id = requests_.begin()->first;
      Do(RequestCancelled{id});  // What was due before it is done first.
      requests_.erase(id);
      return;
    }
    if (which < 84 && nodes_.size() < 8) return Join();
    if (nodes_.empty()) return;
    const size_t at = static_cast<size_t>(Below(static_cast<int>(nodes_.size())));
    const NodeId node = nodes_[at];
    if (which < 87) {
      nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(at));
      return Do(NodeLost{node});
    }
    if (which < 90) return Do(NodeReachable{.node = node, .reachable = Percent(60)});
    if (which < 94) {
      NodeDraining drain{.node = node, .draining = Percent(40)};
      if (Percent(50)) drain.deadline = now_ + absl::Seconds(Below(5));
      return Do(std::move(drain));
    }
    if (which < 96) return Do(DeviceHealth{.node = node, .device = 0, .healthy = Percent(60)});
    Do(Tick{});
  }

  void Reload() {
    std::vector<Action> actions;
    auto loaded = Scheduler::Load(scheduler_->TakeSnapshot(), actions);
    ASSERT_TRUE(loaded.ok()) << loaded.status() << " after " << log_;
    std::string said;
    for (const Action& action : actions) absl::StrAppend(&said, ToString(action), "\n");
    ASSERT_EQ(said, "") << "after " << log_;
    twin_ = *std::move(loaded);
  }

  void Do(decltype(Event::what) what) {
    const Event event{.at = now_, .what = std::move(what)};
    absl::StrAppend(&log_, ToString(event), "\n");
    if (log_.size() > 4000) log_.erase(0, log_.size() - 4000);

    std::vector<Action> actions;
    scheduler_->Step(event, actions);
    scheduler_->CheckInvariants();
    for (const Action& action : actions) absl::StrAppend(&log_, "> ", ToString(action), "\n");
    if (twin_ != nullptr) {
      std::vector<Action> others;
      twin_->Step(event, others);
      ASSERT_EQ(Text(actions), Text(others)) << "after " << log_;
      ASSERT_EQ(scheduler_->NextTick(), twin_->NextTick()) << "after " << log_;
    }
    for (const Action& action : actions) Take(action);
  }

  static std::string Text(const std::vector<Action>& actions) {
    std::string text;
    for (const Action& action : actions) absl::StrAppend(&text, ToString(action), "\n");
    return text;
  }

  // Null, which is an error: it is over.
  Running* Known(RequestId id) {
    const auto found = requests_.find(id);
    EXPECT_NE(found, requests_.end()) << "request " << id.ToString() << " is over\n" << log_;
    return found == requests_.end() ? nullptr : &found->second;
  }

  void Take(const Action& action) {
    if (const auto* grant = std::get_if<Grant>(&action)) {
      Running* const running = Known(grant->request);
      if (running == nullptr) return;
      running->granted = true;
      for (const Placement& placement : grant->placements) {
        running->choices.push_back(placement.choice);
      }
    } else if (const auto* notice = std::get_if<Notice>(&action)) {
      Running* const running = Known(notice->request);
      const bool returns = notice->reason == LeavingReason::kReturnToPreferred;
      if (running != nullptr) running->told = returns;
    } else if (const auto* stays = std::get_if<NoticeWithdrawn>(&action)) {
      if (Running* const running = Known(stays->request)) running->told = false;
    } else if (const auto* revoke = std::get_if<Revoke>(&action)) {
      if (Running* const running = Known(revoke->request)) running->told = false;
    } else if (const auto* lost = std::get_if<LeaseLost>(&action)) {
      Running* const running = Known(lost->request);
      if (running == nullptr) return;
      running->choices[static_cast<size_t>(lost->bundle)] = -1;
      if (*std::max_element(running->choices.begin(), running->choices.end()) < 0) {
        requests_.erase(lost->request);
      }
    } else if (const auto* rejected = std::get_if<Rejected>(&action)) {
      requests_.erase(rejected->request);
    }
  }

  Chance chance_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Scheduler> twin_;  // Loaded from a snapshot of it.
  absl::Time now_ = absl::UnixEpoch();
  uint64_t last_node_ = 0;
  uint64_t last_request_ = 0;
  std::vector<NodeId> nodes_;
  std::map<RequestId, Running> requests_;
  bool preemption_ = false;
  std::string about_;
  int returned_ = 0;
  std::string log_;  // The last events and actions.
};

// MUSTER_RETURN_SEEDS=1000 tries so many.
TEST(ReturnsTest, RandomClustersKeepTheirPromise) {
  const char* const wanted = std::getenv("MUSTER_RETURN_SEEDS");
  const uint64_t seeds = wanted == nullptr ? 24 : std::strtoull(wanted, nullptr, 10);
  int returned = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    World world(seed);
    world.Run();
    returned += world.returned();
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ": " << world.about();
  }
  EXPECT_GT(returned, 20);
}

}  // namespace
}  // namespace muster::sched
