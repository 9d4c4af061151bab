#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace muster::sched {
namespace {

constexpr int64_t kUnit = Amount::kUnit;

class SchedulerTest : public ::testing::Test {
 protected:
  template <typename What>
  std::vector<std::string> Do(What what) {
    std::vector<Action> actions;
    scheduler_.Step({.at = now_, .what = std::move(what)}, actions);
    std::vector<std::string> lines;
    for (const Action& action : actions) lines.push_back(ToString(action));
    return lines;
  }

  static NodeJoined Join(uint64_t id, int cpus, Labels labels = {}) {
    NodeJoined join{.node = {id}, .name = "n", .labels = std::move(labels)};
    join.total.cpus = cpus * kUnit;
    return join;
  }

  static RequestSpec Spec(const std::vector<std::string>& selectors = {""}) {
    RequestSpec spec;
    for (const std::string& selector : selectors) {
      Choice choice{.selector = *LabelSelector::ParseText(selector)};
      choice.resources.cpus = kUnit;
      spec.choices.push_back(std::move(choice));
    }
    return spec;
  }

  Scheduler scheduler_;
  absl::Time now_ = absl::UnixEpoch();
};

using Lines = std::vector<std::string>;

TEST_F(SchedulerTest, ManyRequestsOfOneClassAreServedInOrder) {
  constexpr uint64_t kRequests = 20'000;
  Do(Join(1, 1));
  const RequestSpec spec = Spec({"zone=!a", "zone=!b"});
  for (uint64_t id = 1; id <= kRequests; ++id) Do(Requested{.request = {id}, .spec = spec});
  for (uint64_t id = 1; id < kRequests; ++id) {
    std::vector<Action> actions;
    scheduler_.Step({.at = now_, .what = LeaseFinished{.request = {id}}}, actions);
    ASSERT_EQ(actions.size(), 1u);
    ASSERT_EQ(std::get<Grant>(actions[0]).request.value, id + 1);
  }
  EXPECT_FALSE(scheduler_.HasWaiting());
}

TEST_F(SchedulerTest, NextTickIsTheFirstTimer) {
  EXPECT_EQ(scheduler_.NextTick(), absl::InfiniteFuture());
  Do(Join(1, 1, {{"zone", "a"}}));
  Do(Requested{.request = {1}, .spec = Spec()});
  RequestSpec spec = Spec({"zone=a", "zone=!c"});
  spec.choices[1].after = absl::Seconds(20);
  Do(Requested{.request = {2}, .spec = spec});
  spec.choices[1].after = absl::Seconds(5);
  Do(Requested{.request = {3}, .spec = spec});
  EXPECT_EQ(scheduler_.NextTick(), absl::UnixEpoch() + absl::Seconds(5));
  now_ += absl::Seconds(5);
  Do(Tick{});
  EXPECT_EQ(scheduler_.NextTick(), absl::UnixEpoch() + absl::Seconds(20));
  Do(RequestCancelled{.request = {2}});
  EXPECT_EQ(scheduler_.NextTick(), absl::InfiniteFuture());
}

TEST_F(SchedulerTest, TimersThatAreLateOpenAtTheirOwnTime) {
  Do(Join(1, 1, {{"zone", "a"}}));
  Do(Join(2, 1, {{"zone", "b"}}));
  Do(Requested{.request = {1}, .spec = Spec({"zone=a"})});
  RequestSpec spec = Spec({"zone=a", "zone=a", "zone=b"});
  spec.choices[1].after = absl::Seconds(5);
  spec.choices[2].after = absl::Seconds(5);
  Do(Requested{.request = {2}, .spec = spec});
  now_ += absl::Seconds(10);
  EXPECT_EQ(Do(Tick{}), Lines{"grant request=2 node=2 choice=2"});
}

TEST_F(SchedulerTest, BadSpecIsRejectedWithItsReason) {
  RequestSpec spec = Spec();
  spec.choices[0].resources.gpus = kUnit + 1;
  EXPECT_EQ(Do(Requested{.request = {1}, .spec = spec}),
            Lines{"rejected request=1 reason=\"choice 0: gpus=1.0001: above 1 must be whole: a "
                  "fraction is a share of one device\""});
  EXPECT_EQ(Do(Requested{.request = {2}, .spec = {}}),
            Lines{"rejected request=2 reason=\"a request needs at least one choice\""});
}

TEST_F(SchedulerTest, UnknownIdsAreIgnored) {
  EXPECT_TRUE(Do(NodeChanged{.node = {7}}).empty());
  EXPECT_TRUE(Do(NodeReachable{.node = {7}}).empty());
  EXPECT_TRUE(Do(NodeDraining{.node = {7}}).empty());
  EXPECT_TRUE(Do(NodeLost{.node = {7}}).empty());
  EXPECT_TRUE(Do(RequestCancelled{.request = {7}}).empty());
  EXPECT_TRUE(Do(LeaseFinished{.request = {7}, .bundle = -1}).empty());
  EXPECT_TRUE(Do(LeaseBlocked{.request = {7}}).empty());
  EXPECT_FALSE(scheduler_.Explain({7}, now_).has_value());
  scheduler_.CheckInvariants();
}

TEST_F(SchedulerTest, LostNodesStayInViewAndMayJoinAgain) {
  Do(Join(1, 1));
  Do(NodeLost{.node = {1}});
  ASSERT_EQ(scheduler_.Nodes().size(), 1u);
  EXPECT_EQ(scheduler_.Nodes()[0].state, NodeState::kLost);
  Do(Join(1, 2));
  ASSERT_EQ(scheduler_.Nodes().size(), 1u);
  EXPECT_EQ(scheduler_.Nodes()[0].state, NodeState::kAlive);
  EXPECT_EQ(scheduler_.Nodes()[0].total.cpus, 2 * kUnit);
}

// Whole groups are looked for only at times when the nodes have as much free as they take at least.
TEST(SchedulerPlanTest, HopelessTimesAreNotSearched) {
  SchedulerConfig config;
  config.sharing.backfill = Backfill::kConservative;
  Scheduler scheduler(config);
  std::vector<Action> actions;
  const auto step = [&](decltype(Event::what) what) {
    actions.clear();
    scheduler.Step({.at = absl::UnixEpoch(), .what = std::move(what)}, actions);
    return actions.size();
  };
  const auto one = [](Resources resources, absl::Duration expected) {
    RequestSpec spec{.expected_duration = expected};
    spec.choices.push_back({.resources = std::move(resources)});
    return spec;
  };
  NodeJoined join{.node = {1}, .name = "n"};
  join.total.cpus = 2 * kUnit;
  join.total.gpu_devices = 1;
  step(join);
  ASSERT_EQ(step(Requested{.request = {1}, .spec = one({.cpus = 2 * kUnit}, absl::Seconds(10))}),
            1u);
  BundleSpec bundle;  // By its second choice at least.
  bundle.choices = {{.resources = {.cpus = 3 * kUnit}}, {.resources = {.cpus = kUnit}}};
  RequestSpec group = GroupSpec({{.bundles = {bundle, bundle}}});
  group.expected_duration = absl::Seconds(20);
  step(Requested{.request = {2}, .spec = group});
  step(Requested{.request = {3}, .spec = group});
  EXPECT_EQ(scheduler.searches(), 0);  // Nobody comes after them.
  const RequestSpec gpu = one({.gpus = kUnit}, absl::Seconds(5));
  ASSERT_EQ(step(Requested{.request = {4}, .spec = gpu}), 1u);
  EXPECT_EQ(scheduler.searches(), 2);  // After 10 s, and after 30 s.
  ASSERT_EQ(step(LeaseFinished{.request = {1}}), 1u);
  EXPECT_EQ(std::get<Grant>(actions[0]).request.value, 2u);
}

TEST_F(SchedulerTest, NameAndOwnerAreOfTheClass) {
  RequestSpec spec = Spec();
  spec.name = "Score";
  Do(Requested{.request = {1}, .spec = spec});
  Do(Requested{.request = {2}, .spec = spec});
  spec.owner = "other";
  Do(Requested{.request = {3}, .spec = spec});
  const std::vector<WaitingClass> rows = scheduler_.Waiting(now_);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].requests.size(), 2u);
  EXPECT_EQ(rows[0].spec.name, "Score");
  EXPECT_EQ(rows[1].spec.owner, "other");
}

}  // namespace
}  // namespace muster::sched
