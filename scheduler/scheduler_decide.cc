#include <algorithm>
#include <span>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/explainer.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {
namespace {

// For a heap with the first on top.
bool Later(const SchedulingClass* a, const SchedulingClass* b) {
  return *b->indexed_key < *a->indexed_key;
}

}  // namespace

void Scheduler::Impl::SettleChanged() {
  if (waiting_ > 0 || !SameNodes() || !IsCalm()) {
    SettleAll();
  } else {  // Room for nobody.
    grown_.clear();
    regrown_.clear();
  }
  changed_nodes_.clear();
  for (const uint64_t id : touched_) {
    const auto found = cluster_.classes().find(id);
    if (found != cluster_.classes().end()) found->second->touched = false;
  }
  touched_.clear();
  changed_ = false;
  topology_changed_ = false;
  look_at_all_ = false;
  new_waiting_ = nullptr;
}

void Scheduler::Impl::SettleAll() {
  if (topology_changed_ || look_at_all_) {
    LookAgainAtAvoided();
    for (SchedulingClass* of : cluster_.feasibility().TakeChanged()) Touch(*of);
  }
  takings_left_ = 256;
  changed_ = changed_ || !grown_.empty() || !touched_.empty() || topology_changed_ || look_at_all_;
  bool again = true;
  while (again) {
    PlaceBroken();
    LookAtQuotas();
    PlaceAll();
    LookAtQuotas();
    grown_ = std::exchange(regrown_, {});
    again =
        try_broken_ || !grown_.empty() || OpenByFindings() || DropSpareHolds() || TakeFromOthers();
    if (again) continue;
    UpdateReservation();
    grown_ = std::exchange(regrown_, {});
    again = !grown_.empty();
  }
  TryReturns();
  SayInfeasible();
}

// What could hold a request elsewhere has changed: what it avoids may now be all there is.
void Scheduler::Impl::LookAgainAtAvoided() {
  for (const auto& [id, of] : cluster_.feasibility().counted()) {
    if (of->spec.avoid.empty()) continue;
    of->blocked = false;
    Reindex(*of);
  }
}

// Classes are tried in order, each once unless it is served. Those that have no room as far as is
// known are tried only where a node that grew may serve them.
void Scheduler::Impl::PlaceAll() {
  if (!holds_.empty()) FillHolds();
  if (!PlainOrder()) {
    PlaceInTurns();
    return;
  }
  std::optional<WaitingKey> tried;
  FindCandidates(tried);
  while (true) {
    const auto next = tried ? ready_.upper_bound(*tried) : ready_.begin();
    SchedulingClass* of = next == ready_.end() ? nullptr : next->second;
    if (!candidates_.empty()) {
      SchedulingClass* const first = candidates_.front();
      if (of == nullptr || *first->indexed_key < *of->indexed_key) of = first;
    }
    if (of == nullptr) break;
    tried = of->indexed_key;
    const bool placed = PlaceHead(*of);
    if (!placed) of->blocked = true;
    Reindex(*of);
    // What was placed took room, so that fewer may have some now.
    if (placed && !grown_.empty()) {
      FindCandidates(tried);
    } else if (!candidates_.empty() && candidates_.front() == of) {
      std::pop_heap(candidates_.begin(), candidates_.end(), Later);
      candidates_.back()->candidate = false;
      candidates_.pop_back();
    }
  }
  DropCandidates();
  grown_.clear();
}

void Scheduler::Impl::FindCandidates(std::optional<WaitingKey> tried) {
  DropCandidates();
  if (order_.empty()) return;
  for (const Node* node : grown_) waiting_index_.Candidates(*node, candidates_);
  if (tried) {
    const auto done = [&](SchedulingClass* of) {
      const bool is = !(*tried < *of->indexed_key);
      if (is) of->candidate = false;
      return is;
    };
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), done),
                      candidates_.end());
  }
  std::make_heap(candidates_.begin(), candidates_.end(), Later);
}

void Scheduler::Impl::DropCandidates() {
  for (SchedulingClass* of : candidates_) of->candidate = false;
  candidates_.clear();
}

// What is set aside for the oldest group is there for it, and for those before it.
bool Scheduler::Impl::PlaceHead(SchedulingClass& of) {
  // As soon as it has been overtaken often enough, not only after this round.
  if (!reservation_.planned_at && ReservationDue()) PlanReservation();
  if (reservation_.nodes.empty() || !SeesReserved(of)) return PlaceShownHead(of);
  const std::vector<Node*> nodes = reservation_.nodes;
  ShowReserved(nodes, true);
  const bool placed = PlaceShownHead(of);
  ShowReserved(reservation_.nodes, false);
  return placed;
}

bool Scheduler::Impl::PlaceShownHead(SchedulingClass& of) {
  Request& head = *of.head();
  if (of.spec.inside) return PlaceInside(of, head);
  if (of.shaped()) return PlaceShaped(of, head);
  return of.spec.bundles == 1 ? PlaceOne(of, head) : PlaceGroup(of, head);
}

bool Scheduler::Impl::PlaceOne(SchedulingClass& of, Request& head) {
  const std::optional<Room> room = FindRoomFor(of, head);
  if (!room) return false;
  if (head.queued) Dequeue(head);
  PlaceFound(head, *room);
  return true;
}

// REQUIRES: it is in no queue.
void Scheduler::Impl::PlaceFound(Request& request, const Room& room) {
  if (decisions_.surveys()) SurveyBefore(*request.of, room);
  PlaceBundle(request, room);
  Granted(request);
}

// Where the next bundle goes by the choices from `first` on, closed nodes left out.
std::optional<Room> Scheduler::Impl::FindOpenRoom(const SchedulingClass& of, int first,
                                                  int open) const {
  if (!of.spec.affinity.node.empty()) {
    Node* const wanted = cluster_.FindNode(of.spec.affinity.node);
    if (wanted != nullptr) {
      const std::vector<Node*> only = {wanted};
      if (const std::optional<Room> room = FindWithinQuota(of, first, open, &only)) return room;
    }
    if (of.spec.affinity.hard()) return std::nullopt;
  }
  return FindWithinQuota(of, first, open, of.blocked ? &grown_ : nullptr);
}

std::optional<Room> Scheduler::Impl::FindRoomFor(const SchedulingClass& of, const Request& head) {
  if (!IsConstrained(of.spec)) return FindOpenRoom(of, 0, head.open);
  std::optional<Room> room;
  {
    const ClosedNodes avoided(AvoidedNodes(cluster_, of.spec));
    room = FindOpenRoom(of, 0, head.open);
  }
  if (!room && !Avoids(head)) room = FindOpenRoom(of, 0, head.open);
  return room;
}

bool Scheduler::Impl::Avoids(const Request& request) const {
  const SchedulingClass& of = *request.of;
  return request.avoids_until > now_ && FeasibleElsewhere(cluster_, of, request.open);
}

bool Scheduler::Impl::PlaceGroup(SchedulingClass& of, Request& head) {
  if (of.blocked && !FindRoom(of, head.open, grown_)) return false;
  of.blocked = false;  // Its other bundles may go anywhere.
  if (!TakeGroup(of, head)) return false;
  Dequeue(head);
  Granted(head);
  return true;
}

// By quotas and what it avoids; the nodes that others have set aside are shown or not already.
bool Scheduler::Impl::TakeGroup(const SchedulingClass& of, Request& request) {
  ClosedNodes closed;
  for (int choice = 0; choice < request.open && !quotas_.empty(); ++choice) {
    CloseByQuota(of, choice, closed);
  }
  if (!of.spec.avoid.empty()) {
    const ClosedNodes avoided(AvoidedNodes(cluster_, of.spec));
    if (TakeVisibleGroup(of, request)) return true;
    if (Avoids(request)) return false;
  }
  return TakeVisibleGroup(of, request);
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

bool Scheduler::Impl::TakeVisibleGroup(const SchedulingClass& of, Request& head) {
  const std::vector<Node*> nodes = NodesFor(of.spec);
  if (!HasRoomForAll(of, head.open, nodes)) return false;
  const size_t bundles = static_cast<size_t>(of.spec.bundles);
  while (head.bundles.size() < bundles) {
    const std::optional<Room> room = FindOpenRoom(of, 0, head.open);
    if (!room) break;
    if (decisions_.surveys() && head.bundles.empty()) SurveyBefore(of, *room);
    PlaceBundle(head, *room);
  }
  if (head.bundles.size() < bundles) {
    TakeBackBundles(head);
    decisions_.DropSurvey();
    for (Node* node : nodes) {
      if (!node->usable()) continue;
      const int64_t missing = static_cast<int64_t>(bundles - head.bundles.size());
      Filling filling = Fill(of, head.open, *node, node->free, missing);
      for (int choice = filling.start; choice < head.open && filling.bundles > 0; ++choice) {
        if (!SelectorIndex::Selected(*node, of.selectors[choice])) continue;
        while (filling.bundles > 0 && node->free.Fits(of.spec.choices[choice].resources)) {
          PlaceBundle(head, Room{.node = node, .choice = choice}, /*dense=*/true);
          --filling.bundles;
        }
      }
    }
  }
  MUSTER_CHECK(head.bundles.size() == bundles);
  FollowTopology(head);
  return true;
}

// `dense`: as what fits was counted, whatever the policy.
void Scheduler::Impl::PlaceBundle(Request& request, const Room& room, bool dense) {
  const Resources& needs = request.of->spec.choices[room.choice].resources;
  const int number = static_cast<int>(request.bundles.size());
  const bool spread =
      !dense && cluster_.packing().PolicyOf(*request.of, needs) == PlacementPolicy::kSpread;
  const DeviceOrder order = spread ? DeviceOrder::kEmptiest : DeviceOrder::kFullest;
  Placement& placement = request.bundles.emplace_back().placement;
  placement.node = room.node->id;
  placement.choice = room.choice;
  placement.resources = needs;
  placement.devices = room.node->free.Take(needs, order);
  BeginBundle(request, number, *room.node);
}

void Scheduler::Impl::BeginBundle(Request& request, int number, Node& node) {
  Bundle& bundle = request.bundles[number];
  bundle.state = Bundle::State::kRunning;
  bundle.on = &node;
  if (number == 0) request.first_on = &node;
  node.leases.emplace(request.id, number);
  Charge(request, bundle, +1);
  cluster_.topology().Update(node);
}

void Scheduler::Impl::TakeBackBundles(Request& request) {
  const bool freed = quota_freed_;
  while (!request.bundles.empty()) {
    const Placement& placement = request.bundles.back().placement;
    Node& node = *cluster_.FindNode(placement.node);
    node.free.Give(placement.resources, placement.devices);
    cluster_.topology().Update(node);
    node.leases.erase({request.id, static_cast<int>(request.bundles.size()) - 1});
    Charge(request, request.bundles.back(), -1);
    request.bundles.pop_back();
  }
  quota_freed_ = freed;
}

void Scheduler::Impl::Granted(Request& request) {
  ForgetReturn(request);  // It may have been adopted.
  if (config_.sharing.time_slice == absl::InfiniteDuration()) {
    request.waited = now_ - request.since;
  } else {
    granted_since_.erase({request.granted_at(), request.id});  // It may have been adopted then.
    request.waited = now_ - request.since;
    BeginSlice(request);
  }
  AwaitReturn(request);
  RecordGrant(request);
  CountOvertaking(request);
  SayGrant(request);
}

void Scheduler::Impl::SayGrant(const Request& request) {
  Grant& grant = std::get<Grant>(actions_->emplace_back(std::in_place_type<Grant>));
  grant.request = request.id;
  grant.shape = request.shape;
  grant.level = request.level;
  grant.placements.reserve(request.bundles.size());
  for (const Bundle& bundle : request.bundles) grant.placements.push_back(bundle.placement);
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

std::vector<SchedulingClass*> Scheduler::Impl::ClassesToLookAt() {
  std::vector<SchedulingClass*> classes;
  if (look_at_all_) {
    for (const auto& [key, of] : order_) classes.push_back(of);
    return classes;
  }
  std::sort(touched_.begin(), touched_.end());
  for (const uint64_t id : touched_) {
    const auto found = cluster_.classes().find(id);  // It may have gone since.
    if (found != cluster_.classes().end() && found->second->waits()) {
      classes.push_back(found->second.get());
    }
  }
  return classes;
}

void Scheduler::Impl::Touch(SchedulingClass& of) {
  if (of.touched) return;
  of.touched = true;
  touched_.push_back(of.id);
}

void Scheduler::Impl::SayInfeasible() {
  if (InGrace()) return;
  for (SchedulingClass* of : ClassesToLookAt()) {
    if (of->spec.inside) of->infeasible_reason.clear();
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
  if (of.infeasible_reason.empty() || of.reason_version != cluster_.nodes_version()) {
    of.infeasible_reason = WhyInfeasible(of);
    of.reason_version = cluster_.nodes_version();
  }
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
    cluster_.feasibility().Unwatch(of);
    of.found_no_victims = false;
    of.quota_closed = 0;
    of.quota_limited = false;
    of.infeasible_reason.clear();
  }
  if (of.waits()) cluster_.feasibility().Watch(of);
  waiting_index_.Set(of, of.waits() ? of.head()->open : 0);
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
  if (!node.reachable || node.draining) return;
  InsertById(grown_, &node);
  if (config_.sharing.preemption || !returns_.empty()) InsertById(changed_nodes_, &node);
}

}  // namespace muster::sched
