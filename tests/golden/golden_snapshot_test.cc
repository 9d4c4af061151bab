// Snapshots leave nothing out: each golden script says the same when its scheduler is written as
// JSON, read and loaded again after each statement. A rule with state that TakeSnapshot(), Load()
// or runtime/snapshot/fields.h does not know is found here.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/script/script.h"

namespace muster {
namespace {

std::vector<std::string> ScriptPaths() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(MUSTER_GOLDEN)) {
    if (entry.path().extension() == ".txt" && entry.path().filename() != "CMakeLists.txt") {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string ReadFile(const std::string& path) {
  std::ifstream stream(path);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

sched::Snapshot ThroughJson(const sched::Snapshot& snapshot) {
  const snapshot::SnapshotFile file{.snapshot = snapshot};
  const std::string json = ToJson(file, snapshot::Style::kLines);
  absl::StatusOr<snapshot::SnapshotFile> read = snapshot::ParseSnapshot(json);
  EXPECT_TRUE(read.ok()) << read.status() << "\n" << json;
  if (!read.ok()) return snapshot;
  EXPECT_EQ(ToJson(*read, snapshot::Style::kLines), json);
  EXPECT_EQ(ToJson(*read, snapshot::Style::kOneLine), ToJson(file, snapshot::Style::kOneLine));
  return read->snapshot;
}

TEST(GoldenSnapshotTest, EveryScriptSaysTheSameThroughSnapshots) {
  const std::vector<std::string> paths = ScriptPaths();
  EXPECT_GT(paths.size(), 50u);
  for (const std::string& path : paths) {
    SCOPED_TRACE(path);
    const std::string text = ReadFile(path);
    // Decisions are history, and no part of a snapshot.
    if (absl::StrContains(text, "\ndecision ")) continue;
    const absl::StatusOr<sched::Script> script = sched::ParseScript(text);
    ASSERT_TRUE(script.ok()) << script.status();
    EXPECT_EQ(DiffScript(*script, RunScript(*script, ThroughJson)), "");
  }
}

// The check itself: what is left out of a snapshot is found.
TEST(GoldenSnapshotTest, ForgottenStateIsFound) {
  const std::string path = absl::StrCat(MUSTER_GOLDEN, "/after_opens_a_choice_later.txt");
  const absl::StatusOr<sched::Script> script = sched::ParseScript(ReadFile(path));
  ASSERT_TRUE(script.ok()) << script.status();
  const auto forgetful = [](sched::Snapshot snapshot) {
    for (sched::SnapshotRequest& request : snapshot.requests) request.opened_at = snapshot.now;
    return snapshot;
  };
  EXPECT_NE(DiffScript(*script, RunScript(*script, forgetful)), "");
}

// Every event of every script has its JSON form.
TEST(GoldenSnapshotTest, EveryEventSurvivesJson) {
  int events = 0;
  for (const std::string& path : ScriptPaths()) {
    SCOPED_TRACE(path);
    const absl::StatusOr<sched::Script> script = sched::ParseScript(ReadFile(path));
    ASSERT_TRUE(script.ok()) << script.status();
    for (const sched::ScriptStatement& statement : script->statements) {
      const auto* const what = std::get_if<decltype(sched::Event::what)>(&statement.what);
      if (what == nullptr) continue;
      const sched::Event event{.at = sched::ScriptStart() + absl::Seconds(++events), .what = *what};
      const std::string json = snapshot::ToJson(event);
      const absl::StatusOr<sched::Event> read = snapshot::ParseEvent(json);
      ASSERT_TRUE(read.ok()) << read.status() << "\n" << json;
      EXPECT_EQ(ToString(*read), ToString(event));
      EXPECT_EQ(read->at, event.at);
      EXPECT_EQ(snapshot::ToJson(*read), json);
    }
  }
  EXPECT_GT(events, 200);
}

}  // namespace
}  // namespace muster
