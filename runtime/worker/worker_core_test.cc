#include "runtime/worker/worker_core.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace muster::worker {
namespace {

// A worker with two GPUs, and what it has told the head of them.
class WorkerCoreTest : public ::testing::Test {
 protected:
  WorkerCoreTest() : core_(Config()) {}

  static WorkerConfig Config() {
    WorkerConfig config;
    config.worker = 7;
    config.start = absl::UnixEpoch() + absl::Hours(1);
    for (int i = 0; i < 2; ++i) config.hello.mutable_resources()->add_gpus();
    return config;
  }
  template <typename What>
  void Do(What what) {
    Event event;
    event.at = absl::UnixEpoch() + absl::Hours(1);
    event.what = std::move(what);
    std::vector<Action> actions;
    core_.Step(event, actions);
    core_.CheckInvariants();
    for (const Action& action : actions) {
      const auto* const to = std::get_if<ToHead>(&action);
      if (to == nullptr || !to->message.has_health()) continue;
      const v1::GpuHealth& health = to->message.health();
      absl::StrAppend(&said_, health.gpu(), health.healthy() ? " healthy " : " ", health.reason(),
                      "; ");
    }
  }
  void Welcome(uint64_t head) {
    Do(HeadUp{});
    v1::ToWorker message;
    message.mutable_welcome()->set_head(head);
    message.mutable_welcome()->set_node_name("n1");
    Do(FromHead{message});
  }
  void TakeIn(uint32_t gpu) {
    v1::ToWorker message;
    message.mutable_condition()->add_unhealthy()->set_gpu(gpu);
    Do(FromHead{message});
  }
  std::string Said() { return std::exchange(said_, ""); }

  WorkerCore core_;
  std::string said_;
};

TEST_F(WorkerCoreTest, BrokenGpuIsToldToTheHead) {
  Welcome(1);
  Do(GpuFailed{.gpu = 1, .reason = "xid 79"});
  EXPECT_EQ(Said(), "1 xid 79; ");
}

TEST_F(WorkerCoreTest, WhatFailedWhileTheHeadWasAwayIsToldOnceItIsThere) {
  Do(GpuFailed{.gpu = 0, .reason = "GPU is lost"});
  EXPECT_EQ(Said(), "");
  Welcome(1);
  EXPECT_EQ(Said(), "0 GPU is lost; ");
}

TEST_F(WorkerCoreTest, ItIsToldAgainUntilTheHeadHasTakenItIn) {
  Welcome(1);
  Do(GpuFailed{.gpu = 1, .reason = "xid 79"});
  Said();
  Do(HeadDown{});
  Welcome(1);
  EXPECT_EQ(Said(), "1 xid 79; ");
  TakeIn(0);  // Another's.
  Do(HeadDown{});
  Welcome(1);
  EXPECT_EQ(Said(), "1 xid 79; ");
  TakeIn(1);
  Do(HeadDown{});
  Welcome(1);
  EXPECT_EQ(Said(), "");  // An operator may have taken it back since.
}

}  // namespace
}  // namespace muster::worker
