// What `muster head` keeps of the past, as options of it and of `muster up`: decisions for `muster
// explain --decision`, events for `muster whatif --replay`.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/cli/arguments.h"
#include "runtime/head/head.h"

namespace muster::cli {

struct HistoryOptions {
  std::string record_events{};
  int record_mib = 256;
  int decisions_kept = 4096;
  std::string decision_detail = "sampled";
};

void AddHistoryOptions(Arguments& arguments, HistoryOptions* options);

// Errors: kInvalidArgument naming the option.
absl::Status Apply(const HistoryOptions& options, head::HeadOptions& head);

// The same as options of a `muster head` that another process starts, in whatever folder.
std::vector<std::string> ForHead(const HistoryOptions& options);

}  // namespace muster::cli
