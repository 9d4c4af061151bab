// The scheduler's snapshots and events as JSON: what `muster status --snapshot` writes, `muster
// whatif` reads, and `muster head --record-events` appends to line by line. docs/snapshot.md has
// the form; fields.h the members of each struct.
//
// What is read is checked for its form here and for what it means by Scheduler::Load(). Members
// that are not known are errors: a misspelt one would silently be left out. Errors:
// kInvalidArgument naming the member and its value: `nodes[3].total.gpus: must be a whole
//   number, not "x"`. Thread-safety: free functions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/events.h"
#include "scheduler/snapshot.h"

namespace muster::snapshot {

inline constexpr int kVersion = 1;  // Of the form.

struct TaskOfRequest {
  std::string task{};  // As `muster explain task` takes it.
  RequestId request{};
};

// A snapshot, and what a head adds for people and for `muster whatif --task`.
struct SnapshotFile {
  std::string muster{};  // The version of the program that wrote it.
  std::string head{};    // Its address.
  std::vector<TaskOfRequest> tasks{};
  sched::Snapshot snapshot{};
};

enum class Style { kLines, kOneLine };  // A line for each node, class and request; or one in all.
std::string ToJson(const SnapshotFile& file, Style style);
absl::StatusOr<SnapshotFile> ParseSnapshot(absl::string_view json);

// {"at": "1h2m3.5s", "request": {...}} in one line, without a line's end.
std::string ToJson(const sched::Event& event);
absl::StatusOr<sched::Event> ParseEvent(absl::string_view json);

// Sets what `json`, an object, has of the configuration's or spec's members, and leaves the rest.
absl::Status Merge(absl::string_view json, sched::SchedulerConfig& config);
absl::Status Merge(absl::string_view json, sched::RequestSpec& spec);

}  // namespace muster::snapshot
