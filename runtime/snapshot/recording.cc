#include "runtime/snapshot/recording.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/base/status_macros.h"

namespace muster::snapshot {

absl::StatusOr<sched::Recording> ParseRecording(absl::string_view text) {
  sched::Recording recording;
  const bool whole = text.empty() || text.back() == '\n';
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  if (lines.empty()) return absl::InvalidArgumentError("it is empty");
  for (size_t i = 0; i < lines.size(); ++i) {
    const absl::string_view line = absl::StripAsciiWhitespace(lines[i]);
    if (line.empty()) continue;
    if (i == 0) {
      absl::StatusOr<SnapshotFile> file = ParseSnapshot(line);
      if (!file.ok()) {
        return absl::InvalidArgumentError(absl::StrCat("line 1: ", file.status().message(),
                                                       "; a recording begins with a snapshot"));
      }
      recording.start = std::move(file->snapshot);
      continue;
    }
    absl::StatusOr<sched::Event> event = ParseEvent(line);
    if (!event.ok()) {
      if (i + 1 == lines.size() && !whole) break;  // Cut off.
      return absl::InvalidArgumentError(
          absl::StrCat("line ", i + 1, ": ", event.status().message()));
    }
    const absl::Time before =
        recording.events.empty() ? recording.start.now : recording.events.back().at;
    if (event->at < before) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", i + 1, ": at: is before that of the line above it"));
    }
    recording.events.push_back(*std::move(event));
  }
  return recording;
}

absl::StatusOr<sched::Recording> ReadRecording(const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path));
  absl::StatusOr<sched::Recording> recording = ParseRecording(text);
  if (!recording.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", recording.status().message()));
  }
  return recording;
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  FILE* const file = path == "-" ? stdin : fopen(path.c_str(), "re");
  const auto failed = [&] {
    return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", strerror(errno)));
  };
  if (file == nullptr) return failed();
  std::string text;
  char buffer[64 << 10];
  size_t got = 0;
  while ((got = fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, got);
  const bool broken = ferror(file) != 0;
  const absl::Status status = broken ? failed() : absl::OkStatus();
  if (file != stdin) fclose(file);
  if (!status.ok()) return status;
  return text;
}

}  // namespace muster::snapshot
