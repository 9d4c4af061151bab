#include "scheduler/placer.h"

#include <algorithm>

#include "scheduler/placement_constraints.h"

namespace muster::sched {
namespace {

// The best of what it is shown; nodes come in order of id, so the first of equals stays.
class Best {
 public:
  Best(const SchedulingClass& of, const Resources& needs, const Packing& packing)
      : policy_(packing.PolicyOf(of, needs)), needs_(needs), packing_(packing) {}

  void Look(Node* node) {
    if (!node->usable() || !node->free.Fits(needs_)) return;
    const PlacementRank rank = packing_.RankOf(policy_, needs_, *node);
    if (best_ != nullptr && !(rank < rank_)) return;
    best_ = node;
    rank_ = rank;
  }

  Node* best() const { return best_; }

 private:
  const PlacementPolicy policy_;
  const Resources& needs_;
  const Packing& packing_;
  Node* best_ = nullptr;
  PlacementRank rank_;
};

int64_t FillFrom(const SchedulingClass& of, int start, int open, const Node& node,
                 const Capacity& capacity, int64_t limit) {
  Capacity left = capacity;
  int64_t bundles = 0;
  for (int i = start; i < open && bundles < limit; ++i) {
    if (!SelectorIndex::Selected(node, of.selectors[i])) continue;
    const Resources& needs = of.spec.choices[i].resources;
    const int64_t more = left.Count(needs, limit - bundles);
    bundles += more;
    if (i + 1 == open || bundles == limit) break;
    for (int64_t taken = 0; taken < more; ++taken) left.Take(needs);
  }
  return bundles;
}

// Whether no node could hold the choice when it was looked for, and none that could has come since.
// `risen` once all is filed.
bool HasNoRoom(const SchedulingClass& of, int choice, const SelectorIndex& index,
               const RisenRows& risen) {
  SchedulingClass::NoRoom& no_room = of.no_room[choice];
  if (no_room.version != index.version()) return false;
  if (risen.Any(no_room.risen, index.matched(of.selectors[choice]),
                of.spec.choices[choice].resources)) {
    no_room = {};
    return false;
  }
  no_room.risen = risen.count();
  return true;
}

// The rows that have risen as the policy files them.
const RisenRows& FileFor(PlacementPolicy policy, const CapacityIndex& capacity) {
  if (policy == PlacementPolicy::kBestFit) {
    capacity.FileChanged();
    return capacity.risen();
  }
  capacity.packing().FileChanged();
  return capacity.packing().risen();
}

}  // namespace

std::optional<Room> FindRoom(const SchedulingClass& of, int open, const SelectorIndex& index,
                             int first) {
  const CapacityIndex& capacity = index.capacity();
  for (int i = first; i < open; ++i) {
    const Resources& needs = of.spec.choices[i].resources;
    const PlacementPolicy policy = capacity.packing().PolicyOf(of, needs);
    if (HasNoRoom(of, i, index, FileFor(policy, capacity))) continue;
    const MatchedRows& matched = index.matched(of.selectors[i]);
    Node* const best = policy == PlacementPolicy::kBestFit
                           ? capacity.BestFit(matched, needs)
                           : capacity.packing().Best(policy, of, i, matched);
    if (best != nullptr) return Room{.node = best, .choice = i};
  }
  return std::nullopt;
}

std::optional<Room> FindRoom(const SchedulingClass& of, int open, std::span<Node* const> only,
                             int first) {
  if (only.empty()) return std::nullopt;
  const Packing& packing = only.front()->filed_in->packing();
  for (int i = first; i < open; ++i) {
    Best best(of, of.spec.choices[i].resources, packing);
    for (Node* node : only) {
      if (SelectorIndex::Selected(*node, of.selectors[i])) best.Look(node);
    }
    if (best.best() != nullptr) return Room{.node = best.best(), .choice = i};
  }
  return std::nullopt;
}

std::optional<Room> LikelyRoom(const SchedulingClass& of, int open, const SelectorIndex& index) {
  const CapacityIndex& capacity = index.capacity();
  for (int i = 0; i < open; ++i) {
    const Resources& needs = of.spec.choices[i].resources;
    const PlacementPolicy policy = capacity.packing().PolicyOf(of, needs);
    const RisenRows& risen = FileFor(policy, capacity);
    if (HasNoRoom(of, i, index, risen)) continue;
    const MatchedRows& matched = index.matched(of.selectors[i]);
    Node* const likely = policy == PlacementPolicy::kBestFit
                             ? capacity.Likely(matched, needs)
                             : capacity.packing().Likely(policy, of, i, matched);
    if (likely != nullptr) return Room{.node = likely, .choice = i};
    of.no_room[i] = {.version = index.version(), .risen = risen.count()};
  }
  return std::nullopt;
}

Filling Fill(const SchedulingClass& of, int open, const Node& node, const Capacity& capacity,
             int64_t limit) {
  if (!MayUse(of.spec, node)) return {};
  if (limit == 1) {  // Which choice comes first makes no difference.
    for (int i = 0; i < open; ++i) {
      if (SelectorIndex::Selected(node, of.selectors[i]) &&
          capacity.Fits(of.spec.choices[i].resources)) {
        return {.bundles = 1, .start = i};
      }
    }
    return {};
  }
  Filling best;
  for (int start = 0; start < open && best.bundles < limit; ++start) {
    const int64_t bundles = FillFrom(of, start, open, node, capacity, limit);
    if (bundles > best.bundles) best = {.bundles = bundles, .start = start};
  }
  return best;
}

bool HasRoomForAll(const SchedulingClass& of, int open, std::span<Node* const> nodes) {
  int64_t missing = of.spec.bundles;
  for (const Node* node : nodes) {
    if (!node->usable()) continue;
    missing -= Fill(of, open, *node, node->free, missing).bundles;
    if (missing <= 0) return true;
  }
  return false;
}

}  // namespace muster::sched
