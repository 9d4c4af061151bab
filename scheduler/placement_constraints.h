// Node affinity and avoidance: which nodes a request must not be placed on, and which it would
// rather not.
//
//   hard affinity   the named node or none; it alone counts for feasibility
//   soft affinity   the named node first, by all open choices, then the others
//   avoidance       nodes that failed this work: the others first, by all open choices; they
//                   themselves once the request has waited SchedulerConfig::avoid_for, or at once
//                   where the others could never hold it
//
// A group is placed on the others as a whole, or else as if no node were avoided.
// Thread-safety: none.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "scheduler/cluster.h"
#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {

// Whether the search for room must ask the functions below.
inline bool IsConstrained(const RequestSpec& spec) {
  return !spec.affinity.node.empty() || !spec.avoid.empty();
}

// False: hard affinity to another node.
inline bool MayUse(const RequestSpec& spec, const Node& node) {
  return !spec.affinity.hard() || spec.affinity.node == node.name;
}

// Hard affinity wins.
inline bool IsAvoided(const RequestSpec& spec, const Node& node) {
  return !spec.affinity.hard() &&
         std::find(spec.avoid.begin(), spec.avoid.end(), node.name) != spec.avoid.end();
}

// The nodes that `spec` avoids and that are there. Hard affinity wins: then none.
std::vector<Node*> AvoidedNodes(const Cluster& cluster, const RequestSpec& spec);

// Whether the nodes that are not avoided could ever hold the request by its first `open` choices.
bool FeasibleElsewhere(const Cluster& cluster, const SchedulingClass& of, int open);

// Nodes that no search finds while it lives.
class HiddenNodes {
 public:
  explicit HiddenNodes(std::vector<Node*> nodes) : nodes_(std::move(nodes)) {
    for (Node* node : nodes_) node->hidden = true;
  }
  ~HiddenNodes() {
    for (Node* node : nodes_) node->hidden = false;
  }
  HiddenNodes(const HiddenNodes&) = delete;
  HiddenNodes& operator=(const HiddenNodes&) = delete;

 private:
  const std::vector<Node*> nodes_;
};

}  // namespace muster::sched
