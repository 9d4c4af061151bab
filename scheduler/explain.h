// What `muster explain` and `muster status` say, as values; the text is made here too, so that the
// CLI, the API and the driver's messages agree.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/choice.h"
#include "scheduler/events.h"
#include "scheduler/sharing.h"

namespace muster::sched {

enum class ChoiceState { kOpen, kOpensLater };

struct ChoiceExplanation {
  std::string selector{};  // "accelerator-type=L4, market-type=spot" (the ray.io/ prefix left out).
  std::string needs{};     // "1 CPU, 1 GPU"
  std::string own_needs{};  // What differs from the primary's: "2 GPUs". Often empty.
  ChoiceState state = ChoiceState::kOpen;
  std::optional<absl::Time> opens_at{};  // kOpensLater; absent: with the choice before it.
  int matching_nodes = 0;                // By labels, lost nodes left out.
  int nodes = 0;
  std::string why{};  // "9b02d1 is draining", "no node has T4 or P100 (there is L4)", "6f1c2a could
                      // take it now"
};

struct Explanation {
  bool granted = false;
  std::vector<Placement> placements{};  // Granted: the bundles that run now.
  std::vector<std::string> where{};     // Granted, a line for each: "6f1c2a, choice 2
                                        // (accelerator-type=L4), GPU 0", choices counted from 1.
  absl::Duration waited{};              // Until now, or until it was granted.
  std::string needs{};
  int before_in_class = 0;
  // What stands between it and others, a sentence each: whose turn is before its own, quotas, what
  // is kept for it; for a granted one, why it is to leave.
  std::vector<std::string> between_jobs{};
  std::vector<ChoiceExplanation> choices{};
  std::string what_would_help{};
  std::string infeasible{};  // Why no node there can ever hold it; empty where one can.
  std::string starts{};      // "in about 3m20s on 6f1c2a, ...": where an estimate was asked for.
};

// The block that `muster explain` prints, lines ended by "\n", plain ASCII:
//   Score has waited 41s for 1 CPU, 1 GPU; 11 before it in its class.
//     1. accelerator-type=L4, market-type=spot   open       1 of 3 nodes matches: 9b02d1 is
//     draining
//     2. accelerator-type=L4                     in 1m19s   3 match: 6f1c2a could take it now
//   What would help: choice 2 opens in 1m19s.
std::string ToText(const Explanation& explanation, absl::string_view name, absl::Time now);

// "41s", "1m19s", "250ms": rounded down to whole seconds from one second on.
std::string ShortDuration(absl::Duration duration);

// "accelerator-type=L4, market-type=spot"; "any node" for the empty selector.
std::string ToText(const LabelSelector& selector);
// "L4+spot", "T4|P100", "any": the values only.
std::string ShortText(const LabelSelector& selector);
// "L4+spot > L4 > P100|T4"
std::string ChoicesSummary(const RequestSpec& spec);

struct WaitingClass {
  std::vector<RequestId> requests{};  // Oldest first.
  RequestSpec spec{};
  std::string needs{};            // "1 CPU, 1 GPU"
  std::string choices_summary{};  // "L4+spot > L4 > T4|P100"
  absl::Duration since{};         // Of the oldest.
  std::string why{};  // "L4+spot: 1 node, draining; L4: opens in 1m19s; T4|P100: no such node"
  std::vector<ChoiceExplanation> choices{};
};

struct TenantView {
  std::string name{};  // Empty: the default tenant.
  int64_t weight_milli = kWeightUnit;
  int64_t share = 0;  // Of its dominant resource, 1/10^9 of the cluster's.
  Resources used{};
  int64_t leases = 0;
  int64_t waiting = 0;
};

struct QuotaView {
  Quota quota{};
  absl::btree_map<std::string, int64_t> used{};  // By limit.
};

enum class NodeState { kAlive, kUnreachable, kDraining, kLost };
std::string ToString(NodeState state);  // "alive"

struct QuarantineView {
  int device = 0;
  std::string reason{};
  absl::Time leave_by{};  // What it holds is revoked then.
};

struct NodeView {
  NodeId node{};
  std::string name{};
  NodeState state = NodeState::kAlive;
  Labels labels{};
  NodeResources total{};
  Resources used{};                      // CPUs above the total where a lease took lent ones back.
  std::optional<absl::Time> deadline{};  // Draining.
  std::string drain_reason{};
  bool empty = true;  // No lease is there.
  std::vector<QuarantineView> quarantined{};
};

}  // namespace muster::sched
