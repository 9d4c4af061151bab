#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

namespace muster::sched {
namespace {

TEST(SchedulerTest, GrantsWhatFits) {
  Scheduler scheduler;
  std::vector<Action> actions;
  NodeResources total;
  total.cpus = 4 * Amount::kUnit;
  total.gpu_devices = 1;
  scheduler.Step(
      {.what = NodeJoined{.node = {1}, .name = "n1", .labels = {{"zone", "a"}}, .total = total}},
      actions);
  RequestSpec spec;
  spec.choices.resize(1);
  spec.choices[0].resources.gpus = Amount::kUnit;
  scheduler.Step({.what = Requested{.request = {1}, .spec = spec}}, actions);
  scheduler.CheckInvariants();
  scheduler.Step({.what = Requested{.request = {2}, .spec = spec}}, actions);
  scheduler.CheckInvariants();
  scheduler.Step({.what = LeaseFinished{.request = {1}}}, actions);
  scheduler.CheckInvariants();
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(ToString(actions[0]), "grant request=1 node=1 choice=0 gpus=[0]");
  EXPECT_EQ(ToString(actions[1]), "grant request=2 node=1 choice=0 gpus=[0]");
}

}  // namespace
}  // namespace muster::sched
