#include "runtime/base/reactor.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/base/clock.h"

namespace muster {
namespace {

constexpr absl::Duration kLong = absl::Seconds(20);  // A test that waits this long has failed.

class Pair {
 public:
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds_.data()), 0); }
  ~Pair() {
    close(fds_[0]);
    close(fds_[1]);
  }
  int near() const { return fds_[0]; }
  void Ring() { ASSERT_EQ(write(fds_[1], "x", 1), 1); }
  void Drain() {
    char byte = 0;
    while (read(fds_[0], &byte, 1) == 1) {
    }
  }

 private:
  std::array<int, 2> fds_;
};

bool Never() { return false; }

TEST(ReactorTest, DescriptorCallbackRunsOnTheWaitingThread) {
  Reactor reactor({});
  Pair pair;
  std::thread::id ran_on;
  reactor.Add(pair.near(), EPOLLIN, [&](uint32_t events) {
    EXPECT_TRUE(events & EPOLLIN);
    ran_on = std::this_thread::get_id();
    pair.Drain();
  });
  pair.Ring();
  EXPECT_TRUE(
      reactor.RunUntil([&] { return ran_on != std::thread::id(); }, MonotonicNow() + kLong));
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  reactor.Remove(pair.near());
}

TEST(ReactorTest, DeadlineEndsTheWait) {
  Reactor reactor({});
  const absl::Time start = MonotonicNow();
  EXPECT_FALSE(reactor.RunUntil(Never, start + absl::Milliseconds(3)));
  EXPECT_GE(MonotonicNow(), start + absl::Milliseconds(3));
  EXPECT_FALSE(reactor.RunUntil(Never, absl::InfinitePast()));
}

TEST(ReactorTest, WhatIsReadyIsHandledAfterTheDeadlineToo) {
  Reactor reactor({});
  Pair pair;
  bool served = false;
  reactor.Add(pair.near(), EPOLLIN, [&](uint32_t) { served = true; });
  pair.Ring();
  EXPECT_TRUE(reactor.RunUntil([&] { return served; }, absl::InfinitePast()));
  reactor.Remove(pair.near());
}

TEST(ReactorTest, TimersRunInOrderAndNotEarly) {
  Reactor reactor({});
  std::vector<int> order;
  const absl::Time start = MonotonicNow();
  reactor.At(start + absl::Milliseconds(4), [&] { order.push_back(2); });
  const uint64_t cancelled = reactor.At(start + absl::Milliseconds(2), [&] { order.push_back(9); });
  reactor.At(start + absl::Milliseconds(1), [&] {
    EXPECT_GE(MonotonicNow(), start + absl::Milliseconds(1));
    order.push_back(1);
    reactor.At(absl::InfinitePast(), [&] { order.push_back(11); });
  });
  reactor.CancelTimer(cancelled);
  EXPECT_TRUE(reactor.RunUntil([&] { return order.size() == 3; }, MonotonicNow() + kLong));
  // On a busy machine both times may be over at once: then what the first timer adds comes last.
  EXPECT_TRUE(order == (std::vector<int>{1, 11, 2}) || order == (std::vector<int>{1, 2, 11}));
  reactor.CancelTimer(cancelled);
}

TEST(ReactorTest, EarlierTimerFromAnotherThreadShortensTheSleep) {
  Reactor reactor({});
  std::atomic<bool> ran{false};
  std::thread other([&] { reactor.At(MonotonicNow(), [&] { ran = true; }); });
  EXPECT_TRUE(reactor.RunUntil([&] { return ran.load(); }, MonotonicNow() + kLong));
  other.join();
}

TEST(ReactorTest, CallbackMayRemoveItselfAndItsNeighbour) {
  Reactor reactor({});
  Pair a;
  Pair b;
  int calls = 0;
  const auto on_ready = [&](uint32_t) {
    ++calls;
    reactor.Remove(a.near());
    reactor.Remove(b.near());
  };
  reactor.Add(a.near(), EPOLLIN, on_ready);
  reactor.Add(b.near(), EPOLLIN, on_ready);
  a.Ring();
  b.Ring();
  EXPECT_FALSE(reactor.RunUntil(Never, MonotonicNow() + absl::Milliseconds(5)));
  EXPECT_EQ(calls, 1);
}

TEST(ReactorTest, WakeMakesAWaitingThreadLookAgain) {
  Reactor reactor({});
  std::atomic<bool> flag{false};
  std::thread other([&] {
    flag = true;
    reactor.Wake();
  });
  EXPECT_TRUE(reactor.RunUntil([&] { return flag.load(); }, absl::InfiniteFuture()));
  other.join();
}

TEST(ReactorTest, BackgroundThreadServesWhenNobodyWaits) {
  Reactor reactor({.background_thread = true});
  Pair pair;
  std::atomic<int> calls{0};
  reactor.Add(pair.near(), EPOLLIN, [&](uint32_t) {
    pair.Drain();
    ++calls;
    calls.notify_all();
  });
  pair.Ring();
  calls.wait(0);
  // And again after a waiting thread has had the role.
  EXPECT_FALSE(reactor.RunUntil(Never, MonotonicNow() + absl::Milliseconds(1)));
  pair.Ring();
  calls.wait(1);
  EXPECT_EQ(calls, 2);
  // And after it has held it for long, when the background thread no longer looks.
  EXPECT_FALSE(reactor.RunUntil(Never, MonotonicNow() + absl::Milliseconds(30)));
  pair.Ring();
  calls.wait(2);
  std::atomic<bool> timer{false};
  reactor.At(MonotonicNow() + absl::Milliseconds(1), [&] {
    timer = true;
    timer.notify_all();
  });
  timer.wait(false);
  reactor.Remove(pair.near());
}

TEST(ReactorTest, WaitingThreadTakesTheRoleFromTheBackground) {
  Reactor reactor({.background_thread = true});
  Pair pair;
  std::atomic<bool> served{false};
  std::thread::id ran_on;
  reactor.Add(pair.near(), EPOLLIN, [&](uint32_t) {
    pair.Drain();
    ran_on = std::this_thread::get_id();
    served = true;
    served.notify_all();
  });
  pair.Ring();
  served.wait(false);
  EXPECT_NE(ran_on, std::this_thread::get_id());
  served = false;
  // From within the wait: whoever has the role now serves it.
  reactor.At(MonotonicNow() + absl::Milliseconds(2), [&] { pair.Ring(); });
  EXPECT_TRUE(reactor.RunUntil([&] { return served.load(); }, MonotonicNow() + kLong));
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  reactor.Remove(pair.near());
}

TEST(ReactorTest, ManyWaitingThreadsAreAllServed) {
  constexpr int kThreads = 6;
  constexpr int kRounds = 300;
  for (const bool spin : {false, true}) {
    Reactor reactor({.background_thread = true, .spin = absl::Microseconds(20)});
    std::vector<Pair> pairs(kThreads);
    std::vector<std::atomic<int>> served(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      reactor.Add(pairs[i].near(), EPOLLIN, [&, i](uint32_t) {
        pairs[i].Drain();
        ++served[i];
      });
    }
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        for (int round = 1; round <= kRounds; ++round) {
          pairs[i].Ring();
          ASSERT_TRUE(
              reactor.RunUntil([&] { return served[i] >= round; }, MonotonicNow() + kLong, spin));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (Pair& pair : pairs) reactor.Remove(pair.near());
  }
}

// Two threads come and go while the background thread is around.
TEST(ReactorTest, RoleChangesHandsOften) {
  Reactor reactor({.background_thread = true});
  std::atomic<int> timers{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        bool mine = false;
        std::atomic<bool> ran{false};
        reactor.At(MonotonicNow() + absl::Microseconds(100), [&] {
          ++timers;
          ran = true;
        });
        mine = reactor.RunUntil([&] { return ran.load(); }, MonotonicNow() + kLong);
        ASSERT_TRUE(mine);
        if (round % 20 == 0) reactor.RunUntil(Never, MonotonicNow() + absl::Milliseconds(6));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(timers, 400);
}

TEST(ReactorTest, IdleBackgroundThreadDoesNotWakeUp) {
  Reactor reactor({.background_thread = true});
  EXPECT_FALSE(reactor.RunUntil(Never, MonotonicNow() + absl::Milliseconds(1)));
  rusage before = {};
  rusage after = {};
  // Once it has the role it sleeps; this thread waits elsewhere.
  Pair pair;
  std::atomic<int> calls{0};
  reactor.Add(pair.near(), EPOLLIN, [&](uint32_t) {
    pair.Drain();
    ++calls;
    calls.notify_all();
  });
  pair.Ring();
  calls.wait(0);
  getrusage(RUSAGE_SELF, &before);
  Reactor elsewhere({});
  elsewhere.RunUntil(Never, MonotonicNow() + absl::Milliseconds(200));
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_nvcsw - before.ru_nvcsw, 10);
  reactor.Remove(pair.near());
}

}  // namespace
}  // namespace muster
