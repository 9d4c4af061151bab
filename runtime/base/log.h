// The daemons' log: one line per message on stderr, `2026-11-22T05:00:00.123Z INFO head: node
// 6f1c2a joined`. MUSTER_LOG=debug|info|warning|error|off sets the level (default info for daemons,
// warning in applications).
//
// Thread-safety: any thread.
// Errors: none; a line that cannot be written is dropped.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace muster {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

void SetUpLog(absl::string_view component, LogLevel default_level);
bool LogEnabled(LogLevel level);
void LogLine(LogLevel level, absl::string_view message);

template <typename... Parts>
void Log(LogLevel level, const Parts&... parts) {
  if (LogEnabled(level)) LogLine(level, absl::StrCat(parts...));
}

}  // namespace muster
