#include "scheduler/leaving.h"

#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace muster::sched {
namespace {

absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

Notice NoticeTo(uint64_t request, std::optional<absl::Time> deadline, LeavingReason reason) {
  return {.request = RequestId{request}, .reason = reason, .deadline = deadline, .why = "why"};
}

std::vector<std::string> Said(const std::vector<Action>& actions) {
  std::vector<std::string> lines;
  for (const Action& action : actions) lines.push_back(ToString(action));
  return lines;
}

TEST(LeavingTest, RevokesOnceWhenTheDeadlineIsOver) {
  Leaving leaving;
  std::vector<Action> actions;
  EXPECT_TRUE(leaving.Tell(NoticeTo(1, At(10), LeavingReason::kPreempted), actions));
  EXPECT_EQ(leaving.NextDue(), At(10));
  actions.clear();
  leaving.RevokeDue(At(9), actions);
  EXPECT_TRUE(actions.empty());
  leaving.RevokeDue(At(10), actions);
  EXPECT_EQ(Said(actions),
            (std::vector<std::string>{"revoke request=1 bundle=0 reason=preempted why=\"why\""}));
  leaving.RevokeDue(At(11), actions);
  EXPECT_EQ(actions.size(), 1u);
  EXPECT_EQ(leaving.NextDue(), absl::InfiniteFuture());
  leaving.CheckInvariants();
}

TEST(LeavingTest, RevokesInOrderOfDeadlineThenRequest) {
  Leaving leaving;
  std::vector<Action> actions;
  leaving.Tell(NoticeTo(3, At(5), LeavingReason::kRecalled), actions);
  leaving.Tell(NoticeTo(2, At(6), LeavingReason::kRecalled), actions);
  leaving.Tell(NoticeTo(1, At(6), LeavingReason::kRecalled), actions);
  actions.clear();
  leaving.RevokeDue(At(6), actions);
  ASSERT_EQ(actions.size(), 3u);
  EXPECT_EQ(std::get<Revoke>(actions[0]).request, RequestId{3});
  EXPECT_EQ(std::get<Revoke>(actions[1]).request, RequestId{1});
  EXPECT_EQ(std::get<Revoke>(actions[2]).request, RequestId{2});
}

TEST(LeavingTest, OnlyAnEarlierDeadlineIsSaidAgain) {
  Leaving leaving;
  std::vector<Action> actions;
  EXPECT_TRUE(leaving.Tell(NoticeTo(1, std::nullopt, LeavingReason::kDraining), actions));
  EXPECT_FALSE(leaving.Tell(NoticeTo(1, std::nullopt, LeavingReason::kRecalled), actions));
  EXPECT_TRUE(leaving.Tell(NoticeTo(1, At(20), LeavingReason::kPreempted), actions));
  EXPECT_FALSE(leaving.Tell(NoticeTo(1, At(20), LeavingReason::kDraining), actions));
  EXPECT_TRUE(leaving.Tell(NoticeTo(1, At(10), LeavingReason::kDraining), actions));
  leaving.CheckInvariants();
  leaving.RevokeDue(At(10), actions);
  EXPECT_FALSE(leaving.Tell(NoticeTo(1, At(5), LeavingReason::kDraining), actions));
  leaving.RevokeDue(At(30), actions);
  EXPECT_EQ(actions.size(), 4u);  // Three notices, one revoke.
}

TEST(LeavingTest, ForgetsWhatHasEnded) {
  Leaving leaving;
  std::vector<Action> actions;
  leaving.Forget({RequestId{1}, 0});
  leaving.Tell(NoticeTo(1, At(10), LeavingReason::kUnhealthy), actions);
  leaving.Forget({RequestId{1}, 0});
  EXPECT_EQ(leaving.Find({RequestId{1}, 0}), nullptr);
  actions.clear();
  leaving.RevokeDue(At(10), actions);
  EXPECT_TRUE(actions.empty());
  leaving.CheckInvariants();
}

}  // namespace
}  // namespace muster::sched
