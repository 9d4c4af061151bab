#include "runtime/executor/leaving_calls.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace muster::executor {
namespace {

TaskInfo Told(std::string because) {
  TaskInfo told;
  told.leaving_because = std::move(because);
  return told;
}

void WaitFor(const std::atomic<int>& count, int value) {
  for (int i = 0; i < 10'000 && count < value; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_EQ(count, value);
}

TEST(LeavingCallsTest, AllAreCalledInOrderAndThenItLeaves) {
  std::promise<void> left;
  LeavingCalls calls([&] { left.set_value(); });
  std::vector<std::string> heard;
  calls.Add([&](const TaskInfo& told) {
    heard.push_back("first " + told.leaving_because);
    return true;
  });
  calls.Add([&](const TaskInfo& told) {
    heard.push_back("second " + told.leaving_because);
    return true;
  });
  calls.Tell(Told("draining"));
  left.get_future().wait();
  EXPECT_EQ(heard, (std::vector<std::string>{"first draining", "second draining"}));
}

TEST(LeavingCallsTest, OneThatHasNotSavedKeepsIt) {
  std::atomic<int> called{0};
  std::atomic<int> left{0};
  {
    LeavingCalls calls([&] { ++left; });
    const uint64_t first = calls.Add([&](const TaskInfo&) { return ++called, true; });
    const uint64_t second = calls.Add([&](const TaskInfo&) { return ++called, false; });
    calls.Tell(Told("draining"));
    WaitFor(called, 2);
    calls.Tell(Told("draining, sooner"));  // Of the same telling: nobody is called again.
    calls.Remove(first);
    calls.Remove(second);
  }
  EXPECT_EQ(called, 2);
  EXPECT_EQ(left, 0);
}

TEST(LeavingCallsTest, WhoComesLateIsCalledAtOnce) {
  std::promise<void> left;
  LeavingCalls calls([&] { left.set_value(); });
  calls.Tell(Told("preempted"));
  std::atomic<int> called{0};
  calls.Add([&](const TaskInfo& told) {
    EXPECT_EQ(told.leaving_because, "preempted");
    return ++called, true;
  });
  left.get_future().wait();
  EXPECT_EQ(called, 1);
}

TEST(LeavingCallsTest, WithdrawnBeforeItHasSavedItStaysAndIsCalledAgain) {
  std::atomic<int> left{0};
  std::atomic<int> called{0};
  std::promise<void> go_on;
  std::shared_future<void> may_go_on = go_on.get_future().share();
  LeavingCalls calls([&] { ++left; });
  calls.Add([&](const TaskInfo&) {
    ++called;
    may_go_on.wait();
    return true;
  });
  calls.Tell(Told("draining"));
  WaitFor(called, 1);
  calls.Withdraw();
  go_on.set_value();
  while (left == 0) {  // Told anew: the call before does not count for it.
    calls.Withdraw();
    calls.Tell(Told("preempted"));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(called, 2);
}

TEST(LeavingCallsTest, RemovalWaitsForItsCall) {
  LeavingCalls calls([] {});
  std::promise<void> called;
  std::promise<void> go_on;
  std::atomic<bool> done{false};
  const uint64_t number = calls.Add([&](const TaskInfo&) {
    called.set_value();
    go_on.get_future().wait();
    done = true;
    return false;
  });
  calls.Tell(Told("draining"));
  called.get_future().wait();
  bool was_done = false;
  std::thread remover([&] {
    calls.Remove(number);
    was_done = done;
  });
  go_on.set_value();
  remover.join();
  EXPECT_TRUE(was_done);
}

TEST(LeavingCallsTest, RemovalWaitsForWhatFollowsFromTheLastCall) {
  std::promise<void> leaving;
  std::promise<void> go_on;
  std::atomic<bool> left{false};
  LeavingCalls calls([&] {
    leaving.set_value();
    go_on.get_future().wait();
    left = true;
  });
  const uint64_t number = calls.Add([](const TaskInfo&) { return true; });
  calls.Tell(Told("draining"));
  leaving.get_future().wait();
  bool had_left = false;
  std::thread remover([&] {
    calls.Remove(number);
    had_left = left;
  });
  go_on.set_value();
  remover.join();
  EXPECT_TRUE(had_left);
}

}  // namespace
}  // namespace muster::executor
