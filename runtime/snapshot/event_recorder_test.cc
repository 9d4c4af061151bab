#include "runtime/snapshot/event_recorder.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/snapshot/recording.h"
#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/replay.h"
#include "scheduler/scheduler.h"

namespace muster::snapshot {
namespace {

using ::testing::HasSubstr;

class EventRecorderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/recorder-XXXXXX");
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/events.jsonl";
  }
  void TearDown() override {
    for (const char* name : {"/events.jsonl", "/events.jsonl.1"}) unlink((folder_ + name).c_str());
    rmdir(folder_.c_str());
  }

  // Records and steps, as the head does.
  void Step(EventRecorder& recorder, int at, decltype(sched::Event::what) what) {
    const sched::Event event{.at = absl::UnixEpoch() + absl::Seconds(at), .what = std::move(what)};
    recorder.Record(event);
    scheduler_.Step(event, actions_);
  }
  std::function<sched::Snapshot()> Take() {
    return [this] { return scheduler_.TakeSnapshot(); };
  }
  static sched::SpecHandle Spec() {
    sched::RequestSpec spec{.name = "Score"};
    spec.choices.push_back({.resources = {.cpus = sched::Amount::kUnit}});
    return spec;
  }

  std::string folder_;
  std::string path_;
  sched::Scheduler scheduler_;
  std::vector<sched::Action> actions_;
};

TEST_F(EventRecorderTest, WhatIsRecordedIsReadBack) {
  {
    auto recorder = EventRecorder::Start({.path = path_}, Take());
    ASSERT_TRUE(recorder.ok()) << recorder.status();
    Step(**recorder, 1, sched::NodeJoined{.node = {1}, .name = "a", .total = {.cpus = 10'000}});
    Step(**recorder, 2, sched::Requested{.request = {1}, .spec = Spec()});
    Step(**recorder, 9, sched::LeaseFinished{.request = {1}});
    EXPECT_TRUE((*recorder)->status().ok());
  }
  const absl::StatusOr<sched::Recording> recording = ReadRecording(path_);
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ(recording->events.size(), 3u);
  EXPECT_EQ(sched::ReplayAsRecorded(*recording)->granted, 1);
}

TEST_F(EventRecorderTest, FilesAreBoundedAndEachStandsAlone) {
  constexpr int kEvents = 4000;
  {
    auto recorder = EventRecorder::Start({.path = path_, .bytes_max = 40'000}, Take());
    ASSERT_TRUE(recorder.ok()) << recorder.status();
    Step(**recorder, 0, sched::NodeJoined{.node = {1}, .name = "a", .total = {.cpus = 10'000}});
    const sched::SpecHandle spec = Spec();
    for (int i = 1; i <= kEvents; ++i) {
      const RequestId id{static_cast<uint64_t>(i)};
      Step(**recorder, 2 * i, sched::Requested{.request = id, .spec = spec});
      Step(**recorder, 2 * i + 1, sched::LeaseFinished{.request = id});
      if (i % 50 == 0) usleep(1000);  // The writer keeps up; nothing depends on how well.
    }
    EXPECT_TRUE((*recorder)->status().ok());
  }
  const absl::StatusOr<sched::Recording> last = ReadRecording(path_);
  const absl::StatusOr<sched::Recording> before = ReadRecording(path_ + ".1");
  ASSERT_TRUE(last.ok()) << last.status();
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_LT(last->events.size() + before->events.size(), size_t{2 * kEvents});
  for (const sched::Recording* recording : {&*before, &*last}) {
    EXPECT_EQ(recording->start.nodes.size(), 1u);
    const absl::StatusOr<sched::ReplayResult> played =
        ReplayUnder(*recording, recording->start.config);
    ASSERT_TRUE(played.ok()) << played.status();
    EXPECT_EQ(played->granted, played->requests);
  }
  // The one goes on where the other ended.
  EXPECT_EQ(last->start.now, before->events.back().at);
}

TEST_F(EventRecorderTest, FullDiskEndsTheRecordingAndNothingElse) {
  auto recorder = EventRecorder::Start({.path = "/dev/full"}, Take());
  ASSERT_FALSE(recorder.ok());  // Not even the first line fits.
  EXPECT_THAT(std::string(recorder.status().message()), HasSubstr("/dev/full: No space left"));
}

// The file cannot grow any more while it is written: the head goes on.
TEST_F(EventRecorderTest, FullDiskLaterEndsTheRecordingAndNothingElse) {
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  auto recorder = EventRecorder::Start({.path = path_}, Take());
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  struct rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  absl::Status status;
  for (int i = 1; i < 1'000'000 && status.ok(); ++i) {
    Step(**recorder, i, sched::Tick{});
    status = (*recorder)->status();
  }
  recorder->reset();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(std::string(status.message()), HasSubstr("File too large"));
  const absl::StatusOr<sched::Recording> recording = ReadRecording(path_);
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_GT(recording->events.size(), 10u);
}

TEST_F(EventRecorderTest, WhatCannotBeQueuedEndsTheRecording) {
  auto recorder = EventRecorder::Start({.path = path_, .queue_max = 0}, Take());
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  Step(**recorder, 1, sched::Tick{});
  EXPECT_THAT(std::string((*recorder)->status().message()), HasSubstr("faster than"));
  Step(**recorder, 2, sched::Tick{});  // Goes on, unrecorded.
  recorder->reset();
  EXPECT_TRUE(ReadRecording(path_)->events.empty());
}

TEST_F(EventRecorderTest, ErrorsNameThePath) {
  const auto recorder = EventRecorder::Start({.path = "/nowhere/events"}, Take());
  EXPECT_EQ(recorder.status().message(), "cannot write /nowhere/events: No such file or directory");
  EXPECT_THAT(std::string(ReadRecording("/nowhere/events").status().message()),
              HasSubstr("cannot read /nowhere/events"));
}

TEST(RecordingTest, LinesAreNamed) {
  const std::string start = "{\"muster_snapshot\":1}\n";
  const auto message = [](const absl::StatusOr<sched::Recording>& recording) {
    return std::string(recording.status().message());
  };
  EXPECT_EQ(ParseRecording(start + "{\"at\":\"1s\",\"tick\":{}}\n\n")->events.size(), 1u);
  EXPECT_THAT(message(ParseRecording("")), "it is empty");
  EXPECT_THAT(message(ParseRecording("{}\n")), HasSubstr("line 1: no muster snapshot"));
  EXPECT_THAT(message(ParseRecording(start + "{\"at\":\"1s\"}\n")), HasSubstr("line 2: "));
  EXPECT_THAT(
      message(ParseRecording(start + "{\"at\":\"2s\",\"tick\":{}}\n{\"at\":\"1s\",\"tick\":{}}\n")),
      "line 3: at: is before that of the line above it");
  // Cut off in the middle, as by kill -9: the rest counts.
  EXPECT_EQ(
      ParseRecording(start + "{\"at\":\"1s\",\"tick\":{}}\n{\"at\":\"2s\",\"ti")->events.size(),
      1u);
}

}  // namespace
}  // namespace muster::snapshot
