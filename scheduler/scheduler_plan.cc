// EASY and conservative backfill: reservations by expected ends, and who may pass them. The rules
// are in sharing.h.
#include <algorithm>
#include <utility>

#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

absl::Duration Scheduler::Impl::ExpectedDuration(const RequestSpec& spec) const {
  return spec.expected_duration == absl::InfiniteDuration() ? config_.sharing.duration_default
                                                            : spec.expected_duration;
}

absl::Time Scheduler::Impl::ExpectedEnd(const Request& request, LeaseId lease) const {
  absl::Duration expected = ExpectedDuration(request.of->spec);
  const absl::Duration so_far = now_ - request.granted_at();
  while (expected < so_far) expected *= 2;  // It took longer: it may take as long again.
  const absl::Time end = request.granted_at() + expected;
  const Leaving::Entry* const told = leaving_.Find(lease);
  return told != nullptr && told->notice.deadline ? std::min(end, *told->notice.deadline) : end;
}

template <typename Visit>
void Scheduler::Impl::ForEachEnd(Visit&& visit) const {
  for (const Node* node : cluster_.nodes()) {
    for (const LeaseId& lease : node->leases) {
      const Request& request = *Find(lease.first);
      const Bundle& bundle = request.bundles[lease.second];
      if (bundle.inside < 0) visit(*node, bundle, ExpectedEnd(request, lease));
    }
  }
}

void Scheduler::Impl::AddEnds(Timeline& plan) const {
  ForEachEnd([&](const Node& node, const Bundle& bundle, absl::Time end) {
    Resources held = bundle.placement.resources;
    if (bundle.blocked) held.cpus = 0;  // Lent out already.
    plan.AddEnd(node.id, held, end);
  });
  plan.Ready();
}

// When the first lease is late, and plans change. Where fewer than two wait there is nobody to pass
// anybody.
absl::Time Scheduler::Impl::NextLateLease() const {
  absl::Time first = absl::InfiniteFuture();
  ForEachEnd([&](const Node&, const Bundle&, absl::Time end) {
    if (end >= now_) first = std::min(first, end + absl::Nanoseconds(1));
  });
  return first;
}

void Scheduler::Impl::PlaceByPlan() {
  if (!changed_ && grown_.empty()) return;
  const bool easy = config_.sharing.backfill == Backfill::kEasy;
  const int reservations_max = easy ? 1 : config_.sharing.reservations_max;
  int reservations = 0;
  std::optional<Timeline> made;
  std::vector<const Request*> not_planned;  // That have a reservation, once it is asked for.
  const auto plan = [&]() -> Timeline& {
    if (!made) {
      made.emplace(cluster_.nodes(), now_);
      AddEnds(*made);
    }
    for (const Request* request : not_planned) ReserveStart(*made, *request);
    not_planned.clear();
    return *made;
  };
  Turns turns(tenants_, ByShare());
  for (const auto& [key, of] : order_) turns.Put(of->head());
  while (Request* const next = turns.Next()) {
    SchedulingClass& of = *next->of;
    if (next == of.head()) {  // Others of a class are only given reservations.
      const bool first = reservations == 0;
      const bool placed = (first ? PlaceHead(of) : PlaceHeadWithin(plan, of)) || PreemptFor(of);
      if (!placed && first) of.blocked = true;
      Reindex(of);
      if (placed) {
        if (of.waits()) turns.Put(of.head());
        continue;
      }
      if (WaitsForQuota(of) || !of.Feasible()) continue;  // It waits for something else than time.
    }
    if (of.spec.inside) continue;  // What it waits for is its group's.
    if (reservations >= reservations_max) continue;
    ++reservations;
    not_planned.push_back(next);
    if (MayPreempt()) plan();  // What is taken for those behind it changes the plan.
    if (Request* const after = easy ? nullptr : of.After(*next)) turns.Put(after);
  }
  if (made) searches_ += made->searches();
  grown_.clear();
}

// At its earliest start.
void Scheduler::Impl::ReserveStart(Timeline& plan, const Request& request) {
  const SchedulingClass& of = *request.of;
  const absl::Duration duration = ExpectedDuration(of.spec);
  if (!of.shaped()) {
    if (const auto start = plan.EarliestStart(of, request.open, duration)) {
      plan.Reserve(of.spec.choices[start->choice].resources, *start, duration);
    }
    return;
  }
  const Topology& topology = std::as_const(cluster_).topology();
  const auto find = [&](CapacityView view) {
    return group_placer_.Find(*of.plan, request.open, topology, view, group_room_);
  };
  const std::optional<absl::Time> start =
      plan.EarliestGroup(duration, LeastOf(*of.plan, request.open), find);
  if (!start) return;
  for (size_t i = 0; i < group_room_.rooms.size(); ++i) {
    const Room& room = group_room_.rooms[i];
    plan.Take(room.node->id,
              ChoiceOf(of.spec, group_room_.shape, static_cast<int>(i), room.choice).resources,
              *start, duration);
  }
}

// Places the oldest of the class where that puts no reservation off.
bool Scheduler::Impl::PlaceHeadWithin(PlanSource plan, SchedulingClass& of) {
  Request& head = *of.head();
  if (of.spec.inside) return PlaceHead(of);  // It takes nothing that is not its group's.
  if (IsAwaited(of.spec)) {                  // Whatever it puts off.
    Timeline& known = plan();
    if (!PlaceHead(of)) return false;
    for (const Bundle& bundle : head.bundles) {
      known.Take(bundle.placement.node, bundle.placement.resources, now_,
                 ExpectedDuration(of.spec));
    }
    look_again_ = true;  // What had no room before a reservation that is put off now may have some.
    return true;
  }
  if (of.shaped()) return PlaceShapedWithin(plan, of, head);
  if (of.spec.bundles > 1) return PlaceGroupWithin(plan, of, head);
  const bool any_room = of.blocked ? FindRoom(of, head.open, grown_).has_value()
                                   : FindRoom(of, head.open, cluster_.index()).has_value();
  of.blocked = !any_room;
  if (!any_room) return false;
  Timeline& known = plan();
  const absl::Duration duration = ExpectedDuration(of.spec);
  const ClosedNodes avoided(Avoids(head) ? AvoidedNodes(cluster_, of.spec) : std::vector<Node*>{});
  for (int choice = 0; choice < head.open; ++choice) {
    const Resources& needs = of.spec.choices[choice].resources;
    ClosedNodes closed;
    CloseByQuota(of, choice, closed);
    for (Node* node : cluster_.nodes()) {
      if (!node->usable() || !node->free.Fits(needs)) continue;
      if (known.RoomNow(*node, needs, duration) == 0) closed.Close(node);
    }
    const std::optional<Room> room = FindOpenRoom(of, choice, choice + 1);
    if (!room) continue;
    known.Take(room->node->id, needs, now_, duration);
    Dequeue(head);
    PlaceBundle(head, *room);
    Granted(head);
    return true;
  }
  return false;
}

bool Scheduler::Impl::PlaceGroupWithin(PlanSource plan, SchedulingClass& of, Request& head) {
  if (of.blocked && !FindRoom(of, head.open, grown_)) return false;
  of.blocked = !HasRoomAnywhere(of, head);
  if (of.blocked) return false;
  Timeline& known = plan();
  const absl::Duration duration = ExpectedDuration(of.spec);
  const ClosedNodes avoided(Avoids(head) ? AvoidedNodes(cluster_, of.spec) : std::vector<Node*>{});
  for (int choice = 0; choice < head.open; ++choice) {
    const Resources& needs = of.spec.choices[choice].resources;
    ClosedNodes closed;
    CloseByQuota(of, choice, closed);
    for (Node* node : cluster_.nodes()) {  // What the plan sums up may not fit single devices.
      if (node->usable() && !node->free.Fits(needs)) closed.Close(node);
    }
    const auto start = known.StartNow(of, choice, duration);
    if (!start) continue;
    const bool fits = std::all_of(start->nodes.begin(), start->nodes.end(), [&](const auto& place) {
      return place.first->free.Count(needs, place.second) == place.second;
    });
    if (!fits) continue;
    known.Reserve(needs, *start, duration);
    Dequeue(head);
    for (const auto& [node, count] : start->nodes) {
      for (int64_t i = 0; i < count; ++i) PlaceBundle(head, {.node = node, .choice = choice});
    }
    Granted(head);
    return true;
  }
  return false;
}

bool Scheduler::Impl::PlaceShapedWithin(PlanSource plan, SchedulingClass& of, Request& head) {
  if (of.blocked && !GrewForOne(of)) return false;
  of.blocked = !FindShaped(of, head.open);
  if (of.blocked) return false;
  Timeline& known = plan();
  const absl::Duration duration = ExpectedDuration(of.spec);
  ClosedNodes closed;
  for (int choice = 0; choice < head.open; ++choice) CloseByQuota(of, choice, closed);
  const Topology& topology = std::as_const(cluster_).topology();
  const auto find = [&](CapacityView view) {
    return group_placer_.Find(*of.plan, head.open, topology, view, group_room_);
  };
  if (!known.GroupNow(duration, LeastOf(*of.plan, head.open), find)) return false;
  PlaceFoundShape(head);
  for (const Bundle& bundle : head.bundles) {
    known.Take(bundle.placement.node, bundle.placement.resources, now_, duration);
  }
  return true;
}

}  // namespace muster::sched
