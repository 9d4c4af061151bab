#include "scheduler/scheduler.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

// --- Time ---

void Scheduler::Impl::Step(const Event& event, std::vector<Action>& actions) {
  actions_ = &actions;
  const size_t first_action = actions.size();
  searches_ = 0;
  const bool was_in_grace = InGrace();
  now_ = std::max(now_, event.at);
  if (was_in_grace && !InGrace()) look_at_all_ = true;
  changed_ = changed_ || now_ >= next_late_;
  OpenDueChoices();
  GiveUpAdoptions();
  Settle();
  std::visit([this](const auto& what) { On(what); }, event.what);
  Settle();
  SayEmpty();
  do {  // Last: what this event ended needs none.
    leaving_.RevokeDue(now_, *actions_);
    if (!EndLeavingGroups()) break;
    Settle();
  } while (true);
  SayEmpty();
  RecordRest(first_action);
  next_late_ = NextLate();
  if (config_.placement == PlacementPolicy::kBestFit) {
    cluster_.index().capacity().FileChanged();
  } else {
    cluster_.packing().FileChanged();
  }
  actions_ = nullptr;
}

absl::Time Scheduler::Impl::NextTick() const {
  absl::Time next = absl::InfiniteFuture();
  if (!timers_.empty()) next = std::min(next, timers_.begin()->first.first);
  if (!adoptions_.empty()) next = std::min(next, adoptions_.begin()->first);
  next = std::min({next, leaving_.NextDue(), NextSlice(), ReservationTick(), next_late_});
  if (!holds_.empty()) next = std::min(next, holds_.NextEnd());
  const auto back = returns_.upper_bound({now_, RequestId{UINT64_MAX}});
  if (back != returns_.end()) next = std::min(next, back->first);
  if (waiting_ > 0 && InGrace()) next = std::min(next, grace_end_);
  return next;
}

void Scheduler::Impl::OpenDueChoices() {
  while (!timers_.empty() && timers_.begin()->first.first <= now_) {
    SchedulingClass& of = *timers_.begin()->second;
    const int open = of.head()->open;
    of.OpenByTime(now_);
    if (of.head()->open != open || !of.spec.avoid.empty()) of.blocked = false;
    Touch(of);
    Reindex(of);
  }
}

// --- Nodes ---

void Scheduler::Impl::On(const NodeJoined& event) {
  if (cluster_.FindNode(event.node) != nullptr) return;
  Node* const node = cluster_.AddNode(event.node, event.name, event.labels, event.total);
  topology_changed_ = true;
  tenants_.AddTotal(node->total, +1);
  quotas_.AddNode(*node);
  for (const HeldLease& held : event.held) {
    if (!held.spec->inside) Adopt(held, *node);
  }
  for (const HeldLease& held : event.held) {
    if (held.spec->inside) Adopt(held, *node);
  }
  if (event.drain) Drain(*node, *event.drain);
  for (const DeviceHealth& health : event.unhealthy) SetHealth(*node, health);
  Grew(*node);
}

void Scheduler::Impl::On(const NodeChanged& event) {
  Node* const node = cluster_.FindNode(event.node);
  if (node == nullptr || Labels(node->labels) == WithAliases(event.labels)) return;
  ChargeAgain(*node, -1);
  quotas_.RemoveNode(node->id);
  ReservedNodeChanged(*node);
  cluster_.Relabel(node, event.labels);
  quotas_.AddNode(*node);
  ChargeAgain(*node, +1);
  topology_changed_ = true;
  Grew(*node);
}

void Scheduler::Impl::On(const NodeReachable& event) {
  Node* const node = cluster_.FindNode(event.node);
  if (node == nullptr || node->reachable == event.reachable) return;
  ReservedNodeChanged(*node);
  node->reachable = event.reachable;
  changed_ = true;
  if (!event.reachable) DropHoldsOn(*node);
  cluster_.topology().Update(*node);
  Grew(*node);
}

void Scheduler::Impl::On(const NodeLost& event) {
  Node* const node = cluster_.FindNode(event.node);
  if (node == nullptr) return;
  ReservedNodeChanged(*node);
  // First what runs inside placement groups, so that nothing is left in their bundles.
  const std::vector<LeaseId> leases(node->leases.begin(), node->leases.end());
  for (const LeaseId& lease : leases) {
    Request& request = *Find(lease.first);
    if (request.bundles[lease.second].inside < 0) continue;
    EndBundle(request, lease.second);
    actions_->push_back(
        LeaseLost{.request = request.id, .bundle = lease.second, .node = event.node});
    ForgetIfEnded(request);
  }
  while (!node->leases.empty()) {
    const LeaseId lease = *node->leases.begin();  // In order of request and bundle.
    Request& request = *Find(lease.first);
    EndBundle(request, lease.second);
    actions_->push_back(
        LeaseLost{.request = request.id, .bundle = lease.second, .node = event.node});
    ForgetIfEnded(request);
  }
  DropHoldsOn(*node);
  EraseById(grown_, node);
  EraseById(changed_nodes_, node);
  tenants_.AddTotal(node->total, -1);
  quotas_.RemoveNode(node->id);
  EraseById(regrown_, node);
  cluster_.RemoveNode(node);
  topology_changed_ = true;
}

// --- Requests ---

void Scheduler::Impl::On(const Requested& event) {
  requests_.prefetch(event.request);
  SchedulingClass* const of = cluster_.FindClass(event.spec);
  std::optional<Room> room;  // Its node comes from memory while the rest is done.
  const bool known_and_first = of != nullptr && IsFirstOf(*of);
  if (known_and_first) room = LikelyRoom(*of, of->open_at_first(), cluster_.index());
  if (Request* const known = Find(event.request)) {
    if (!known->granted()) return;
    if (known->Has(Bundle::State::kMissing)) {
      WaitForMissing(*known);
    } else if (!known->Has(Bundle::State::kEnded)) {
      SayGrant(*known);
    }
    return;
  }
  if (of == nullptr) {  // The spec of a class that is known was looked at before.
    if (const absl::Status status = Validate(*event.spec); !status.ok()) {
      actions_->push_back(
          Rejected{.request = event.request, .reason = std::string(status.message())});
      return;
    }
  }
  if (waiting_ >= config_.waiting_per_tenant_max) {  // Else nobody can have reached it.
    for (const Tenant* tenant : tenants_.InOrder()) {
      if (tenant->name != event.spec->tenant || tenant->waiting < config_.waiting_per_tenant_max) {
        continue;
      }
      actions_->push_back(Rejected{
          .request = event.request,
          .reason = absl::StrCat(
              tenant->waiting, " requests of ",
              tenant->name.empty() ? "the default tenant" : absl::StrCat("tenant ", tenant->name),
              " wait already, which is the most allowed for one; try again later")});
      return;
    }
  }
  if (waiting_ >= config_.waiting_requests_max) {
    actions_->push_back(
        Rejected{.request = event.request,
                 .reason = absl::StrCat(waiting_,
                                        " requests wait already, which is the most allowed; try "
                                        "again later")});
    return;
  }
  if (event.spec->inside) {
    const Request* const group = Find(event.spec->inside->group);
    if (group == nullptr || !group->of->spec.is_group() || group->removed) {
      actions_->push_back(Infeasible{
          .request = event.request, .failed = true, .reason = "its placement group is not there"});
      return;
    }
  }
  Request& request = Add(event.request, event.spec, of);
  Demand& demand = cluster_.packing().demand();
  const uint64_t demand_version = demand.version();
  demand.Count(request.of->demand);
  const bool looked =
      known_and_first && demand.version() == demand_version;  // Else other work is typical now.
  if (event.spec->is_group() && event.placed_shape >= 0 &&
      event.placed_shape < static_cast<int>(event.spec->shapes.size())) {
    request.shape = event.placed_shape;
    request.bundles.resize(static_cast<size_t>(BundlesOf(*event.spec, request.shape)));
    BeginSlice(request);
    return WaitForMissing(request);
  }
  if (event.instead_of != RequestId{} && PlaceKept(request, event.instead_of)) return;
  if (known_and_first || (of == nullptr && IsFirstOf(*request.of))) {
    request.open = request.of->open_at_first();
    if (!looked || (room && !HasRoom(*request.of, *room))) {
      room = FindRoom(*request.of, request.open, cluster_.index());
    }
    if (room) return PlaceFound(request, *room);
    request.of->blocked = !config_.sharing.preemption;  // Else it is tried again, with victims.
    request.open = 1;
  }
  new_waiting_ = &request;
  Enqueue(request);
}

void Scheduler::Impl::On(const RequestCancelled& event) {
  Request* const request = Find(event.request);
  if (request == nullptr) return;
  changed_ = true;  // Whoever waited behind it may be placed, or take from others.
  if (request->of->spec.is_group()) return RemoveGroup(*request);
  if (!request->granted()) Dequeue(*request);
  for (size_t bundle = 0; bundle < request->bundles.size(); ++bundle) {
    if (request->bundles[bundle].state == Bundle::State::kRunning) {
      EndBundle(*request, static_cast<int>(bundle));
    }
  }
  if (const Hold* const kept = holds_.ReturnOf(request->id)) DropHold(kept->id, false);
  Forget(*request);
}

void Scheduler::Impl::On(const LeaseFinished& event) {
  requests_.prefetch(event.request);
  Request* const request = Find(event.request);
  if (request != nullptr) request->SendFor();
  const Bundle* const bundle = Running(request, event.bundle);
  if (bundle == nullptr) return;
  if (request->of->spec.is_group()) {
    GiveUp(*request, event.bundle, "its bundle was taken away");
    return MarkBroken(*request);
  }
  if (!bundle->adopted) request->of->durations.Add(now_ - (request->since + request->waited));
  EndBundle(*request, event.bundle);
  ForgetIfEnded(*request);
}

void Scheduler::Impl::On(const LeaseBlocked& event) {
  Bundle* const bundle = Running(Find(event.request), event.bundle);
  if (bundle == nullptr || bundle->blocked == event.blocked) return;
  CountBlocked(Find(event.request)->of->spec, event.blocked ? +1 : -1);
  if (event.blocked) SpareBlocked({event.request, event.bundle});
  if (bundle->inside >= 0) {  // It lends to others inside its bundle.
    const InsideGroup inside = *Find(event.request)->of->spec.inside;
    bundle->blocked = event.blocked;
    bundle->may_overcommit = bundle->may_overcommit || !event.blocked;
    const int64_t lent =
        event.blocked ? bundle->placement.resources.cpus : -bundle->placement.resources.cpus;
    RoomOf(*Find(inside.group), bundle->inside).left.AddCpus(lent);
    return WakeInside(inside.group);
  }
  Node& node = *cluster_.FindNode(bundle->placement.node);
  const int64_t cpus = bundle->placement.resources.cpus;
  bundle->blocked = event.blocked;
  if (event.blocked) {
    node.free.AddCpus(cpus);
  } else {
    node.free.AddCpus(-cpus);
    bundle->may_overcommit = true;
  }
  if (!quotas_.empty()) {
    const int64_t sign = event.blocked ? -1 : +1;
    ChargeQuotas(Find(event.request)->of->spec, node.id, {.cpus = cpus}, sign);
  }
  changed_ = true;
  Grew(node);  // Taken back: its end would free them now, where others may take the lease.
}

Request* Scheduler::Impl::Find(RequestId id) const {
  const auto found = requests_.find(id);
  return found == requests_.end() ? nullptr : *found;
}

Bundle* Scheduler::Impl::Running(Request* request, int bundle) {
  if (request == nullptr || bundle < 0) return nullptr;
  if (static_cast<size_t>(bundle) >= request->bundles.size()) return nullptr;
  Bundle& found = request->bundles[bundle];
  return found.state == Bundle::State::kRunning ? &found : nullptr;
}

Request& Scheduler::Impl::Add(RequestId id, const SpecHandle& spec, SchedulingClass* of) {
  Request* slot = nullptr;
  if (free_requests_.empty()) {
    slot = slab_.New();
  } else {
    slot = free_requests_.back();
    free_requests_.pop_back();
  }
  slot->id = id;
  const bool added = requests_.insert(slot).second;
  MUSTER_CHECK(added);
  slot->of = of != nullptr ? cluster_.Use(of) : cluster_.Use(spec);
  if (slot->of->tenant == nullptr) slot->of->tenant = tenants_.Enter(slot->of->spec.tenant);
  slot->arrival = next_arrival_++;
  slot->since = now_;
  slot->opened_at = now_;
  const RequestSpec& kept = slot->of->spec;
  if (!kept.avoid.empty() && !kept.affinity.hard() && slot->of->counted()) {
    slot->avoids_until = now_ + config_.avoid_for;
  }
  if (kept.inside) ++inside_[kept.inside->group][slot->of->id];
  return *slot;
}

void Scheduler::Impl::Forget(Request& request) {
  MUSTER_CHECK(!request.Has(Bundle::State::kRunning));
  StopWaitingForMissing(request);
  if (new_waiting_ == &request) new_waiting_ = nullptr;
  if (reservation_.group == request.id) DropReservation();
  SchedulingClass* const of = request.of;
  if (of->spec.return_to_preferred.moves > 0) {
    ForgetReturn(request);
    if (Hold* const kept = holds_.ReturnOf(request.id))
      kept->until = now_ + config_.return_patience;
  }
  if (of->spec.inside) {
    const auto group = inside_.find(of->spec.inside->group);
    if (--group->second[of->id] == 0) group->second.erase(of->id);
    if (group->second.empty()) inside_.erase(group);
  }
  if (!granted_since_.empty() && !request.bundles.empty()) {
    granted_since_.erase({request.granted_at(), request.id});
  }
  requests_.erase(&request);
  request.Reset();
  free_requests_.push_back(&request);
  LeaveClass(*of);
}

void Scheduler::Impl::LeaveClass(SchedulingClass& of) {
  if (of.requests == 1) {  // Its last.
    DropHoldsOf(of);
    tenants_.Leave(of.tenant);
    of.tenant = nullptr;
  }
  cluster_.Unuse(&of);
}

void Scheduler::Impl::Enqueue(Request& request) {
  SchedulingClass& of = *request.of;
  of.Push(&request);
  ++waiting_;
  ++of.tenant->waiting;
  RefreshFeasible(of);
  of.OpenByTime(now_);  // Choices without `after` are open from the start.
  // Those before it may wait for what is kept for them already: there may be victims for it too.
  if (MayPreempt() && !of.found_no_victims && preemptible_.begin()->first < of.spec.priority) {
    of.blocked = false;
  }
  Touch(of);
  Reindex(of);
}

void Scheduler::Impl::Dequeue(Request& request) {
  request.of->Erase(&request);
  --waiting_;
  --request.of->tenant->waiting;
  Reindex(*request.of);
}

void Scheduler::Impl::EndBundle(Request& request, int number) {
  Bundle& bundle = request.bundles[number];
  if (bundle.inside >= 0) return EndInside(request, number);
  MUSTER_CHECK(bundle.state == Bundle::State::kRunning || bundle.state == Bundle::State::kClosing);
  Node& node = bundle.on != nullptr ? *bundle.on : *cluster_.FindNode(bundle.placement.node);
  node.free.Give(bundle.placement.resources, bundle.placement.devices);
  if (bundle.blocked)
    node.free.AddCpus(-bundle.placement.resources.cpus);  // Lent out: given before.
  if (bundle.blocked) CountBlocked(request.of->spec, -1);
  node.leases.erase({request.id, number});
  leaving_.Forget({request.id, number});
  Charge(request, bundle, -1);
  bundle.state = Bundle::State::kEnded;
  changed_ = true;  // Also where its node gets nothing new: it was reckoned with.
  NoteEmptied(node);
  cluster_.topology().Update(node);
  Grew(node);
}

void Scheduler::Impl::ForgetIfEnded(Request& request) {
  if (request.of->spec.is_group()) return MarkBroken(request);
  if (!request.Has(Bundle::State::kRunning)) Forget(request);
}

// --- The interface ---

Scheduler::Scheduler(SchedulerConfig config) : impl_(std::make_unique<Impl>(config)) {}
Scheduler::~Scheduler() = default;

void Scheduler::Step(const Event& event, std::vector<Action>& actions) {
  impl_->Step(event, actions);
}
absl::Time Scheduler::NextTick() const { return impl_->NextTick(); }
std::optional<Explanation> Scheduler::Explain(RequestId request, absl::Time now) const {
  return impl_->Explain(request, now);
}
std::vector<WaitingClass> Scheduler::Waiting(absl::Time now) const { return impl_->Waiting(now); }
std::vector<TenantView> Scheduler::TenantViews() const { return impl_->TenantViews(); }
std::vector<QuotaView> Scheduler::QuotaViews() const { return impl_->QuotaViews(); }
std::vector<NodeView> Scheduler::Nodes() const { return impl_->Nodes(); }
int64_t Scheduler::searches() const { return impl_->searches(); }
bool Scheduler::HasWaiting() const { return impl_->HasWaiting(); }
std::vector<DecisionView> Scheduler::NewestDecisions(size_t most) const {
  return impl_->NewestDecisions(most);
}
std::optional<DecisionView> Scheduler::FindDecision(uint64_t number) const {
  return impl_->FindDecision(number);
}
std::optional<DecisionView> Scheduler::LatestDecision(RequestId request) const {
  return impl_->LatestDecision(request);
}
Snapshot Scheduler::TakeSnapshot() const { return impl_->TakeSnapshot(); }
absl::StatusOr<std::unique_ptr<Scheduler>> Scheduler::Load(const Snapshot& snapshot,
                                                           std::vector<Action>& actions) {
  auto scheduler = std::make_unique<Scheduler>(snapshot.config);
  if (absl::Status status = scheduler->impl_->Load(snapshot, actions); !status.ok()) return status;
  return scheduler;
}
void Scheduler::CheckInvariants() const { impl_->CheckInvariants(); }

}  // namespace muster::sched
