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
#include <vector>

#include "scheduler/closed_nodes.h"
#include "scheduler/cluster.h"
#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"
#include "scheduler/selector_index.h"

namespace muster::sched {

// Whether the search for room must ask the functions below.
inline bool IsConstrained(const RequestSpec& spec) {
  return !spec.affinity.node.empty() || !spec.avoid.empty();
}

// False: hard affinity to another node.
inline bool MayUse(const RequestSpec& spec, const Node& node) {
  return !spec.affinity.hard() || spec.affinity.node == node.name;
}

// Whether the node may be used by this choice: its labels match, and no hard affinity is to
// another.
inline bool Takes(const SchedulingClass& of, int choice, const Node& node) {
  return SelectorIndex::Selected(node, of.selectors[choice]) && MayUse(of.spec, node);
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

}  // namespace muster::sched
