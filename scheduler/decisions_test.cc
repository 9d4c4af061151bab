#include "scheduler/decisions.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/placement_policy.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

Decision& AddOf(Decisions& decisions, uint64_t request) {
  Decision& decision = decisions.Add();
  decision.request = RequestId{request};
  return decision;
}

TEST(DecisionsTest, TheOldestIsForgottenFirst) {
  Decisions decisions(3, DecisionDetail::kOff);
  for (uint64_t request = 1; request <= 5; ++request) AddOf(decisions, request);
  EXPECT_EQ(decisions.Find(0), nullptr);
  EXPECT_EQ(decisions.Find(2), nullptr);
  EXPECT_EQ(decisions.Find(6), nullptr);
  for (uint64_t number = 3; number <= 5; ++number) {
    ASSERT_NE(decisions.Find(number), nullptr);
    EXPECT_EQ(decisions.Find(number)->request, RequestId{number});
  }
  ASSERT_EQ(decisions.Newest(2).size(), 2u);
  EXPECT_EQ(decisions.Newest(2)[0]->number, 5u);
  EXPECT_EQ(decisions.Newest(100).size(), 3u);
  EXPECT_EQ(decisions.Latest(RequestId{1}), nullptr);
  EXPECT_EQ(decisions.Latest(RequestId{4})->number, 4u);
}

TEST(DecisionsTest, NothingIsKeptWhereNothingIsAskedFor) {
  Scheduler scheduler({.decisions_kept = 0, .decision_detail = DecisionDetail::kAll});
  std::vector<Action> actions;
  scheduler.Step({.what = NodeJoined{.node = NodeId{1}, .total = {.cpus = Amount::kUnit}}},
                 actions);
  RequestSpec spec;
  spec.choices.push_back({.resources = {.cpus = Amount::kUnit}});
  scheduler.Step({.what = Requested{.request = RequestId{1}, .spec = spec}}, actions);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_TRUE(scheduler.NewestDecisions(10).empty());
  EXPECT_FALSE(scheduler.FindDecision(1).has_value());
  EXPECT_FALSE(scheduler.LatestDecision(RequestId{1}).has_value());
}

TEST(DecisionsTest, GrantComesBeforeWhatFollowed) {
  Decisions decisions(8, DecisionDetail::kOff);
  AddOf(decisions, 1).kind = DecisionKind::kGranted;
  AddOf(decisions, 1).kind = DecisionKind::kNotice;
  AddOf(decisions, 2).kind = DecisionKind::kInfeasible;
  EXPECT_EQ(decisions.Latest(RequestId{1})->kind, DecisionKind::kGranted);
  EXPECT_EQ(decisions.Latest(RequestId{2})->kind, DecisionKind::kInfeasible);
}

TEST(DecisionsTest, SampledSurveysCostABoundedNumberOfNodes) {
  for (const int64_t nodes : {1, 16, 17, 1000, 100'000}) {
    Decisions decisions(8, DecisionDetail::kSampled);
    int64_t looked_at = 0;
    constexpr int kDecisions = 20'000;
    for (int i = 0; i < kDecisions; ++i) {
      if (decisions.WantsSurvey(nodes)) looked_at += nodes;
    }
    EXPECT_LE(looked_at, int64_t{kDecisions} * Decisions::kNodesPerDecision) << nodes;
    EXPECT_GT(looked_at, 0) << nodes;
    if (nodes <= Decisions::kNodesPerDecision) {
      EXPECT_EQ(looked_at, nodes * kDecisions);
    }
  }
}

TEST(DecisionsTest, SurveysAreFoundUntilOverwritten) {
  Decisions decisions(10'000, DecisionDetail::kAll);
  for (int i = 0; i <= Decisions::kSurveysKept; ++i) {
    ASSERT_TRUE(decisions.WantsSurvey(1'000'000));
    decisions.AddSurvey();
    decisions.Add();
  }
  EXPECT_EQ(decisions.SurveyOf(1), nullptr);
  ASSERT_NE(decisions.SurveyOf(2), nullptr);
  EXPECT_EQ(decisions.SurveyOf(2)->decision, 2u);
  decisions.AddSurvey();
  decisions.DropSurvey();
  decisions.Add();
  EXPECT_EQ(decisions.SurveyOf(Decisions::kSurveysKept + 2), nullptr);
}

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(DecisionsTest, LosersOfBestFitSayByWhat) {
  const auto scored = [](ScoreParts parts) {
    const FreeKey key = FreeKey::Of(parts[0] != 0, parts[2],
                                    static_cast<int>(parts[3] / Amount::kUnit), parts[4], parts[5]);
    return ScoredNode{.rank = {.second = parts[1], .third = key.bits()}, .parts = parts};
  };
  const ScoredNode winner = scored({0, 0, 20000, 10000, 10000, kGiB});
  const auto lost_by = [&](ScoreParts parts) {
    return LostBy(PlacementPolicy::kBestFit, winner, scored(parts));
  };
  EXPECT_EQ(lost_by(winner.parts), "as good, but it joined later");
  EXPECT_EQ(lost_by({0, 0, 20000, 10000, 10000, kGiB + 1}), "as good, but it joined later");
  EXPECT_EQ(lost_by({1, 0, 0, 0, 0, 0}), "it has GPUs, and the work needs none");
  EXPECT_EQ(lost_by({0, 5000, 0, 0, 0, 0}), "0.5 more of the shared GPU would stay free there");
  EXPECT_EQ(lost_by({0, 0, 30000, 0, 0, 0}), "1 more GPU would stay free there");
  EXPECT_EQ(lost_by({0, 0, 20000, 20000, 0, 0}), "1 more GPU would stay whole there");
  EXPECT_EQ(lost_by({0, 0, 20000, 10000, 30000, 0}), "2 more CPUs would stay free there");
  EXPECT_EQ(lost_by({0, 0, 20000, 10000, 10000, 4 * kGiB}),
            "3 GiB more memory would stay free there");
}

TEST(DecisionsTest, LosersOfSpreadSayByWhat) {
  const ScoreParts best = {0, 0, 40000, 40000, 80000, 8 * kGiB, 0};
  const auto lost_by = [&](ScoreParts parts) {
    return LostBy(PlacementPolicy::kSpread, {.parts = best},
                  {.rank = {.first = 1}, .parts = parts});
  };
  EXPECT_EQ(lost_by({1, 0, 40000, 40000, 80000, 8 * kGiB, 0}),
            "it has GPUs, and the work needs none");
  EXPECT_EQ(lost_by({0, 0, 40000, 40000, 80000, 8 * kGiB, 15000}),
            "1.5 more GPUs are in use there");
  EXPECT_EQ(lost_by({0, 0, 20000, 40000, 80000, 8 * kGiB, 0}), "2 fewer GPUs are free there");
  EXPECT_EQ(lost_by({0, 0, 40000, 30000, 80000, 8 * kGiB, 0}), "1 fewer GPUs are whole there");
  EXPECT_EQ(lost_by({0, 0, 40000, 40000, 40000, 8 * kGiB, 0}), "4 fewer CPUs are free there");
  EXPECT_EQ(lost_by({0, 0, 40000, 40000, 80000, 3 * kGiB, 0}), "5 GiB less memory is free there");
  EXPECT_EQ(lost_by(best), "more of the GPU that the share would go to is in use there");
}

TEST(DecisionsTest, LosersOfPackSayByWhat) {
  const auto with = [](int64_t score, int64_t pressure, int64_t cost) {
    return ScoredNode{.rank = {.first = cost}, .parts = {0, 0, 0, 0, 0, 0, 0, score, pressure}};
  };
  EXPECT_EQ(LostBy(PlacementPolicy::kPack, with(60, 900, 0), with(52, 900, 1)),
            "it would spoil more of what is free there for typical work (score 52, not 60)");
  EXPECT_EQ(LostBy(PlacementPolicy::kPack, with(60, 900, 0), with(60, 2400, 1)),
            "its kind of GPU is scarcer (pressure 2.40, not 0.90)");
}

TEST(DecisionsTest, ABetterLoserLostToAStrategy) {
  EXPECT_EQ(LostBy(PlacementPolicy::kPack, {.rank = {.first = 2}}, {.rank = {.first = 1}}),
            "it is as good or better to pack, but a strategy, an affinity, a plan or an avoided "
            "node decided");
}

TEST(DecisionsTest, DetailHasThreeWords) {
  for (const char* word : {"off", "sampled", "all"}) {
    ASSERT_TRUE(ParseDecisionDetail(word).ok());
    EXPECT_EQ(ToString(*ParseDecisionDetail(word)), word);
  }
  EXPECT_FALSE(ParseDecisionDetail("some").ok());
}

}  // namespace
}  // namespace muster::sched
