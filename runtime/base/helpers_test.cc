#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <set>
#include <string>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/clock.h"
#include "runtime/base/host_id.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"
#include "runtime/base/reactor.h"
#include "runtime/base/shutdown_signals.h"

namespace muster {
namespace {

TEST(LogTest, WritesOneLineWithTimeLevelAndComponent) {
  testing::internal::CaptureStderr();
  SetUpLog("head", LogLevel::kInfo);
  Log(LogLevel::kInfo, "node ", "6f1c2a", " joined");
  Log(LogLevel::kDebug, "not shown");
  Log(LogLevel::kWarning, "braces {} are text");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text,
              testing::MatchesRegex(
                  "[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+\\.[0-9][0-9][0-9]Z INFO head: node "
                  "6f1c2a joined\n"
                  "[^ ]+ WARNING head: braces \\{\\} are text\n"));
}

TEST(LogTest, LevelComesFromTheEnvironment) {
  setenv("MUSTER_LOG", "error", 1);
  SetUpLog("head", LogLevel::kInfo);
  EXPECT_FALSE(LogEnabled(LogLevel::kWarning));
  EXPECT_TRUE(LogEnabled(LogLevel::kError));
  setenv("MUSTER_LOG", "off", 1);
  SetUpLog("head", LogLevel::kInfo);
  EXPECT_FALSE(LogEnabled(LogLevel::kError));
  unsetenv("MUSTER_LOG");
}

TEST(RandomTest, IdsDifferAndAreNotZero) {
  std::set<uint64_t> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(RandomId());
  EXPECT_EQ(ids.size(), 1000u);
  EXPECT_EQ(ids.count(0), 0u);
  EXPECT_EQ(Hex(uint64_t{0xabc}), "0000000000000abc");
  EXPECT_EQ(Hex(absl::string_view("\x01\xff", 2)), "01ff");
  EXPECT_EQ(RandomHex(16).size(), 32u);
}

TEST(HostIdTest, IsTheSameInAChild) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    const std::string id = HostId();
    if (write(ends[1], id.data(), id.size()) < 0) _exit(1);
    _exit(0);
  }
  char text[512];
  const ssize_t got = read(ends[0], text, sizeof(text));
  ASSERT_GT(got, 0);
  EXPECT_EQ(std::string(text, static_cast<size_t>(got)), HostId());
  close(ends[0]);
  close(ends[1]);
}

TEST(ClockTest, StaysNearTheWallClockAndNeverRunsBackwards) {
  EXPECT_LT(absl::AbsDuration(MonotonicNow() - absl::Now()), absl::Seconds(5));
  absl::Time last = MonotonicNow();
  for (int i = 0; i < 10000; ++i) {
    const absl::Time now = MonotonicNow();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(ShutdownSignalsTest, SignalArrivesOnTheReactor) {
  Reactor reactor({});
  int got = 0;
  {
    ShutdownSignals signals(reactor, [&](int signal) { got = signal; });
    ASSERT_EQ(kill(getpid(), SIGTERM), 0);
    EXPECT_TRUE(reactor.RunUntil([&] { return got != 0; }, MonotonicNow() + absl::Seconds(10)));
  }
  EXPECT_EQ(got, SIGTERM);
}

}  // namespace
}  // namespace muster
