#include "scheduler/forecast.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/base/chance.h"
namespace muster::sched {
namespace {

using ::testing::HasSubstr;
using When = StartEstimate::When;

absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

SpecHandle Spec(const std::string& name, int64_t cpus, int priority = 0) {
  RequestSpec spec{.priority = priority, .name = name};
  spec.choices.push_back({.resources = {.cpus = cpus * Amount::kUnit}});
  return spec;
}

class ForecastTest : public ::testing::Test {
 protected:
  void Step(int at, decltype(Event::what) what) {
    scheduler_.Step({.at = At(at), .what = std::move(what)}, actions_);
  }
  void Join(int at, uint64_t node, int64_t cpus) {
    Step(at, NodeJoined{.node = NodeId{node},
                        .name = absl::StrCat("n", node),
                        .total = {.cpus = cpus * Amount::kUnit}});
  }
  std::unique_ptr<Forecast> Make(ForecastConfig config = {}) {
    absl::StatusOr<std::unique_ptr<Forecast>> made =
        Forecast::Make(scheduler_.TakeSnapshot(), config);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  Scheduler scheduler_;
  std::vector<Action> actions_;
};

TEST_F(ForecastTest, LeasesEndOneAfterAnother) {
  Join(0, 1, 1);
  const SpecHandle spec = Spec("Score", 1);
  Step(0, Requested{.request = {1}, .spec = spec});
  Step(10, LeaseFinished{.request = {1}});  // Ten seconds each, from now on.
  for (uint64_t id = 2; id <= 5; ++id) Step(20, Requested{.request = {id}, .spec = spec});
  const std::vector<StartEstimate> estimates =
      Make()->Run({RequestId{5}, RequestId{3}, RequestId{2}, RequestId{5}});
  EXPECT_EQ(estimates[0].at, At(50));
  EXPECT_EQ(estimates[0].guessed, 3);
  EXPECT_EQ(estimates[1].at, At(30));
  EXPECT_EQ(estimates[2].at, At(20));  // It runs already.
  EXPECT_EQ(estimates[3].at, At(50));  // Asked for twice.
  EXPECT_THAT(ToText(estimates[0], At(20)),
              HasSubstr("in about 30s on n1, choice 1 (any node), when request 4 (Score) on n1"));
}

TEST_F(ForecastTest, DrainedNodesGoAtTheirDeadline) {
  Join(0, 1, 1);
  Join(0, 2, 1);
  Step(0, Requested{.request = {1}, .spec = Spec("A", 1)});
  Step(0, NodeDraining{.node = {1}, .deadline = At(60)});
  Step(0, Requested{.request = {2}, .spec = Spec("B", 1)});
  Step(0, Requested{.request = {3}, .spec = Spec("C", 1)});
  auto forecast = Make();
  const StartEstimate estimate = forecast->Run({RequestId{3}})[0];
  EXPECT_EQ(estimate.when, When::kUnknown);
  EXPECT_EQ(estimate.unknown, 1);
  EXPECT_EQ(forecast->leases_lost(), 0);  // Told to leave, and gone.
  EXPECT_EQ(forecast->now(), At(60));
}

TEST_F(ForecastTest, OlderAndMoreUrgentComeFirst) {
  Join(0, 1, 1);
  const SpecHandle spec = Spec("Score", 1);
  Step(0, Requested{.request = {1}, .spec = spec});
  Step(10, LeaseFinished{.request = {1}});
  Step(10, Requested{.request = {2}, .spec = spec});
  Step(10, Requested{.request = {3}, .spec = spec});
  Step(10, Requested{.request = {4}, .spec = Spec("Urgent", 1, 5)});
  const std::vector<StartEstimate> estimates = Make()->Run({RequestId{3}, RequestId{4}});
  EXPECT_EQ(estimates[1].at, At(20));
  EXPECT_EQ(estimates[0].when, When::kUnknown);  // Nobody knows how long the urgent one takes.
  EXPECT_EQ(estimates[0].unknown, 1);
}

TEST_F(ForecastTest, WhatIfIsAppliedToTheCopyAlone) {
  Join(0, 1, 1);
  Step(0, Requested{.request = {1}, .spec = Spec("A", 1)});
  auto forecast = Make();
  forecast->Apply(NodeJoined{.node = {2}, .name = "new", .total = {.cpus = Amount::kUnit}});
  forecast->Apply(Requested{.request = {2}, .spec = Spec("B", 1)});
  EXPECT_EQ(forecast->Run({RequestId{2}})[0].at, At(0));
  EXPECT_FALSE(scheduler_.Explain({2}, At(0)).has_value());
  EXPECT_EQ(scheduler_.Nodes().size(), 1u);
}

TEST_F(ForecastTest, RefusedRequestsAreGone) {
  Join(0, 1, 1);
  auto forecast = Make();
  forecast->Apply(Requested{.request = {2}, .spec = RequestSpec{}});
  const StartEstimate refused = forecast->Run({RequestId{2}})[0];
  EXPECT_EQ(refused.when, When::kGone);
  EXPECT_FALSE(refused.reason.empty());
}

TEST_F(ForecastTest, BoundsEndIt) {
  Join(0, 1, 1);
  const SpecHandle spec = Spec("Score", 1);
  Step(0, Requested{.request = {1}, .spec = spec});
  Step(10, LeaseFinished{.request = {1}});
  for (uint64_t id = 2; id <= 100; ++id) Step(10, Requested{.request = {id}, .spec = spec});
  EXPECT_EQ(Make({.horizon = absl::Seconds(100)})->Run({RequestId{100}})[0].when, When::kTooFar);
  EXPECT_EQ(Make({.steps_max = 50})->Run({RequestId{100}})[0].when, When::kTooFar);
  EXPECT_EQ(Make()->Run({RequestId{100}})[0].when, When::kKnown);
}

// Plans change for as long as leases are late: that is no reason to look for ever, or to be unsure
// of what is known.
TEST(ForecastBackfillTest, LateLeasesMakeNewPlans) {
  SchedulerConfig config;
  config.sharing.backfill = Backfill::kEasy;
  config.sharing.duration_default = absl::Seconds(600);
  Scheduler scheduler(config);
  std::vector<Action> actions;
  const auto step = [&](decltype(Event::what) what) {
    scheduler.Step({.at = At(0), .what = std::move(what)}, actions);
  };
  step(NodeJoined{.node = {1}, .name = "n1", .total = {.cpus = 4 * Amount::kUnit}});
  step(Requested{.request = {1}, .spec = Spec("Train", 2)});  // Nobody knows how long.
  step(Requested{.request = {2}, .spec = Spec("Big", 4)});
  RequestSpec small = *Spec("Small", 2);
  small.expected_duration = absl::Seconds(900);
  step(Requested{.request = {3}, .spec = small});
  ASSERT_EQ(actions.size(), 1u);
  absl::StatusOr<std::unique_ptr<Forecast>> made = Forecast::Make(scheduler.TakeSnapshot(), {});
  ASSERT_TRUE(made.ok()) << made.status();
  const std::vector<StartEstimate> estimates = (*made)->Run({RequestId{2}, RequestId{3}});
  EXPECT_EQ(estimates[0].when, When::kUnknown);
  EXPECT_EQ(estimates[0].unknown, 1);
  EXPECT_EQ(estimates[1].when, When::kKnown);  // Once Train is reckoned to last until 2,400 s.
  EXPECT_EQ(estimates[1].at, At(1200) + absl::Nanoseconds(1));
}

// The estimate is what comes to pass where the durations are right and nothing new comes.
class ForecastProperty : public ::testing::TestWithParam<uint64_t> {};

TEST_P(ForecastProperty, EstimateIsWhatComesToPass) {
  Chance chance(GetParam());
  Scheduler scheduler;
  std::vector<Action> actions;
  const auto step = [&](absl::Time at, decltype(Event::what) what) {
    scheduler.Step({.at = at, .what = std::move(what)}, actions);
  };
  for (uint64_t node = 1; node <= 3; ++node) {
    step(At(0), NodeJoined{.node = {node},
                           .name = absl::StrCat("n", node),
                           .total = {.cpus = (1 + chance.Below(4)) * Amount::kUnit}});
  }
  // Each class learns its duration from one lease that ran alone.
  std::vector<SpecHandle> specs;
  std::vector<absl::Duration> lasts;
  uint64_t next = 1;
  absl::Time now = At(0);
  for (int i = 0; i < 4; ++i) {
    specs.push_back(Spec(absl::StrCat("S", i), 1 + i % 2, chance.Below(2)));
    lasts.push_back(absl::Seconds(1 + chance.Below(50)));
    step(now, Requested{.request = {next}, .spec = specs.back()});
    now += lasts.back();
    step(now, LeaseFinished{.request = {next++}});
  }
  actions.clear();
  std::map<uint64_t, int> class_of;
  std::vector<RequestId> asked;
  for (int i = 0; i < 25; ++i) {
    const int of = chance.Below(4);
    class_of[next] = of;
    asked.push_back({next});
    step(now, Requested{.request = {next++}, .spec = specs[of]});
  }
  absl::StatusOr<std::unique_ptr<Forecast>> forecast = Forecast::Make(scheduler.TakeSnapshot());
  ASSERT_TRUE(forecast.ok()) << forecast.status();
  const std::vector<StartEstimate> estimates = (*forecast)->Run(asked);

  std::map<uint64_t, std::pair<absl::Time, Placement>> came;
  std::map<std::pair<absl::Time, uint64_t>, bool> endings;
  const auto take = [&] {
    for (const Action& action : std::exchange(actions, {})) {
      const Grant& grant = std::get<Grant>(action);
      came[grant.request.value] = {now, grant.placements[0]};
      endings[{now + lasts[class_of[grant.request.value]], grant.request.value}] = true;
    }
  };
  take();
  while (!endings.empty()) {
    const auto [at, id] = endings.begin()->first;
    endings.erase(endings.begin());
    now = at;
    step(now, LeaseFinished{.request = {id}});
    take();
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    if (!came.contains(asked[i].value)) {
      EXPECT_EQ(estimates[i].when, When::kInfeasible) << ToText(estimates[i], now);
      continue;
    }
    ASSERT_EQ(estimates[i].when, When::kKnown) << ToText(estimates[i], now);
    EXPECT_EQ(estimates[i].at, came[asked[i].value].first);
    EXPECT_EQ(estimates[i].placements[0].node, came[asked[i].value].second.node);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ForecastProperty, ::testing::Range<uint64_t>(1, 41));

}  // namespace
}  // namespace muster::sched
