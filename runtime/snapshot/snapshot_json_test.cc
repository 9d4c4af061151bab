#include "runtime/snapshot/snapshot_json.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/script/script.h"

namespace muster::snapshot {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kSmall[] = R"({
 "muster_snapshot": 1,
 "now": "1m",
 "next_arrival": 3,
 "next_class": 2,
 "nodes": [{"node": 1, "name": "a", "labels": {"zone": "z"}, "total": {"cpus": 4, "gpus": 2}}],
 "classes": [{"class": 1, "spec": {"name": "Score", "choices": [{"resources": {"cpus": 1, "gpus": 2}}]}}],
 "requests": [
  {"request": 1, "class": 1, "arrival": 1, "since": "10s", "waited": "5s", "bundles": [
   {"placement": {"node": 1, "resources": {"cpus": 1, "gpus": 2},
                  "devices": [{"device": 0, "amount": 1}, {"device": 1, "amount": 1}]}}]},
  {"request": 2, "class": 1, "arrival": 2, "since": "20s"}
 ]
})";

template <typename T>
std::string MessageOf(const absl::StatusOr<T>& value) {
  return std::string(value.status().message());
}

// What loading says of the small snapshot with `from` replaced.
std::string ErrorWith(const std::string& from, const std::string& to) {
  const std::string json = absl::StrReplaceAll(kSmall, {{from, to}});
  EXPECT_NE(json, kSmall) << from;
  const absl::StatusOr<SnapshotFile> file = ParseSnapshot(json);
  if (!file.ok()) return std::string(file.status().message());
  std::vector<sched::Action> actions;
  const auto loaded = sched::Scheduler::Load(file->snapshot, actions);
  return std::string(loaded.status().message());
}

TEST(SnapshotJsonTest, SmallSnapshotGoesOn) {
  const absl::StatusOr<SnapshotFile> file = ParseSnapshot(kSmall);
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<sched::Action> actions;
  const auto scheduler = sched::Scheduler::Load(file->snapshot, actions);
  ASSERT_TRUE(scheduler.ok()) << scheduler.status();
  EXPECT_TRUE(actions.empty());
  (*scheduler)->CheckInvariants();
  (*scheduler)
      ->Step({.at = absl::UnixEpoch() + absl::Minutes(2),
              .what = sched::LeaseFinished{.request = RequestId{1}}},
             actions);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(ToString(actions[0]), "grant request=2 node=1 choice=0 gpus=[0,1]");
}

TEST(SnapshotJsonTest, EditedSnapshotIsSettled) {
  const std::string json =
      absl::StrReplaceAll(kSmall, {{"\"total\": {\"cpus\": 4, \"gpus\": 2}}",
                                    "\"total\": {\"cpus\": 4, \"gpus\": 2}}, "
                                    "{\"node\": 9, \"total\": {\"cpus\": 1, \"gpus\": 2}}"}});
  const absl::StatusOr<SnapshotFile> file = ParseSnapshot(json);
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<sched::Action> actions;
  ASSERT_TRUE(sched::Scheduler::Load(file->snapshot, actions).ok());
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(ToString(actions[0]), "grant request=2 node=9 choice=0 gpus=[0,1]");
}

TEST(SnapshotJsonTest, ErrorsNameTheMemberAndItsValue) {
  EXPECT_THAT(ErrorWith("\"gpus\": 2}}],", "\"gpus\": \"x\"}}],"),
              "nodes[0].total.gpus: must be a whole number, not \"x\"");
  EXPECT_THAT(ErrorWith("\"name\": \"a\"", "\"nmae\": \"a\""),
              "nodes[0].nmae: there is no such member here, not \"a\"");
  EXPECT_THAT(ErrorWith("\"now\": \"1m\"", "\"now\": \"soon\""),
              StartsWith("now: must be a duration"));
  EXPECT_THAT(ErrorWith("\"cpus\": 4", "\"cpus\": 0.00001"), StartsWith("nodes[0].total.cpus: "));
  EXPECT_THAT(ErrorWith("\"zone\": \"z\"", "\"zone\": \"!\""), StartsWith("nodes[0].labels: "));
  EXPECT_THAT(ErrorWith("\"choices\": [{", "\"choices\": [{\"selector\": {\"a\": \"in(\"}, "),
              StartsWith("classes[0].spec.choices[0].selector: "));
  EXPECT_THAT(ErrorWith("\"requests\": [", "\"requests\": [7, "),
              "requests[0]: must be an object, not 7");
}

TEST(SnapshotJsonTest, ErrorsNameWhatContradicts) {
  EXPECT_EQ(ErrorWith("\"request\": 2, \"class\": 1", "\"request\": 2, \"class\": 5"),
            "request 2: there is no class 5");
  EXPECT_EQ(ErrorWith("\"request\": 2", "\"request\": 1"), "request 1 is there twice");
  EXPECT_EQ(ErrorWith("\"placement\": {\"node\": 1", "\"placement\": {\"node\": 4"),
            "request 1 bundle 0: there is no node 4");
  EXPECT_EQ(ErrorWith("\"gpus\": 2}}],", "\"gpus\": 1}}],"),
            "request 1 bundle 0: node a has not what it holds");
  EXPECT_EQ(ErrorWith("\"cpus\": 4", "\"cpus\": 0"),
            "node a: its leases hold more CPUs than it has");
  EXPECT_THAT(ErrorWith("\"since\": \"20s\"", "\"since\": \"20h\""), HasSubstr("request 2: since"));
  EXPECT_THAT(ErrorWith("\"next_arrival\": 3", "\"next_arrival\": 2"), HasSubstr("next_arrival"));
  EXPECT_THAT(ErrorWith("\"next_class\": 2", "\"next_class\": 1"), HasSubstr("next_class"));
}

TEST(SnapshotJsonTest, OtherFilesAreRefused) {
  EXPECT_THAT(MessageOf(ParseSnapshot("")), StartsWith("no JSON: "));
  EXPECT_THAT(MessageOf(ParseSnapshot("{")), HasSubstr("line 1, column 2"));
  EXPECT_THAT(MessageOf(ParseSnapshot("[]")), "the whole: must be an object, not []");
  EXPECT_THAT(MessageOf(ParseSnapshot("{}")), HasSubstr("no member \"muster_snapshot\""));
  EXPECT_THAT(MessageOf(ParseSnapshot("{\"muster_snapshot\": 2}")),
              "muster_snapshot: this muster reads version 1, not 2");
}

TEST(SnapshotJsonTest, EventErrors) {
  EXPECT_THAT(MessageOf(ParseEvent("{\"tick\": {}}")), "at: is missing");
  EXPECT_THAT(MessageOf(ParseEvent("{\"at\": \"1s\"}")), "an event has one kind, not 0");
  EXPECT_THAT(MessageOf(ParseEvent("{\"at\": \"1s\", \"tick\": {}, \"lost\": {}}")),
              "an event has one kind, not 2");
  EXPECT_THAT(MessageOf(ParseEvent("{\"at\": \"1s\", \"tock\": {}}")),
              "tock: there is no such member here, not {}");
  EXPECT_THAT(MessageOf(ParseEvent("{\"at\": \"1s\", \"join\": {\"total\": {\"cpus\": -1}}}")),
              HasSubstr("-1"));
}

TEST(SnapshotJsonTest, MergeSetsWhatIsThere) {
  sched::RequestSpec spec{.bundles = 3, .name = "Score"};
  ASSERT_TRUE(Merge("{\"priority\": 5}", spec).ok());
  EXPECT_EQ(spec.priority, 5);
  EXPECT_EQ(spec.bundles, 3);
  EXPECT_EQ(spec.name, "Score");
  EXPECT_THAT(std::string(Merge("{\"prio\": 5}", spec).message()),
              "prio: there is no such member here, not 5");
  sched::SchedulerConfig config;
  ASSERT_TRUE(Merge("{\"adoption_timeout\": \"5s\"}", config).ok());
  EXPECT_EQ(config.adoption_timeout, absl::Seconds(5));
  EXPECT_EQ(config.idle_classes_kept, 256);
}

TEST(SnapshotJsonTest, OddTextSurvives) {
  SnapshotFile file{.muster = "\"\\\n\x01 ä", .head = "h"};
  file.tasks.push_back({.task = "4f2a", .request = RequestId{7}});
  for (const Style style : {Style::kLines, Style::kOneLine}) {
    const std::string json = ToJson(file, style);
    const absl::StatusOr<SnapshotFile> read = ParseSnapshot(json);
    ASSERT_TRUE(read.ok()) << read.status() << json;
    EXPECT_EQ(read->muster, file.muster);
    ASSERT_EQ(read->tasks.size(), 1u);
    EXPECT_EQ(read->tasks[0].request, RequestId{7});
  }
  EXPECT_EQ(ToJson(file, Style::kOneLine).find('\n'), std::string::npos);
}

}  // namespace
}  // namespace muster::snapshot
