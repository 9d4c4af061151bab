// Placement groups in the scheduler: placed whole, kept whole after losses, and what runs inside
// them. A group's bundles are leases that nothing runs by itself; requests inside one take from
// what the bundle holds, not from the node.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/explainer.h"
#include "scheduler/group_explain.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {
namespace {

const Capacity* FreeNow(const Node& node) { return node.usable() ? &node.free : nullptr; }
const Capacity* FreeEver(const Node& node) { return &node.empty(); }

Survivors SurvivorsOf(const Request& group, const Cluster& cluster) {
  Survivors survivors{.shape = group.shape};
  for (const Bundle& bundle : group.bundles) {
    const bool there = bundle.state == Bundle::State::kRunning;
    survivors.nodes.push_back(there ? cluster.FindNode(bundle.placement.node) : nullptr);
  }
  return survivors;
}

}  // namespace

// --- Placing ---

bool Scheduler::Impl::PlaceShaped(SchedulingClass& of, Request& head) {
  if (of.blocked && !GrewForOne(of)) return false;
  if (!FindShaped(of, head.open)) return false;
  PlaceFoundShape(head);
  return true;
}

void Scheduler::Impl::PlaceFoundShape(Request& head) {
  Dequeue(head);
  TakeFoundShape(head);
  Granted(head);
  WakeInside(head.id);
}

void Scheduler::Impl::TakeFoundShape(Request& request) {
  request.shape = group_room_.shape;
  request.level = group_room_.level;
  request.bundles.resize(group_room_.rooms.size());
  for (size_t i = 0; i < group_room_.rooms.size(); ++i) {
    PlaceAt(request, static_cast<int>(i), group_room_.rooms[i]);
  }
}

// Into group_room_; nodes that a quota closes to it are left out.
bool Scheduler::Impl::FindShaped(const SchedulingClass& of, int open) const {
  const Topology& topology = cluster_.topology();
  if (quotas_.empty()) return group_placer_.FindNow(*of.plan, open, topology, group_room_);
  ClosedNodes closed;
  for (int choice = 0; choice < open; ++choice) CloseByQuota(of, choice, closed);
  return group_placer_.Find(*of.plan, open, topology, FreeNow, group_room_);
}

void Scheduler::Impl::PlaceAt(Request& request, int number, const Room& room) {
  const Resources& needs = ChoiceOf(request.of->spec, request.shape, number, room.choice).resources;
  Bundle& bundle = request.bundles[number];
  bundle.state = Bundle::State::kRunning;
  bundle.placement = {.node = room.node->id,
                      .choice = room.choice,
                      .resources = needs,
                      .devices = room.node->free.Take(needs)};
  bundle.on = room.node;
  room.node->leases.emplace(request.id, number);
  Charge(request, bundle, +1);
  cluster_.topology().Update(*room.node);
}

// Whether a node that grew could hold one of the bundles: else a blocked class stays blocked.
bool Scheduler::Impl::GrewForOne(const SchedulingClass& of) const {
  for (const ShapePlan& shape : of.plan->shapes) {
    for (const BundleKind& kind : shape.kinds) {
      for (size_t i = 0; i < kind.choices->size(); ++i) {
        for (const Node* node : grown_) {
          if (node->usable() && SelectorIndex::Selected(*node, kind.selectors[i]) &&
              node->free.Fits((*kind.choices)[i].resources)) {
            return true;
          }
        }
      }
    }
  }
  return false;
}

bool Scheduler::Impl::HasRoomNow(const SchedulingClass& of, const Request& head) const {
  if (of.spec.inside) {
    if (of.spec.bundles == 1) return FindInside(of, head.open).has_value();
    Impl* const self = const_cast<Impl*>(this);  // Tried, and given back.
    Request trial{.id = head.id, .of = head.of, .open = head.open};
    const bool room = self->TakeInside(of, trial);
    if (room) self->GiveBackInside(trial);
    return room;
  }
  if (!of.shaped()) return HasRoomAnywhere(of, head);
  return FindShaped(of, head.open);
}

void Scheduler::Impl::FollowTopology(Request& request) {
  const Topology& topology = std::as_const(cluster_).topology();
  const auto before = [&](const Bundle& a, const Bundle& b) {
    return a.placement.node != b.placement.node &&
           topology.Before(*cluster_.FindNode(a.placement.node),
                           *cluster_.FindNode(b.placement.node));
  };
  if (std::is_sorted(request.bundles.begin(), request.bundles.end(), before)) return;
  const auto leases = [&](auto change) {
    for (size_t i = 0; i < request.bundles.size(); ++i) {
      change(cluster_.FindNode(request.bundles[i].placement.node)->leases,
             LeaseId{request.id, static_cast<int>(i)});
    }
  };
  leases([](auto& of, LeaseId lease) { of.erase(lease); });
  std::stable_sort(request.bundles.begin(), request.bundles.end(), before);
  leases([](auto& of, LeaseId lease) { of.emplace(lease.first, lease.second); });
}

// --- Feasibility ---

void Scheduler::Impl::RefreshFeasible(SchedulingClass& of) {
  if (of.counted()) return;
  if (of.spec.inside) {
    of.feasible_for_open.assign(of.spec.choices.size() + 1, FeasibleInside(of));
    return;
  }
  const Topology& topology = std::as_const(cluster_).topology();
  if (of.feasible_version == topology.version()) return;
  const bool only_grew = of.feasible_version >= topology.shrunk();
  of.feasible_version = topology.version();
  if (only_grew && of.feasible_for_open[1]) return;
  bool feasible = false;
  for (int open = 1; open <= of.choices(); ++open) {
    feasible = feasible || group_placer_.Find(*of.plan, open, topology, FreeEver, group_room_);
    of.feasible_for_open[open] = feasible;
  }
}

// A group that waits, or waits for its losses, may come to hold anything.
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

std::string Scheduler::Impl::WhyInfeasible(const SchedulingClass& of) const {
  if (of.counted()) return InfeasibleReason(cluster_, of);
  if (of.spec.inside) return InsideInfeasibleReason(of, *Find(of.spec.inside->group));
  return GroupInfeasibleReason(cluster_, of, group_placer_);
}

// --- Inside ---

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

// --- Losses and ends ---

void Scheduler::Impl::GiveUp(Request& group, int number, const std::string& why) {
  const auto room = rooms_.find({group.id, number});
  if (room == rooms_.end()) return EndBundle(group, number);
  group.bundles[number].state = Bundle::State::kClosing;
  leaving_.Forget({group.id, number});
  for (const LeaseId& child : room->second.children) {
    const Leaving::Entry* const told = leaving_.Find(child);
    if (told != nullptr && told->revoked) continue;  // It was killed for the same reason.
    actions_->push_back(Revoke{.request = child.first,
                               .bundle = child.second,
                               .reason = LeavingReason::kGroupEnded,
                               .why = why});
  }
}

void Scheduler::Impl::MarkBroken(Request& group) {
  try_broken_ = true;
  if (group.broken || group.closing) return;
  group.broken = true;
  broken_.emplace(KeyOf(group), &group);
}

// What groups lost comes before all that waits. Only the oldest of them may go on holding the rest
// while it waits for room: two could wait for each other's.
void Scheduler::Impl::PlaceBroken() {
  const bool try_now = std::exchange(try_broken_, false) || !grown_.empty();
  if (!try_now || broken_.empty()) return;
  std::vector<Request*> groups;
  for (const auto& [key, group] : broken_) groups.push_back(group);
  bool one_waits = false;
  for (Request* group : groups) {
    if (PlaceLost(*group)) continue;
    if (!one_waits && group->Has(Bundle::State::kRunning)) {
      one_waits = true;
    } else {
      ReleaseAll(*group, "its placement group lost a node and is placed anew");
    }
  }
}

// Beside what it kept; else all of it anew, where there is room for that once it has let go.
bool Scheduler::Impl::PlaceLost(Request& group) {
  if (group.Has(Bundle::State::kMissing) || group.Has(Bundle::State::kClosing)) return true;
  if (!group.Has(Bundle::State::kRunning)) return false;
  const GroupPlan& plan = *group.of->plan;
  const Topology& topology = std::as_const(cluster_).topology();
  const Survivors survivors = SurvivorsOf(group, cluster_);
  if (group_placer_.FindBeside(plan, group.of->choices(), survivors, topology, FreeNow,
                               group_room_)) {
    broken_.erase(KeyOf(group));
    group.broken = false;
    group.level = group_room_.level;
    for (size_t i = 0; i < group.bundles.size(); ++i) {
      if (survivors.nodes[i] == nullptr) {
        PlaceAt(group, static_cast<int>(i), group_room_.rooms[i]);
      }
    }
    Granted(group);
    WakeInside(group.id);
    return true;
  }
  absl::btree_map<NodeId, Capacity> without;
  for (const Bundle& bundle : group.bundles) {
    if (bundle.state != Bundle::State::kRunning) continue;
    const Node& node = *cluster_.FindNode(bundle.placement.node);
    without.emplace(node.id, node.free)
        .first->second.Give(bundle.placement.resources, bundle.placement.devices);
  }
  const auto view = [&](const Node& node) -> const Capacity* {
    if (!node.usable()) return nullptr;
    const auto changed = without.find(node.id);
    return changed == without.end() ? &node.free : &changed->second;
  };
  if (!group_placer_.Find(plan, std::max(group.open, 1), topology, view, group_room_)) return false;
  ReleaseAll(group, "its placement group lost a node and is placed anew");
  return true;
}

void Scheduler::Impl::ReleaseAll(Request& group, const std::string& why) {
  leaving_groups_.erase(group.id);
  broken_.erase(KeyOf(group));
  group.broken = false;
  group.closing = true;
  for (int i = 0; i < static_cast<int>(group.bundles.size()); ++i) {
    if (group.bundles[i].state != Bundle::State::kRunning) continue;
    actions_->push_back(
        LeaseLost{.request = group.id, .bundle = i, .node = group.bundles[i].placement.node});
    GiveUp(group, i, why);
  }
  FinishClosing(group);
}

void Scheduler::Impl::FinishClosing(Request& group) {
  if (group.Has(Bundle::State::kClosing)) return;
  if (group.removed) return Forget(group);
  if (!group.closing) {  // A bundle was taken away; what ran inside it has ended now.
    try_broken_ = true;
    return;
  }
  group.closing = false;
  RequeueGroup(group);
}

// At its old place. Whoever is older has at least as many shapes open, whoever is younger at most.
void Scheduler::Impl::RequeueGroup(Request& group) {
  if (!granted_since_.empty()) granted_since_.erase({group.granted_at(), group.id});
  group.waited = absl::ZeroDuration();
  group.bundles.clear();
  group.shape = 0;
  group.level = 0;
  group.open = 1;
  group.opened_at = now_;
  group.since = now_;
  for (const Request* other : group.of->Queue()) {
    if (other->arrival < group.arrival) continue;
    group.open = other->open;
    group.opened_at = other->opened_at;
    group.since = std::min(now_, group.opened_at);
    break;
  }
  Enqueue(group);
  group.of->blocked = false;
  Reindex(*group.of);
  WakeInside(group.id);
}

void Scheduler::Impl::RemoveGroup(Request& group) {
  if (group.removed) return;
  if (group.queued) Dequeue(group);
  if (group.broken) broken_.erase(KeyOf(group));
  group.broken = false;
  group.closing = true;
  group.removed = true;
  leaving_groups_.erase(group.id);
  StopWaitingForMissing(group);
  for (int i = 0; i < static_cast<int>(group.bundles.size()); ++i) {
    Bundle& bundle = group.bundles[i];
    if (bundle.state == Bundle::State::kMissing) bundle.state = Bundle::State::kEnded;
    if (bundle.state == Bundle::State::kRunning)
      GiveUp(group, i, "its placement group was removed");
  }
  FailInside(group.id);
  FinishClosing(group);
}

void Scheduler::Impl::FailInside(RequestId group) {
  const auto classes = inside_.find(group);
  if (classes == inside_.end()) return;
  std::vector<Request*> waiting;
  for (const auto& [id, requests] : classes->second) {
    for (Request* request : cluster_.classes().at(id)->Queue()) waiting.push_back(request);
  }
  std::sort(waiting.begin(), waiting.end(),
            [](const Request* a, const Request* b) { return a->arrival < b->arrival; });
  for (Request* request : waiting) {
    actions_->push_back(Infeasible{
        .request = request->id, .failed = true, .reason = "its placement group was removed"});
    Dequeue(*request);
    Forget(*request);
  }
}

}  // namespace muster::sched
