#include "scheduler/placer.h"

#include <algorithm>

#include "scheduler/placement_constraints.h"

namespace muster::sched {
namespace {

// Best fit among what it is shown; nodes come in order of id, so the first of equals stays.
class BestFit {
 public:
  explicit BestFit(const Resources& needs) : needs_(needs) {}

  void Look(Node* node) {
    if (!node->usable() || !node->free.Fits(needs_)) return;
    const Capacity::Score score = node->free.ScoreFor(needs_);
    if (best_ != nullptr && !(score < score_)) return;
    best_ = node;
    score_ = score;
  }

  Node* best() const { return best_; }

 private:
  const Resources& needs_;
  Node* best_ = nullptr;
  Capacity::Score score_;
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
bool HasNoRoom(const SchedulingClass& of, int choice, const SelectorIndex& index) {
  SchedulingClass::NoRoom& no_room = of.no_room[choice];
  if (no_room.version != index.version()) return false;
  const CapacityIndex& capacity = index.capacity();
  capacity.FileChanged();
  if (capacity.MayHaveRisen(no_room.risen, index.matched(of.selectors[choice]),
                            of.spec.choices[choice].resources)) {
    no_room = {};
    return false;
  }
  no_room.risen = capacity.risen();
  return true;
}

}  // namespace

std::optional<Room> FindRoom(const SchedulingClass& of, int open, const SelectorIndex& index,
                             int first) {
  for (int i = first; i < open; ++i) {
    if (HasNoRoom(of, i, index)) continue;
    Node* const best =
        index.capacity().BestFit(index.matched(of.selectors[i]), of.spec.choices[i].resources);
    if (best != nullptr) return Room{.node = best, .choice = i};
  }
  return std::nullopt;
}

std::optional<Room> FindRoom(const SchedulingClass& of, int open, std::span<Node* const> only,
                             int first) {
  for (int i = first; i < open; ++i) {
    BestFit fit(of.spec.choices[i].resources);
    for (Node* node : only) {
      if (SelectorIndex::Selected(*node, of.selectors[i])) fit.Look(node);
    }
    if (fit.best() != nullptr) return Room{.node = fit.best(), .choice = i};
  }
  return std::nullopt;
}

std::optional<Room> LikelyRoom(const SchedulingClass& of, int open, const SelectorIndex& index) {
  const CapacityIndex& capacity = index.capacity();
  for (int i = 0; i < open; ++i) {
    if (HasNoRoom(of, i, index)) continue;
    Node* const likely =
        capacity.Likely(index.matched(of.selectors[i]), of.spec.choices[i].resources);
    if (likely != nullptr) return Room{.node = likely, .choice = i};
    of.no_room[i] = {.version = index.version(), .risen = capacity.risen()};
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
