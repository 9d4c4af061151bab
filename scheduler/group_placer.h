// Finds room for a whole group of bundles: which domain, which nodes, which bundle where. Reads
// nodes and classes, changes neither.
//
// Rules, for the shapes and levels in order; the first that has room wins:
//   - same(label): among the domains that can hold all bundles, the one with the least free: for
//     groups that need GPUs the fewest empty devices; for others the one without GPUs first, then
//     the fewest free CPUs; ties to the domain of the lowest first node;
//   - nodes are compared likewise ("the smaller node"): GPUs although none are needed, empty
//     devices, for groups without GPUs free CPUs, node id;
//   - pack: the node that can hold the most of the bundles still to place, and of these the smaller
//     one, and so on. Where that finds no room for bundles of several kinds, all ways to lay them
//     out are tried, up to kSearchMax steps;
//   - spread: each bundle, the largest first, goes to the node with the fewest of the group's
//     bundles, of these the smaller one;
//   - strict_spread, spread(label): each bundle, the largest first, goes to the smallest node that
//     nothing of the group is on (whose domain has nothing of it); bundles placed before make way
//     where another could not be placed otherwise;
//   - strict_pack: the smallest node that holds all;
//   - a bundle takes the first of its choices that has room on the node; where the node would then
//     hold fewer of the equal ones, the earlier choices are left out;
//   - equal bundles are numbered along the topology: see Topology::Before().
//
// What is free is what `view` says, so that the same rules answer "now", "ever", and "if these
// leases had ended". Thread-safety: none; it keeps its scratch space.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "scheduler/group_plan.h"
#include "scheduler/node.h"
#include "scheduler/placer.h"
#include "scheduler/topology.h"

namespace muster::sched {

inline constexpr int kSearchMax = 2'000;  // Bundles tried on nodes, in one domain.

// Where all the bundles of a group would go.
struct GroupRoom {
  int shape = 0;
  int level = 0;
  std::vector<Room> rooms{};  // By bundle; no node: it stays where it is.
};

// What is free of a node; null: nothing may be placed there.
using CapacityView = absl::FunctionRef<const Capacity*(const Node&)>;

// What a group keeps while its lost bundles are placed anew.
struct Survivors {
  int shape = 0;
  std::vector<Node*> nodes{};  // By bundle; null: it is to be placed.
};

class GroupPlacer {
 public:
  // By the first `open` shapes (of a request that is no placement group: choices). False: no room.
  // REQUIRES: topology is fresh.
  bool FindNow(const GroupPlan& plan, int open, const Topology& topology, GroupRoom& room);
  bool Find(const GroupPlan& plan, int open, const Topology& topology, CapacityView view,
            GroupRoom& room);
  // By one shape and level, in one domain: for those who choose domains by themselves.
  bool FindIn(const Domain& domain, const GroupPlan& plan, int shape, int level, int open,
              const Topology& topology, CapacityView view, GroupRoom& room);
  // Room for the lost bundles beside the others, by the levels of their shape.
  bool FindBeside(const GroupPlan& plan, int open, const Survivors& survivors,
                  const Topology& topology, CapacityView view, GroupRoom& room);
  // How many of the shape's bundles the domain could hold, packed; for explanations.
  int Most(const Domain& domain, const ShapePlan& shape, int choices, CapacityView view);

 private:
  struct Slot {  // A node of the domain that is searched.
    Node* node = nullptr;
    Capacity left;
    int bundles = 0;  // Of the group.
    int at_most = 0;  // Bundles it could hold, when it was looked at last.
    int64_t empty = 0;
    int64_t cpus = 0;
    bool survivor = false;
  };
  struct Pick {
    int slot = 0;
    int choice = 0;
  };
  struct Search;  // One search in one domain; see group_placer.cc.

  // Equal bundles of whole GPUs with one choice, now: what most groups are. Looks at few nodes.
  static bool IsSimple(const ShapePlan& shape, int choices);
  bool FindSimple(const Domain& domain, const ShapePlan& shape, Level::Within within);
  bool PackSimple(const Domain& domain, const BundleKind& kind, int most_on_one);
  bool SpreadSimple(const Domain& domain, const BundleKind& kind, bool strict);
  bool FindSimpleInSome(const ShapePlan& shape, const LevelPlan& level, const Topology& topology);
  void NumberSimple(const ShapePlan& shape, const Topology& topology, GroupRoom& room);

  std::vector<std::pair<Node*, int>> taken_;  // Nodes and how many bundles each.
  std::vector<Slot> slots_;
};

}  // namespace muster::sched
