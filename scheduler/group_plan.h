// What a request whose bundles have places relative to each other asks for, made ready for the
// search: equal bundles together, labels as numbers. One for each scheduling class of a placement
// group, or of a multi-bundle request with a strategy.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "scheduler/choice.h"
#include "scheduler/label_selector.h"
#include "scheduler/resources.h"
#include "scheduler/selector_index.h"
#include "scheduler/topology.h"

namespace muster::sched {

struct BundleKind {
  const std::vector<Choice>* choices = nullptr;  // Of the class's spec.
  std::vector<int> selectors{};                  // By choice: its number in the SelectorIndex.
  std::vector<int> bundles{};                    // Which they are, in order.
  bool needs_gpus = false;                       // By any choice.
};

struct LevelPlan {
  Level level{};
  int same_key = -1;    // In the Topology; -1: the whole cluster will do.
  int spread_key = -1;  // Of spread(label).
};

struct ShapePlan {
  std::vector<BundleKind> kinds{};  // The largest first.
  int bundles = 0;
  std::vector<LevelPlan> levels{};
  bool needs_gpus = false;
};

// What has to be taken of the indexes, and given back.
struct GroupPlan {
  std::vector<ShapePlan> shapes{};
  int cluster_key = -1;       // The whole cluster's, in the Topology.
  bool choices_open = false;  // The request's open choices are the kinds' (no placement group).
  // Its bundles may lie anywhere: they are placed as single requests would be; see scheduler.h.
  bool anywhere = false;
};

std::unique_ptr<GroupPlan> MakeGroupPlan(const RequestSpec& spec, SelectorIndex& index,
                                         Topology& topology);
void ReleaseGroupPlan(const GroupPlan& plan, SelectorIndex& index, Topology& topology);

// CPUs, GPUs and memory that all its bundles take at least, whichever of the open shapes and
// choices they get.
Resources LeastOf(const GroupPlan& plan, int open);

// What one bundle of the shape asks for by a choice.
const Choice& ChoiceOf(const RequestSpec& spec, int shape, int bundle, int choice);
int BundlesOf(const RequestSpec& spec, int shape);

}  // namespace muster::sched
