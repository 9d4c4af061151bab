// What `muster explain` and `muster status` say, as values; the text is made here too, so that the CLI, the
// API and the driver's messages agree.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/choice.h"
#include "scheduler/events.h"

namespace muster {

enum class ChoiceState { kOpen, kOpensLater };

struct ChoiceExplanation {
  std::string selector;                // "accelerator-type=L4, market-type=spot" (the ray.io/ prefix left out).
  std::string needs;                   // "1 CPU, 1 GPU"
  ChoiceState state = ChoiceState::kOpen;
  std::optional<absl::Time> opens_at;  // kOpensLater; absent: with the choice before it.
  int matching_nodes = 0;              // By labels, lost nodes left out.
  int nodes = 0;
  std::string why;  // "9b02d1 is draining", "no node has T4 or P100 (there is L4)", "6f1c2a could take it now"
};

struct Explanation {
  bool granted = false;
  std::vector<Placement> placements;  // Granted.
  absl::Duration waited;
  std::string needs;
  int before_in_class = 0;
  std::vector<ChoiceExplanation> choices;
  std::string what_would_help;
};

struct WaitingClass {
  std::vector<RequestId> requests;  // Oldest first.
  RequestSpec spec;
  std::string needs;                // "1 CPU, 1 GPU"
  std::string choices_summary;      // "L4+spot > L4 > T4|P100"
  absl::Duration since;             // Of the oldest.
  std::string why;                  // "L4+spot: 1 node, draining; L4: opens in 1m19s; T4|P100: no such node"
  std::vector<ChoiceExplanation> choices;
};

enum class NodeState { kAlive, kUnreachable, kDraining, kLost };

struct NodeView {
  NodeId node;
  std::string name;
  NodeState state = NodeState::kAlive;
  Labels labels;
  NodeResources total;
  Resources used;
};

}  // namespace muster
