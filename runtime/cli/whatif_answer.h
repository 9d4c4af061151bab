// The answers of `muster whatif`: found on a copy of the cluster, then said as text or as JSON.
//
// Thread-safety: free functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/decisions.h"
#include "scheduler/events.h"
#include "scheduler/explain.h"
#include "scheduler/forecast.h"
#include "scheduler/replay.h"
#include "scheduler/snapshot.h"

namespace muster::cli {

struct WhatIfChange {
  std::vector<sched::NodeJoined> add{};
  std::vector<NodeId> remove{};
  bool empty() const { return add.empty() && remove.empty(); }
};

// When and where one request starts, as it is and with the change.
struct WhatIfOutcome {
  sched::StartEstimate estimate{};
  std::optional<sched::Explanation> waits{};      // Where it does not start now.
  std::optional<sched::DecisionView> decision{};  // Where it does.
  int64_t leases_lost = 0;
};
struct WhatIfAnswer {
  std::string asks{};  // "1 CPU, 1 GPU on accelerator-type=L4, else any node"
  std::string name{};  // Of the task; empty: a new request.
  absl::Time now{};
  std::string change{};  // "with new-1, new-2: 8 CPUs, 8 GPUs; without 6f1c2a"; empty: none.
  WhatIfOutcome as_it_is{};
  std::optional<WhatIfOutcome> changed{};

  const WhatIfOutcome& last() const { return changed ? *changed : as_it_is; }
};
// Of `spec`, or of `request`, which waits or runs there, where `spec` is absent.
absl::StatusOr<WhatIfAnswer> Answer(const sched::Snapshot& snapshot,
                                    const std::optional<sched::RequestSpec>& spec,
                                    RequestId request, const WhatIfChange& change);
std::string AnswerText(const WhatIfAnswer& answer);
// {"asks", "name", "change", "as_it_is": {"when": "known", "in_s", "placements": [{"node",
// "choice", "gpus"}], "because", "text", "choices", "decision"}, "changed"}
std::string AnswerJson(const WhatIfAnswer& answer);

// The same of all that waits, by class.
struct WhatIfRow {
  std::string name{};
  std::string needs{};
  std::string choices{};
  int64_t count = 0;
  struct Starts {
    int64_t now = 0;
    int64_t later = 0;
    int64_t unknown = 0;
    int64_t never = 0;
    absl::Duration last{};  // Of those that are known.
  };
  Starts as_it_is{};
  std::optional<Starts> changed{};
};
struct WhatIfTable {
  std::string change{};
  std::vector<WhatIfRow> rows{};
  int64_t leases_lost = 0;
};
absl::StatusOr<WhatIfTable> AnswerAll(const sched::Snapshot& snapshot, const WhatIfChange& change);
std::string TableText(const WhatIfTable& table);
std::string TableJson(const WhatIfTable& table);

// A recording played as it was and under another configuration.
struct ReplayAnswer {
  std::string what{};  // "policy=spread"
  size_t events = 0;
  sched::ReplayResult recorded{};
  sched::ReplayResult played{};
  sched::ReplayMoves moves{};
};
std::string ReplayText(const ReplayAnswer& answer);
std::string ReplayJson(const ReplayAnswer& answer);

}  // namespace muster::cli
