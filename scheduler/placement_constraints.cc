#include "scheduler/placement_constraints.h"

#include "scheduler/placer.h"

namespace muster::sched {

std::vector<Node*> AvoidedNodes(const Cluster& cluster, const RequestSpec& spec) {
  std::vector<Node*> nodes;
  if (spec.affinity.hard()) return nodes;
  for (const std::string& name : spec.avoid) {
    if (Node* const node = cluster.FindNode(name)) nodes.push_back(node);
  }
  return nodes;
}

bool FeasibleElsewhere(const Cluster& cluster, const SchedulingClass& of, int open) {
  int64_t bundles = of.bundles_for_open[open];
  for (const Node* node : AvoidedNodes(cluster, of.spec)) {
    bundles -= Fill(of, open, *node, node->empty(), of.spec.bundles).bundles;
  }
  return bundles >= of.spec.bundles;
}

}  // namespace muster::sched
