// Reads what EventRecorder wrote. A last line that is cut off, as a killed head leaves it, is left
// out.
//
// Errors: kNotFound where the file cannot be read, kInvalidArgument naming the line.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/replay.h"

namespace muster::snapshot {

absl::StatusOr<sched::Recording> ParseRecording(absl::string_view text);
absl::StatusOr<sched::Recording> ReadRecording(const std::string& path);

absl::StatusOr<std::string> ReadWholeFile(const std::string& path);  // "-": standard input.

}  // namespace muster::snapshot
