// Finds room: which node and choice a bundle would get now, and how many bundles a node can hold.
// Reads nodes and classes, changes neither; the rules are in scheduler.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"
#include "scheduler/selector_index.h"

namespace muster::sched {

struct Room {
  Node* node = nullptr;
  int choice = 0;
};

// Where a bundle would go by choices `first` to `open` - 1: among all nodes, or among `only`.
std::optional<Room> FindRoom(const SchedulingClass& of, int open, const SelectorIndex& index,
                             int first = 0);
std::optional<Room> FindRoom(const SchedulingClass& of, int open, std::span<Node* const> only,
                             int first = 0);

// What FindRoom() among all nodes finds, if HasRoom(): the node is on its way from memory while its
// finder does something else. nullopt: FindRoom() finds nothing.
std::optional<Room> LikelyRoom(const SchedulingClass& of, int open, const SelectorIndex& index);
inline bool HasRoom(const SchedulingClass& of, const Room& room) {
  return room.node->usable() && room.node->free.Fits(of.spec.choices[room.choice].resources);
}

// How a node is filled so that it holds the most bundles: choices start, start + 1, ... until each
// has no room (the lowest start on ties).
struct Filling {
  int64_t bundles = 0;
  int start = 0;
};
Filling Fill(const SchedulingClass& of, int open, const Node& node, const Capacity& capacity,
             int64_t limit);

// Whether all bundles of a request could be placed now.
bool HasRoomForAll(const SchedulingClass& of, int open, std::span<Node* const> nodes);

}  // namespace muster::sched
