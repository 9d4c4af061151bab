// The scheduler against a second version of its rules (oracle.h): random events, and after each the
// same actions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/chance.h"
#include "scheduler/oracle.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"

namespace muster::sched {
namespace {

constexpr int64_t kUnit = Amount::kUnit;
constexpr int64_t kSomeMemory = int64_t{50} << 20;

// --- Random events ---

using Texts = std::vector<std::map<std::string, std::string>>;
struct Spec {
  RequestSpec spec{};
  Texts texts{};
};

class World {
 public:
  explicit World(uint64_t seed) : chance_(seed) {
    avoids_ = chance_.OneIn(3);
    const int specs = 1 + chance_.Below(10);
    for (int i = 0; i < specs; ++i) specs_.push_back(RandomSpec());
    gpu_nodes_ = !chance_.OneIn(4);
    loses_nodes_ = !chance_.OneIn(3);
    quarantines_ = chance_.OneIn(2);
  }

  Chance& chance() { return chance_; }

  PlacementPolicy RandomPolicy() {
    return chance_.Of<PlacementPolicy>(
        {PlacementPolicy::kPack, PlacementPolicy::kBestFit, PlacementPolicy::kSpread});
  }

  Labels RandomLabels() {
    Labels labels;
    for (const char* key : {"zone", kKindLabel}) {
      if (!chance_.OneIn(4)) labels.emplace(key, chance_.Of<std::string>({"a", "b", "c"}));
    }
    if (chance_.OneIn(2)) labels.emplace("n", std::to_string(chance_.Below(5)));
    return labels;
  }

  std::pair<Event, Texts> Next(const Oracle& oracle, absl::Time now) {
    Event event;
    Texts texts;
    const uint64_t request = 1 + chance_.Next() % next_request_;
    const uint64_t node = 1 + chance_.Next() % next_node_;
    constexpr size_t kNodesMax = 6;  // The slow version is slow.
    constexpr size_t kRequestsMax = 16;
    if (oracle.nodes().size() > kNodesMax) {
      event.what = NodeLost{.node = {oracle.nodes().begin()->first}};
      return {event, texts};
    }
    if (oracle.requests().size() > kRequestsMax) {
      event.what = RequestCancelled{.request = {oracle.requests()[chance_.Below(4)].id}};
      return {event, texts};
    }
    switch (chance_.Below(16)) {
      case 0:
      case 1:
        event.what = RandomJoin();
        break;
      case 2:
        event.what = NodeChanged{.node = {node}, .labels = RandomLabels()};
        break;
      case 3:
        event.what = NodeReachable{.node = {node}, .reachable = !chance_.OneIn(3)};
        break;
      case 4:
        if (loses_nodes_ && chance_.OneIn(3)) {
          NodeDraining drain{.node = {node}, .draining = !chance_.OneIn(3)};
          if (drain.draining && chance_.OneIn(2)) {
            drain.deadline = now + absl::Seconds(chance_.Below(30));
          }
          event.what = drain;
        } else if (quarantines_ && chance_.OneIn(2)) {
          event.what = DeviceHealth{.node = {node},
                                    .device = chance_.Below(4) - (chance_.OneIn(20) ? 1 : 0),
                                    .healthy = chance_.OneIn(3)};
        } else if (loses_nodes_ && chance_.OneIn(2)) {
          event.what = NodeLost{.node = {node}};
        } else {
          event.what = Tick{};
        }
        break;
      case 5:
      case 6:
      case 7:
      case 8:
      case 9: {
        const Spec& spec = chance_.Of(specs_);
        const bool repeat = chance_.OneIn(20);
        event.what = Requested{.request = {repeat ? request : next_request_++}, .spec = spec.spec};
        texts = spec.texts;
        break;
      }
      case 10:
        event.what = RequestCancelled{.request = {request}};
        break;
      case 11:
        event.what = LeaseBlocked{.request = RunningOr(oracle, request),
                                  .bundle = chance_.Below(3),
                                  .blocked = chance_.OneIn(2)};
        break;
      case 12:
      case 13:
      case 14:
        event.what =
            LeaseFinished{.request = RunningOr(oracle, request), .bundle = chance_.Below(3)};
        break;
      default:
        event.what = Tick{};
        break;
    }
    return {event, texts};
  }

 private:
  RequestId RunningOr(const Oracle& oracle, uint64_t otherwise) {
    std::vector<uint64_t> running;
    for (const SlowRequest& r : oracle.requests()) {
      if (!r.leases.empty()) running.push_back(r.id);
    }
    return {running.empty() ? otherwise : chance_.Of(running)};
  }

  NodeJoined RandomJoin() {
    NodeJoined join{.node = {chance_.OneIn(10) ? 1 + chance_.Next() % next_node_ : next_node_++}};
    join.name = absl::StrCat("n", join.node.value);
    join.labels = RandomLabels();
    join.total.cpus = kUnit * chance_.Below(5);
    join.total.gpu_devices = gpu_nodes_ ? chance_.Below(4) : 0;
    join.total.memory_bytes = kSomeMemory * chance_.Below(4);
    if (chance_.OneIn(3)) join.total.custom["license"] = kUnit;
    return join;
  }

  Resources RandomResources() {
    Resources r;
    r.cpus = chance_.Of<int64_t>({0, kUnit / 2, kUnit, kUnit, 2 * kUnit});
    r.gpus = chance_.Of<int64_t>({0, 0, kUnit / 4, kUnit / 2, 7000, kUnit, 2 * kUnit});
    r.memory_bytes = chance_.OneIn(3) ? kSomeMemory * chance_.Below(3) : 0;
    if (chance_.OneIn(6)) r.custom["license"] = kUnit / 2;
    return r;
  }

  Spec RandomSpec() {
    Spec made;
    const int choices = 1 + chance_.Below(4);
    Resources primary = RandomResources();
    for (int i = 0; i < choices; ++i) {
      Choice choice;
      std::map<std::string, std::string> text;
      for (const char* key : {"zone", kKindLabel}) {
        if (chance_.OneIn(2)) {
          text[key] = chance_.Of<std::string>(
              {"a", "b", "!a", "in(a,b)", "!in(b,c)", "exists()", "!exists()", "in(a,b),!b"});
        }
      }
      if (chance_.OneIn(6)) text["n"] = chance_.Of<std::string>({"gt(1)", "lt(3)", "gt(0),lt(4)"});
      choice.selector = *LabelSelector::Parse(text);
      choice.resources = chance_.OneIn(3) ? RandomResources() : primary;
      if (i > 0)
        choice.after = chance_.Of<absl::Duration>({absl::ZeroDuration(), absl::ZeroDuration(),
                                                   absl::Seconds(5), absl::Seconds(20),
                                                   absl::InfiniteDuration()});
      if (i > 0) choice.advance_on = chance_.Of<uint8_t>({7, 7, 15, 8, 1, 0});
      made.spec.choices.push_back(std::move(choice));
      made.texts.push_back(std::move(text));
    }
    made.spec.bundles = chance_.OneIn(3) ? 1 + chance_.Below(4) : 1;
    made.spec.priority = chance_.OneIn(4) ? chance_.Below(3) - 1 : 0;
    made.spec.fail_if_infeasible = chance_.OneIn(5);
    if (chance_.OneIn(3)) made.spec.placement = RandomPolicy();
    if (chance_.OneIn(4)) {
      made.spec.affinity = {.node = absl::StrCat("n", 1 + chance_.Below(5)),
                            .soft = chance_.OneIn(2)};
    }
    for (int n = 1; n < 6 && avoids_; ++n) {
      if (chance_.OneIn(4)) made.spec.avoid.push_back(absl::StrCat("n", n));
    }
    made.spec.name = std::to_string(specs_.size());
    return made;
  }

  Chance chance_;
  std::vector<Spec> specs_;
  bool gpu_nodes_ = true;
  bool loses_nodes_ = true;
  bool avoids_ = false;
  bool quarantines_ = false;
  uint64_t next_request_ = 1;
  uint64_t next_node_ = 1;
};

// Which requests are infeasible is compared, not the words nor the order in which classes are told.
std::vector<std::string> Comparable(const std::vector<Action>& actions) {
  std::vector<std::string> lines;
  std::vector<std::string> infeasible;
  for (const Action& action : actions) {
    if (const auto* said = std::get_if<Infeasible>(&action)) {
      infeasible.push_back(
          absl::StrCat("infeasible ", said->request.value, said->failed ? " failed" : ""));
    } else {
      lines.push_back(ToString(action));
    }
  }
  std::sort(infeasible.begin(), infeasible.end());
  lines.insert(lines.end(), infeasible.begin(), infeasible.end());
  return lines;
}

// What is said about waiting requests and nodes agrees with what there is.
void CheckReports(const Scheduler& scheduler, const Oracle& oracle, absl::Time now) {
  size_t waiting = 0;
  for (const SlowRequest& r : oracle.requests()) {
    const std::optional<Explanation> explanation = scheduler.Explain({r.id}, now);
    ASSERT_TRUE(explanation.has_value());
    ASSERT_EQ(explanation->granted, !r.leases.empty());
    ASSERT_FALSE(ToText(*explanation, "Score", now).empty());
    if (explanation->granted) continue;
    ++waiting;
    ASSERT_EQ(explanation->choices.size(), r.spec.choices.size());
    for (size_t c = 0; c < r.spec.choices.size(); ++c) {
      ASSERT_EQ(explanation->choices[c].state == ChoiceState::kOpen, c < r.opened.size());
      ASSERT_FALSE(explanation->choices[c].why.empty());
    }
  }
  size_t listed = 0;
  for (const WaitingClass& row : scheduler.Waiting(now)) listed += row.requests.size();
  ASSERT_EQ(listed, waiting);
  ASSERT_EQ(scheduler.HasWaiting(), waiting > 0);
  size_t there = 0;
  for (const NodeView& view : scheduler.Nodes()) {
    if (view.state == NodeState::kLost) continue;
    ++there;
    ASSERT_EQ(view.used.cpus, view.total.cpus - oracle.nodes().at(view.node.value).cpus);
  }
  ASSERT_EQ(there, oracle.nodes().size());
}

constexpr int kCasesPerSeed = 150;  // An event each, and all that follows from it.

void CompareWithTheSlowVersion(uint64_t seed) {
  World world(seed);
  const bool grace = world.chance().OneIn(3);
  const absl::Time start = absl::UnixEpoch();
  SchedulerConfig config{.start = start,
                         .infeasible_grace = grace ? absl::Seconds(15) : absl::ZeroDuration()};
  config.idle_classes_kept = world.chance().Below(4);
  config.overtaken_max = 0;  // Reservations have tests of their own.
  config.reservation_after = absl::InfiniteDuration();
  config.avoid_for = absl::Seconds(world.chance().Below(3) * 7);
  config.placement = world.RandomPolicy();
  Scheduler scheduler(config);
  auto twin = std::make_unique<Scheduler>(config);
  Oracle oracle(start + config.infeasible_grace, config.avoid_for, config.placement);
  absl::Time now = start;
  std::string history;
  for (int step = 0; step < kCasesPerSeed; ++step) {
    auto [event, texts] = world.Next(oracle, now);
    if (world.chance().OneIn(3)) now += absl::Seconds(world.chance().Below(8));
    // Mostly the shell ticks in time; sometimes it is late.
    if (!world.chance().OneIn(4) && scheduler.NextTick() < now) {
      now = std::max(scheduler.NextTick(), start);
      event.what = Tick{};
    }
    event.at = now;
    absl::StrAppend(&history, step, " ", absl::FormatDuration(now - start), " ", ToString(event),
                    "\n");
    std::vector<Action> actions;
    scheduler.Step(event, actions);
    std::vector<Action> again;
    twin->Step(event, again);
    const std::vector<std::string> expected = Comparable(oracle.Step(event, texts));
    ASSERT_EQ(Comparable(actions), expected) << history;
    ASSERT_EQ(actions.size(), again.size());
    for (size_t i = 0; i < actions.size(); ++i) ASSERT_EQ(ToString(actions[i]), ToString(again[i]));
    ASSERT_EQ(scheduler.NextTick(), oracle.NextDue()) << history;
    scheduler.CheckInvariants();
    CheckReports(scheduler, oracle, now);
    if (world.chance().OneIn(10)) {  // The twin goes on from a snapshot.
      std::vector<Action> loading;
      absl::StatusOr<std::unique_ptr<Scheduler>> loaded =
          Scheduler::Load(twin->TakeSnapshot(), loading);
      ASSERT_TRUE(loaded.ok()) << loaded.status() << "\n" << history;
      ASSERT_TRUE(loading.empty()) << ToString(loading[0]) << "\n" << history;
      twin = *std::move(loaded);
      twin->CheckInvariants();
    }
  }
}

class SchedulerOracleTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(SchedulerOracleTest, DecidesAsTheSlowVersionDoes) { CompareWithTheSlowVersion(GetParam()); }

// MUSTER_ORACLE_CASES=100000 compares so many; CI has 10,000, and the seeds below.
TEST(SchedulerOracleAtLength, DecidesAsTheSlowVersionDoes) {
  const char* const wanted = std::getenv("MUSTER_ORACLE_CASES");
  if (wanted == nullptr) GTEST_SKIP() << "MUSTER_ORACLE_CASES says how many; none were asked for";
  const uint64_t cases = std::strtoull(wanted, nullptr, 10);
  ASSERT_GT(cases, 0) << wanted;
  for (uint64_t seed = 1000; (seed - 1000) * kCasesPerSeed < cases; ++seed) {
    SCOPED_TRACE(seed);
    CompareWithTheSlowVersion(seed);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulerOracleTest, ::testing::Range<uint64_t>(1, 61));

}  // namespace
}  // namespace muster::sched
