#include <algorithm>
#include <span>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/explainer.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

void Scheduler::Impl::Settle() {
  if (topology_changed_) LookAgainAtAvoided();
  bool again = true;
  while (again) {
    PlaceBroken();
    PlaceAll();
    grown_ = std::exchange(regrown_, {});
    again = try_broken_ || !grown_.empty() || OpenByFindings();
    if (again) continue;
    UpdateReservation();
    grown_ = std::exchange(regrown_, {});
    again = !grown_.empty();
  }
  SayInfeasible();
  touched_.clear();
  topology_changed_ = false;
  new_waiting_ = nullptr;
}

// What could hold a request elsewhere has changed: what it avoids may now be all there is.
void Scheduler::Impl::LookAgainAtAvoided() {
  for (const auto& [key, of] : order_) {
    if (of->spec.avoid.empty()) continue;
    of->blocked = false;
    Reindex(*of);
  }
}

void Scheduler::Impl::PlaceAll() {
  // Without a node that grew, only classes that are not known to be blocked can have room.
  const absl::btree_map<WaitingKey, SchedulingClass*>& candidates =
      grown_.empty() ? ready_ : order_;
  bool shown = false;  // What is set aside for the oldest group.
  for (auto next = candidates.begin(); next != candidates.end();) {
    const WaitingKey key = next->first;
    SchedulingClass& of = *next->second;
    // As soon as it has been overtaken often enough, not only after this round.
    if (!reservation_.planned_at && ReservationDue()) {
      PlanReservation();
      shown = false;
    }
    if (SeesReserved(key) != shown) {
      shown = !shown;
      ShowReserved(reservation_.nodes, shown);
    }
    if (!PlaceHead(of)) of.blocked = true;
    Reindex(of);
    next =
        candidates.upper_bound(key);  // A class that was served comes again, by its next request.
  }
  if (shown) ShowReserved(reservation_.nodes, false);
  grown_.clear();
}

bool Scheduler::Impl::PlaceHead(SchedulingClass& of) {
  Request& head = *of.head();
  if (of.spec.inside) return PlaceInside(of, head);
  if (of.shaped()) return PlaceShaped(of, head);
  return of.spec.bundles == 1 ? PlaceOne(of, head) : PlaceGroup(of, head);
}

bool Scheduler::Impl::PlaceOne(SchedulingClass& of, Request& head) {
  const std::optional<Room> room = FindRoomFor(of, head);
  if (!room) return false;
  Dequeue(head);
  PlaceBundle(head, *room);
  Granted(head);
  return true;
}

// Where the next bundle goes, nodes that are hidden left out.
std::optional<Room> Scheduler::Impl::FindVisibleRoom(const SchedulingClass& of, int open) const {
  if (!of.spec.affinity.node.empty()) {
    Node* const wanted = cluster_.FindNode(of.spec.affinity.node);
    if (wanted != nullptr) {
      if (const std::optional<Room> room = FindRoom(of, open, std::span(&wanted, 1))) return room;
    }
    if (of.spec.affinity.hard()) return std::nullopt;
  }
  return of.blocked ? FindRoom(of, open, grown_) : FindRoom(of, open, cluster_.index());
}

std::optional<Room> Scheduler::Impl::FindRoomFor(const SchedulingClass& of, const Request& head) {
  if (!IsConstrained(of.spec)) return FindVisibleRoom(of, head.open);
  std::optional<Room> room;
  {
    const HiddenNodes avoided(AvoidedNodes(cluster_, of.spec));
    room = FindVisibleRoom(of, head.open);
  }
  if (!room && !Avoids(head)) room = FindVisibleRoom(of, head.open);
  return room;
}

bool Scheduler::Impl::Avoids(const Request& request) const {
  const SchedulingClass& of = *request.of;
  return request.avoids_until > now_ && FeasibleElsewhere(cluster_, of, request.open);
}

bool Scheduler::Impl::PlaceGroup(SchedulingClass& of, Request& head) {
  if (of.blocked && !FindRoom(of, head.open, grown_)) return false;
  of.blocked = false;  // Its other bundles may go anywhere.
  if (!of.spec.avoid.empty()) {
    const HiddenNodes avoided(AvoidedNodes(cluster_, of.spec));
    if (PlaceVisibleGroup(of, head)) return true;
    if (Avoids(head)) return false;
  }
  return PlaceVisibleGroup(of, head);
}

// The nodes that a request may be placed on, the one it wants first.
std::vector<Node*> Scheduler::Impl::NodesFor(const RequestSpec& spec) const {
  if (spec.affinity.node.empty()) return cluster_.nodes();
  std::vector<Node*> nodes;
  Node* const wanted = cluster_.FindNode(spec.affinity.node);
  if (wanted != nullptr) nodes.push_back(wanted);
  if (spec.affinity.hard()) return nodes;
  for (Node* node : cluster_.nodes()) {
    if (node != wanted) nodes.push_back(node);
  }
  return nodes;
}

bool Scheduler::Impl::PlaceVisibleGroup(SchedulingClass& of, Request& head) {
  const std::vector<Node*> nodes = NodesFor(of.spec);
  if (!HasRoomForAll(of, head.open, nodes)) return false;
  Dequeue(head);
  const size_t bundles = static_cast<size_t>(of.spec.bundles);
  while (head.bundles.size() < bundles) {
    const std::optional<Room> room = FindVisibleRoom(of, head.open);
    if (!room) break;
    PlaceBundle(head, *room);
  }
  if (head.bundles.size() < bundles) {
    TakeBackBundles(head);
    for (Node* node : nodes) {
      if (!node->usable()) continue;
      const int64_t missing = static_cast<int64_t>(bundles - head.bundles.size());
      Filling filling = Fill(of, head.open, *node, node->free, missing);
      for (int choice = filling.start; choice < head.open && filling.bundles > 0; ++choice) {
        if (!SelectorIndex::Selected(*node, of.selectors[choice])) continue;
        while (filling.bundles > 0 && node->free.Fits(of.spec.choices[choice].resources)) {
          PlaceBundle(head, Room{.node = node, .choice = choice});
          --filling.bundles;
        }
      }
    }
  }
  MUSTER_CHECK(head.bundles.size() == bundles);
  FollowTopology(head);
  Granted(head);
  return true;
}

void Scheduler::Impl::PlaceBundle(Request& request, const Room& room) {
  const Resources& needs = request.of->spec.choices[room.choice].resources;
  const int number = static_cast<int>(request.bundles.size());
  Bundle bundle{.state = Bundle::State::kRunning};
  bundle.placement = {.node = room.node->id,
                      .choice = room.choice,
                      .resources = needs,
                      .devices = room.node->free.Take(needs)};
  room.node->leases.emplace(request.id, number);
  cluster_.topology().Update(*room.node);
  request.bundles.push_back(std::move(bundle));
}

void Scheduler::Impl::TakeBackBundles(Request& request) {
  while (!request.bundles.empty()) {
    const Placement& placement = request.bundles.back().placement;
    Node& node = *cluster_.FindNode(placement.node);
    node.free.Give(placement.resources, placement.devices);
    cluster_.topology().Update(node);
    node.leases.erase({request.id, static_cast<int>(request.bundles.size()) - 1});
    request.bundles.pop_back();
  }
}

void Scheduler::Impl::Granted(Request& request) {
  request.waited = now_ - request.since;
  CountOvertaking(request);
  SayGrant(request);
}

void Scheduler::Impl::SayGrant(const Request& request) {
  Grant grant{.request = request.id, .shape = request.shape, .level = request.level};
  grant.placements.reserve(request.bundles.size());
  for (const Bundle& bundle : request.bundles) grant.placements.push_back(bundle.placement);
  actions_->push_back(std::move(grant));
}

// What is found about the choices of a request that waits depends on the nodes there are, not on
// what is free of them: it is infeasible, or else busy. So only new nodes, labels and requests are
// a reason to look.
bool Scheduler::Impl::OpenByFindings() {
  bool any = false;
  for (SchedulingClass* of : ClassesToLookAt()) {
    const int open = of->head()->open;
    RefreshFeasible(*of);
    if (!of->OpenByFindings(now_, !InGrace())) continue;
    any = true;
    if (of->head()->open != open) of->blocked = false;
    Reindex(*of);
  }
  return any;
}

std::vector<SchedulingClass*> Scheduler::Impl::ClassesToLookAt() const {
  std::vector<SchedulingClass*> classes;
  if (topology_changed_) {
    for (const auto& [key, of] : order_) classes.push_back(of);
    return classes;
  }
  for (const uint64_t id : touched_) {
    const auto found = cluster_.classes().find(id);
    if (found != cluster_.classes().end() && found->second->waits()) {
      classes.push_back(found->second.get());
    }
  }
  return classes;
}

void Scheduler::Impl::SayInfeasible() {
  if (InGrace()) return;
  for (SchedulingClass* of : ClassesToLookAt()) {
    if (topology_changed_ || of->spec.inside) of->infeasible_reason.clear();
    RefreshFeasible(*of);
    if (of->Feasible()) {
      of->said_infeasible = false;
    } else if (!of->said_infeasible) {
      SayInfeasible(*of, of->Queue());
    } else if (new_waiting_ != nullptr && new_waiting_->of == of) {
      SayInfeasible(*of, {new_waiting_});
    }
  }
}

void Scheduler::Impl::SayInfeasible(SchedulingClass& of, const std::vector<Request*>& to) {
  if (of.infeasible_reason.empty()) of.infeasible_reason = WhyInfeasible(of);
  of.said_infeasible = true;
  const bool fail = of.spec.fail_if_infeasible;
  const std::string reason = of.infeasible_reason;  // The class may go with its last request.
  for (Request* request : to) {
    actions_->push_back(Infeasible{.request = request->id, .failed = fail, .reason = reason});
    if (!fail) continue;
    Dequeue(*request);
    Forget(*request);
  }
}

// --- Indexes ---

void Scheduler::Impl::Reindex(SchedulingClass& of) {
  std::optional<WaitingKey> key;
  std::optional<absl::Time> due;
  if (of.waits()) {
    key = of.key();
    absl::Time next = of.NextDue();
    if (const absl::Time end = of.head()->avoids_until; end > now_) next = std::min(next, end);
    if (next != absl::InfiniteFuture()) due = next;
  } else {
    of.blocked = false;  // Room that comes while none waits is not noted.
    of.said_infeasible = false;
    of.infeasible_reason.clear();  // Nor are nodes that come and go.
  }
  if (of.indexed_key != key) {
    if (of.indexed_key) order_.erase(*of.indexed_key);
    if (key) order_.emplace(*key, &of);
    if (of.plan != nullptr && of.indexed_key) big_.erase(*of.indexed_key);
    if (of.plan != nullptr && key) big_.emplace(*key, &of);
    of.indexed_key = key;
  }
  const std::optional<WaitingKey> ready = of.blocked ? std::nullopt : key;
  if (of.indexed_ready != ready) {
    if (of.indexed_ready) ready_.erase(*of.indexed_ready);
    if (ready) ready_.emplace(*ready, &of);
    of.indexed_ready = ready;
  }
  if (of.indexed_due != due) {
    if (of.indexed_due) timers_.erase({*of.indexed_due, of.id});
    if (due) timers_.emplace(std::pair(*due, of.id), &of);
    of.indexed_due = due;
  }
}

void Scheduler::Impl::Grew(Node& node) {
  if (node.reachable && !node.draining) InsertById(grown_, &node);
}

}  // namespace muster::sched
