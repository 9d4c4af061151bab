// What runs inside placement groups: requests that take from what a bundle holds, not from its
// node.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

bool Scheduler::Impl::FeasibleInside(const SchedulingClass& of) const {
  const Request* const group = Find(of.spec.inside->group);
  if (group == nullptr) return false;
  if (!group->granted() || group->broken || group->closing) return true;
  for (int bundle = 0; bundle < static_cast<int>(group->bundles.size()); ++bundle) {
    if (of.spec.inside->bundle >= 0 && of.spec.inside->bundle != bundle) continue;
    if (group->bundles[bundle].state == Bundle::State::kMissing) return true;
    if (group->bundles[bundle].state != Bundle::State::kRunning) continue;
    const Capacity whole = WholeRoom(*group, bundle);
    const Node& node = *cluster_.FindNode(group->bundles[bundle].placement.node);
    for (size_t i = 0; i < of.spec.choices.size(); ++i) {
      if (SelectorIndex::Selected(node, of.selectors[i]) &&
          whole.Fits(of.spec.choices[i].resources)) {
        return true;
      }
    }
  }
  return false;
}

// All that the bundle holds, as a node of its own with the devices' numbers of the real one.
Capacity Scheduler::Impl::WholeRoom(const Request& group, int bundle) const {
  const Placement& placement = group.bundles[bundle].placement;
  const Resources& has = placement.resources;
  const int devices = cluster_.FindNode(placement.node)->total.gpu_devices;
  Capacity whole(NodeResources{.cpus = has.cpus,
                               .gpu_devices = devices,
                               .memory_bytes = has.memory_bytes,
                               .custom = has.custom});
  Resources others;
  decltype(Placement::devices) not_held;
  size_t next = 0;
  for (int device = 0; device < devices; ++device) {
    int64_t amount = Amount::kUnit;
    if (next < placement.devices.size() && placement.devices[next].device == device) {
      amount -= placement.devices[next++].amount;
    }
    if (amount == 0) continue;
    others.gpus += amount;
    not_held.push_back({.device = device, .amount = amount});
  }
  const bool taken = whole.TakeHeld(others, not_held);
  MUSTER_CHECK(taken);
  return whole;
}

Scheduler::Impl::BundleRoom& Scheduler::Impl::RoomOf(Request& group, int bundle) {
  const LeaseId key{group.id, bundle};
  const auto known = rooms_.find(key);
  if (known != rooms_.end()) return known->second;
  return rooms_.emplace(key, BundleRoom{.left = WholeRoom(group, bundle)}).first->second;
}

// By the choices in order; of the bundles with room the one where the least is left, the lowest on
// ties.
std::optional<Scheduler::Impl::InsideRoom> Scheduler::Impl::FindInside(const SchedulingClass& of,
                                                                       int open) const {
  Request* const group = Find(of.spec.inside->group);
  if (group == nullptr || group->closing) return std::nullopt;
  const int only = of.spec.inside->bundle;
  for (int choice = 0; choice < open; ++choice) {
    const Resources& needs = of.spec.choices[choice].resources;
    std::optional<InsideRoom> best;
    Capacity::Score best_score;
    for (int bundle = std::max(only, 0); bundle < static_cast<int>(group->bundles.size());
         ++bundle) {
      if (only >= 0 && bundle != only) break;
      const Bundle& held = group->bundles[bundle];
      if (held.state != Bundle::State::kRunning) continue;
      if (leaving_.Find({group->id, bundle}) != nullptr) continue;
      const Node& node = *cluster_.FindNode(held.placement.node);
      // Set aside or not: what the bundle holds is its own.
      if (!node.reachable || node.draining) continue;
      if (!node.quarantined.empty() && MustLeave(node, {group->id, bundle})) continue;
      if (!SelectorIndex::Selected(node, of.selectors[choice])) continue;
      const auto room = rooms_.find({group->id, bundle});
      const Capacity left = room == rooms_.end() ? WholeRoom(*group, bundle) : room->second.left;
      if (!left.Fits(needs)) continue;
      // Ranks fill the bundles in order, so that neighbours are neighbours.
      if (of.spec.bundles > 1) {
        return InsideRoom{.group = group, .bundle = bundle, .choice = choice};
      }
      const Capacity::Score score = left.ScoreFor(needs);
      if (best && !(score < best_score)) continue;
      best = InsideRoom{.group = group, .bundle = bundle, .choice = choice};
      best_score = score;
    }
    if (best) return best;
  }
  return std::nullopt;
}

bool Scheduler::Impl::PlaceInside(SchedulingClass& of, Request& head) {
  if (of.blocked && grown_.empty()) return false;
  if (!TakeInside(of, head)) return false;
  Dequeue(head);
  Granted(head);
  return true;
}

// Room for all its bundles, or nothing.
bool Scheduler::Impl::TakeInside(const SchedulingClass& of, Request& request) {
  while (static_cast<int>(request.bundles.size()) < of.spec.bundles) {
    const std::optional<InsideRoom> room = FindInside(of, request.open);
    if (!room) {
      GiveBackInside(request);
      return false;
    }
    BundleRoom& from = RoomOf(*room->group, room->bundle);
    const Resources& needs = of.spec.choices[room->choice].resources;
    const NodeId node = room->group->bundles[room->bundle].placement.node;
    Bundle bundle{.state = Bundle::State::kRunning, .inside = room->bundle};
    bundle.placement = {
        .node = node, .choice = room->choice, .resources = needs, .devices = from.left.Take(needs)};
    const int number = static_cast<int>(request.bundles.size());
    request.bundles.push_back(std::move(bundle));
    from.children.emplace(request.id, number);
    cluster_.FindNode(node)->leases.emplace(request.id, number);
  }
  return true;
}

void Scheduler::Impl::GiveBackInside(Request& request) {
  const RequestId group = request.of->spec.inside->group;
  while (!request.bundles.empty()) {
    const LeaseId lease{request.id, static_cast<int>(request.bundles.size()) - 1};
    const Bundle& bundle = request.bundles.back();
    const auto room = rooms_.find({group, bundle.inside});
    room->second.left.Give(bundle.placement.resources, bundle.placement.devices);
    room->second.children.erase(lease);
    if (room->second.children.empty()) rooms_.erase(room);
    cluster_.FindNode(bundle.placement.node)->leases.erase(lease);
    request.bundles.pop_back();
  }
}

bool Scheduler::Impl::AdoptInside(const HeldLease& held, Node& node, int& bundle) {
  const InsideGroup inside = *held.spec->inside;
  Request* const group = Find(inside.group);
  if (group == nullptr || !group->of->spec.is_group() || group->closing) return false;
  for (int i = 0; i < static_cast<int>(group->bundles.size()); ++i) {
    if (inside.bundle >= 0 && inside.bundle != i) continue;
    const Bundle& its = group->bundles[i];
    if (its.state != Bundle::State::kRunning || its.placement.node != node.id) continue;
    BundleRoom& room = RoomOf(*group, i);
    if (room.left.TakeHeld(held.placement.resources, held.placement.devices)) {
      bundle = i;
      return true;
    }
    if (room.children.empty()) rooms_.erase({group->id, i});
  }
  return false;
}

void Scheduler::Impl::EndInside(Request& child, int number) {
  Bundle& bundle = child.bundles[number];
  MUSTER_CHECK(bundle.state == Bundle::State::kRunning);
  const LeaseId lease{child.id, number};
  Request& group = *Find(child.of->spec.inside->group);
  const LeaseId key{group.id, bundle.inside};
  BundleRoom& room = rooms_.at(key);
  room.left.Give(bundle.placement.resources, bundle.placement.devices);
  if (bundle.blocked) {
    room.left.AddCpus(-bundle.placement.resources.cpus);
    CountBlocked(child.of->spec, -1);
  }
  room.children.erase(lease);
  leaving_.Forget(lease);
  Node& node = *cluster_.FindNode(bundle.placement.node);
  node.leases.erase(lease);
  NoteEmptied(node);
  bundle.state = Bundle::State::kEnded;
  if (room.children.empty()) {
    rooms_.erase(key);
    if (group.bundles[key.second].state == Bundle::State::kClosing) {
      EndBundle(group, key.second);
      return FinishClosing(group);
    }
    LeaveIfEmpty(group, key.second);
  }
  WakeInside(group.id);
}

void Scheduler::Impl::WakeInside(RequestId group) {
  const auto classes = inside_.find(group);
  if (classes == inside_.end()) return;
  for (const auto& [id, requests] : classes->second) {
    SchedulingClass& of = *cluster_.classes().at(id);
    RefreshFeasible(of);
    if (!of.waits()) continue;
    of.blocked = false;
    look_again_ = true;  // It may come before what is being placed.
    Touch(of);
    Reindex(of);
  }
}

}  // namespace muster::sched
