// Says why a placement group, or a request with a strategy or inside a group, waits: the domains
// looked at, nothing changed.
#pragma once

#include <string>

#include "scheduler/cluster.h"
#include "scheduler/explain.h"
#include "scheduler/group_placer.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {

// What a request needs by its primary choice or shape, in a word.
std::string NeedsText(const RequestSpec& spec);
// "same(rack) > pack, else spread".
std::string ShapesSummary(const RequestSpec& spec);
// The first shape's why, and when the next opens.
std::string ShapesWhy(const std::vector<ChoiceExplanation>& shapes, absl::Time now);
// Of a group that waits for its lost bundles to be placed anew.
std::vector<ChoiceExplanation> ExplainBroken(const Cluster& cluster, const Request& group,
                                             GroupPlacer& placer);

// "4 x (1 CPU, 8 GPUs) + 2 CPUs": the bundles of a shape.
std::string BundlesText(const GroupShape& shape);

// "needs 4 x (1 CPU, 8 GPUs) by same(rack); rack=r1 comes nearest, it could hold 3 of 4 bundles".
std::string GroupInfeasibleReason(const Cluster& cluster, const SchedulingClass& of,
                                  GroupPlacer& placer);
std::string InsideInfeasibleReason(const SchedulingClass& of, const Request& group);

// One explanation for each shape (of a request that is no group: of its bundles as a whole).
std::vector<ChoiceExplanation> ExplainShapes(const Cluster& cluster, const Request& request,
                                             GroupPlacer& placer);
// "same(rack): rack=r1 comes nearest, with room for 3 of 4 bundles".
std::string ShapeWhy(const Cluster& cluster, const SchedulingClass& of, int shape, int open,
                     GroupPlacer& placer, bool ever);
// "bundle 0 on node-1 lacks 1 GPU".
std::string InsideWhy(const Cluster& cluster, const SchedulingClass& of, const Request& group);

}  // namespace muster::sched
