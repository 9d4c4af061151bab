// Placement groups in the scheduler: placed whole, and kept whole after losses. Their bundles are
// leases that nothing runs by itself: see inside_groups.cc.
#include <algorithm>
#include <utility>

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
  request.bundles[number].placement = {.node = room.node->id,
                                       .choice = room.choice,
                                       .resources = needs,
                                       .devices = room.node->free.Take(needs)};
  BeginBundle(request, number, *room.node);
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
std::string Scheduler::Impl::WhyInfeasible(const SchedulingClass& of) const {
  if (of.counted()) return InfeasibleReason(cluster_, of);
  if (of.spec.inside) return InsideInfeasibleReason(of, *Find(of.spec.inside->group));
  return GroupInfeasibleReason(cluster_, of, group_placer_);
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
