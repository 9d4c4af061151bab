// Leases taken for others: preemption, recall after a time slice, and the room that is kept
// meanwhile. The rules are in sharing.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {
namespace {

// Classes for which nothing can be recalled, before the others are left for another time.
constexpr int kRecallFailuresMax = 8;

}  // namespace

// --- Room kept for a request ---

void Scheduler::Impl::FillHolds() {
  std::vector<uint64_t> ids;
  for (const auto& [id, hold] : holds_.all()) ids.push_back(id);
  for (const uint64_t id : ids) {
    const auto found = holds_.all().find(id);
    if (found == holds_.all().end()) continue;
    Hold& hold = found->second;
    for (HoldPart& part : hold.parts) {
      part.Fill();
      cluster_.topology().Update(*part.node);
    }
    if (hold.returns()) continue;
    const bool awaited = std::any_of(hold.victims.begin(), hold.victims.end(), [&](LeaseId lease) {
      Request* const victim = Find(lease.first);
      if (victim == nullptr || !victim->of->spec.is_group()) {
        return Running(victim, lease.second) != nullptr;
      }
      // Once it has gone as a whole its bundles may be anywhere.
      return leaving_.Find(lease) != nullptr ||
             (static_cast<size_t>(lease.second) < victim->bundles.size() &&
              victim->bundles[lease.second].state == Bundle::State::kClosing);
    });
    if (!hold.full() && awaited) continue;
    SchedulingClass& of = *hold.of;
    DropHold(id, /*spare_victims=*/false);
    of.blocked = false;
    of.found_no_victims = false;
    if (of.waits()) of.blocked = !PlaceHead(of);  // It may have been cancelled meanwhile.
    Reindex(of);
  }
}

// Those of classes that have fewer requests waiting, or that nothing can hold any more.
bool Scheduler::Impl::DropSpareHolds() {
  if (holds_.empty()) return false;
  absl::btree_map<uint64_t, int64_t> kept;  // By class.
  std::vector<uint64_t> spare;
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.returns()) {
      if (hold.until <= now_) spare.push_back(id);
      continue;
    }
    if (!hold.of->Feasible() || ++kept[hold.of->id] > hold.of->waiting) spare.push_back(id);
  }
  for (const uint64_t id : spare) DropHold(id, /*spare_victims=*/true);
  return !spare.empty();
}

void Scheduler::Impl::DropHold(uint64_t id, bool spare_victims) {
  const auto found = holds_.all().find(id);
  changed_ = true;  // Its room, and victims that may stay, are there for others.
  Hold hold = std::move(found->second);
  holds_.Remove(id);
  for (HoldPart& part : hold.parts) {
    part.Empty();
    cluster_.topology().Update(*part.node);
    Grew(*part.node);
    // Where others are being placed, those that were tried before are to see it too.
    if (part.node->reachable && !part.node->draining) InsertById(regrown_, part.node);
  }
  if (hold.returns()) {
    ChargeKept(hold, -1);
    SpareReturning(hold);
    LeaveClass(*hold.of);
    return;
  }
  if (!spare_victims) return;
  // Whoever has given nothing back yet may stay: nobody needs it to leave any more.
  for (const LeaseId& lease : hold.victims) {
    const Request* const victim = Find(lease.first);
    const Leaving::Entry* const told = leaving_.Find(lease);
    if (victim == nullptr || told == nullptr || told->revoked) continue;
    if (victim->Has(Bundle::State::kEnded) || told->notice.reason != hold.reason) continue;
    Spare(lease);
    if (!victim->of->spec.is_group()) continue;
    leaving_groups_.erase(lease.first);
    for (const LeaseId& inside : LeasesInside(*victim)) Spare(inside);
    WakeInside(lease.first);
  }
}

void Scheduler::Impl::DropHoldsOn(const Node& node) {
  std::vector<uint64_t> ids;
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.IsOn(node)) ids.push_back(id);
  }
  for (const uint64_t id : ids) {
    if (!holds_.all().at(id).returns()) LookAgain(*holds_.all().at(id).of);
    DropHold(id, /*spare_victims=*/false);
  }
}

// The class is tried again, for victims too.
void Scheduler::Impl::LookAgain(SchedulingClass& of) {
  of.found_no_victims = false;
  of.blocked = false;
  look_again_ = changed_ = true;
  Touch(of);
  if (of.waits()) Reindex(of);
}

void Scheduler::Impl::DropHoldsOf(const SchedulingClass& of) {
  std::vector<uint64_t> ids;
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.of == &of && !hold.returns()) ids.push_back(id);
  }
  for (const uint64_t id : ids) DropHold(id, /*spare_victims=*/true);
}

// --- Leases taken for others ---

void Scheduler::Impl::BeginSlice(const Request& request) {
  if (config_.sharing.time_slice == absl::InfiniteDuration()) return;
  granted_since_.emplace(request.granted_at(), request.id);
}

absl::Time Scheduler::Impl::NextSlice() const {
  if (waiting_ == 0 || granted_since_.empty()) return absl::InfiniteFuture();
  const absl::Time over = now_ - config_.sharing.time_slice;
  const auto next = granted_since_.upper_bound({over, RequestId{UINT64_MAX}});
  return next == granted_since_.end() ? absl::InfiniteFuture()
                                      : next->first + config_.sharing.time_slice;
}

// When the last of those ended that have ended.
std::optional<absl::Time> Scheduler::Impl::LastSliceOver() const {
  if (granted_since_.empty()) return std::nullopt;
  const absl::Time over = now_ - config_.sharing.time_slice;
  const auto next = granted_since_.upper_bound({over, RequestId{UINT64_MAX}});
  if (next == granted_since_.begin()) return std::nullopt;
  return std::prev(next)->first + config_.sharing.time_slice;
}

bool Scheduler::Impl::MayPreempt() const {
  return config_.sharing.preemption && !preemptible_.empty() && !order_.empty() &&
         -order_.begin()->first.minus_priority > preemptible_.begin()->first;
}

// After no room was found for the head of the class. True: it is placed after all, with what was on
// its way to requests of lower priority.
bool Scheduler::Impl::PreemptFor(SchedulingClass& of) {
  if (!MayPreempt() || !of.Feasible()) return false;
  return TakeForAll(of, LeavingReason::kPreempted);
}

// For those of the class that nothing is kept for yet, oldest first. True: one of them is placed.
bool Scheduler::Impl::TakeForAll(SchedulingClass& of, LeavingReason reason) {
  Request* request = of.head();
  for (int held = holds_.CountOf(of); held > 0 && request != nullptr; --held) {
    request = of.After(*request);
  }
  for (; request != nullptr && holds_.size() < Holds::kMax && takings_left_ > 0;
       request = of.After(*request)) {
    --takings_left_;
    if (!TakeFor(of, *request, reason)) return false;
    const Hold& hold = holds_.all().rbegin()->second;
    if (!hold.full()) continue;
    DropHold(hold.id, /*spare_victims=*/false);
    of.blocked = false;
    const bool placed = PlaceHead(of);
    of.blocked = !placed;
    if (!placed) Reindex(of);
    return placed;
  }
  return false;
}

// Recalls what has had its time slice. True: requests may be placed.
bool Scheduler::Impl::TakeFromOthers() {
  const std::optional<absl::Time> last_over = LastSliceOver();
  if (last_over && waiting_ > 0 && (changed_ || *last_over > recall_looked_at_)) {
    recall_looked_at_ = now_;
    int failures = 0;
    Turns turns(tenants_, ByShare());
    for (const auto& [key, of] : order_) {
      if (of->Feasible()) turns.Put(of->head());
    }
    while (failures < kRecallFailuresMax) {
      Request* const next = turns.Next();
      if (next == nullptr) break;
      SchedulingClass& of = *next->of;
      if (!TakeForAll(of, LeavingReason::kRecalled)) {
        ++failures;
        continue;
      }
      Reindex(of);
      return true;
    }
  }
  // What was kept for a lower priority is free, or it looks for victims again.
  return takings_left_ > 0 && (!grown_.empty() || std::exchange(look_again_, false));
}

std::optional<int64_t> Scheduler::Impl::RankFor(const SchedulingClass& of, LeavingReason reason,
                                                const Request& victim) const {
  const SchedulingClass& from = *victim.of;
  if (from.spec.inside) return std::nullopt;  // It goes with its group.
  if (from.spec.is_group()) {                 // As a whole, with what runs inside it.
    if (reason != LeavingReason::kPreempted || victim.broken || victim.closing) return std::nullopt;
    for (const LeaseId& lease : LeasesInside(victim)) {
      if (!Find(lease.first)->of->spec.preemptible) return std::nullopt;
    }
  }
  if (!from.spec.preemptible || &from == &of || victim.Has(Bundle::State::kMissing)) {
    return std::nullopt;
  }
  for (size_t bundle = 0; bundle < victim.bundles.size(); ++bundle) {
    if (leaving_.Find({victim.id, static_cast<int>(bundle)}) != nullptr) return std::nullopt;
  }
  if (reason == LeavingReason::kPreempted) {
    if (from.spec.priority >= of.spec.priority) return std::nullopt;
    return from.spec.priority;
  }
  if (from.spec.priority > of.spec.priority) return std::nullopt;
  if (victim.granted_at() + config_.sharing.time_slice > now_) return std::nullopt;
  if (config_.sharing.recall_grace == absl::InfiniteDuration() && victim.HasBlocked()) {
    return std::nullopt;
  }
  const int64_t share = tenants_.TurnOf(*from.tenant);
  if (from.tenant != of.tenant && share <= tenants_.TurnOf(*of.tenant)) return std::nullopt;
  return -share;
}

// What is free of the node, what leaves it and is promised to nobody of that priority, and what is
// kept there for requests of lower priority.
Capacity Scheduler::Impl::RoomFor(const SchedulingClass& of, const Node& node) const {
  Capacity room = node.free;
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.of->spec.priority >= of.spec.priority) continue;
    for (const HoldPart& part : hold.parts) {
      if (part.node == &node) room.Give(part.has, part.devices);
    }
  }
  if (leaving_.told().empty()) return room;
  for (const LeaseId& lease : node.leases) {
    const Leaving::Entry* const told = leaving_.Find(lease);
    if (told == nullptr || holds_.ClaimsAt(lease, of.spec.priority)) continue;
    if (told->notice.reason != LeavingReason::kPreempted &&
        told->notice.reason != LeavingReason::kRecalled) {
      continue;
    }
    const Bundle& bundle = Find(lease.first)->bundles[lease.second];
    if (bundle.inside >= 0) continue;  // It gives back to its group.
    room.Give(bundle.placement.resources, bundle.placement.devices);
    if (bundle.blocked) room.AddCpus(-bundle.placement.resources.cpus);
  }
  return room;
}

std::vector<LeaseId> Scheduler::Impl::LeasesInside(const Request& group) const {
  std::vector<LeaseId> leases;
  for (auto at = rooms_.lower_bound({group.id, 0}); at != rooms_.end(); ++at) {
    if (at->first.first != group.id) break;
    leases.insert(leases.end(), at->second.children.begin(), at->second.children.end());
  }
  return leases;
}

bool Scheduler::Impl::TakeFor(SchedulingClass& of, Request& request, LeavingReason reason) {
  if (of.spec.inside) return false;  // What it could get is its group's.
  if (!SeesReserved(of)) return TakeVisible(of, request, reason);
  ShowReserved(reservation_.nodes, true);
  const bool taken = TakeVisible(of, request, reason);
  ShowReserved(reservation_.nodes, false);
  return taken;
}

bool Scheduler::Impl::TakeVisible(SchedulingClass& of, Request& request, LeavingReason reason) {
  const bool preempts = reason == LeavingReason::kPreempted;
  if (preempts && (preemptible_.empty() || preemptible_.begin()->first >= of.spec.priority)) {
    return false;
  }
  ClosedNodes closed;
  for (int choice = 0; choice < request.open && !quotas_.empty(); ++choice) {
    CloseByQuota(of, choice, closed);
  }
  const ClosedNodes avoided(Avoids(request) ? AvoidedNodes(cluster_, of.spec)
                                            : std::vector<Node*>{});
  int shape = 0;
  const VictimSearch search(
      {.rank = [&](const Request& victim) { return RankFor(of, reason, victim); },
       .room = [&](const Node& node) { return RoomFor(of, node); },
       .find = [this](RequestId id) { return Find(id); },
       .layout =
           [&](CapacityView view, std::vector<Room>& places) {
             const Topology& topology = std::as_const(cluster_).topology();
             if (!group_placer_.Find(*of.plan, request.open, topology, view, group_room_)) {
               return false;
             }
             shape = group_room_.shape;
             places = group_room_.rooms;
             return true;
           },
       .now = now_,
       .longest_first = !preempts});
  // What could be taken on a node grows only with the node.
  const bool known =
      preempts && of.found_no_victims && !topology_changed_ && !look_at_all_ && !of.touched;
  if (known && of.shaped() && changed_nodes_.empty()) return false;
  const bool only_changed = known && of.counted() && of.spec.bundles == 1;
  const std::optional<Taking> taking =
      search.Find(of, request.open, only_changed ? changed_nodes_ : cluster_.nodes());
  if (preempts) of.found_no_victims = !taking;
  if (!taking) return false;

  std::vector<uint64_t> lower;
  for (const auto& [id, hold] : holds_.all()) {
    const bool there =
        std::any_of(taking->places.begin(), taking->places.end(),
                    [&, &on = hold](const Room& room) { return on.IsOn(*room.node); });
    if (there && hold.of->spec.priority < of.spec.priority) lower.push_back(id);
  }
  for (const uint64_t id : lower) {
    if (!holds_.all().at(id).returns()) LookAgain(*holds_.all().at(id).of);
    DropHold(id, /*spare_victims=*/false);
  }
  Hold hold{.of = &of, .request = request.id, .reason = reason};
  for (size_t i = 0; i < taking->places.size(); ++i) {
    const Room& room = taking->places[i];
    hold.parts.push_back(
        {.node = room.node,
         .needs = ChoiceOf(of.spec, shape, static_cast<int>(i), room.choice).resources});
  }
  const std::string name = of.spec.name.empty() ? "" : absl::StrCat(" (", of.spec.name, ")");
  const std::string needs =
      ToText(of.spec.choices[of.spec.is_group() ? shape : taking->places[0].choice].resources);
  const std::string why =
      absl::StrCat("request ", request.id.ToString(), name,
                   preempts ? absl::StrCat(" of priority ", of.spec.priority) : "", " needs ",
                   needs, of.spec.bundles > 1 ? absl::StrCat(" times ", of.spec.bundles) : "",
                   preempts ? ""
                            : absl::StrCat(", and this ran for its time slice of ",
                                           ShortDuration(config_.sharing.time_slice)));
  const absl::Duration grace =
      preempts ? config_.sharing.preemption_grace : config_.sharing.recall_grace;
  Notice notice{.reason = reason, .why = why};
  if (grace != absl::InfiniteDuration()) notice.deadline = now_ + grace;
  for (const Request* victim : taking->victims) TellToLeave(*victim, notice, hold);
  // And those that were leaving already, and count for it.
  for (const auto& [lease, told] : leaving_.told()) {
    const Request* const victim = Find(lease.first);
    if (victim->bundles[lease.second].inside >= 0) continue;  // It gives back to its group.
    const NodeId node = victim->bundles[lease.second].placement.node;
    const bool there = std::any_of(taking->places.begin(), taking->places.end(),
                                   [&](const Room& room) { return room.node->id == node; });
    const bool counts = told.notice.reason == LeavingReason::kPreempted ||
                        told.notice.reason == LeavingReason::kRecalled;
    if (there && counts && !holds_.Claims(lease) &&
        std::find(hold.victims.begin(), hold.victims.end(), lease) == hold.victims.end()) {
      hold.victims.push_back(lease);
    }
  }
  Hold& added = holds_.Add(std::move(hold));
  for (HoldPart& part : added.parts) {
    part.Fill();
    cluster_.topology().Update(*part.node);
  }
  return true;
}

void Scheduler::Impl::TellToLeave(const Request& victim, const Notice& notice, Hold& hold) {
  const auto tell = [&](LeaseId lease) {
    Notice one = notice;
    one.request = lease.first;
    one.bundle = lease.second;
    leaving_.Tell(one, *actions_);
  };
  for (size_t bundle = 0; bundle < victim.bundles.size(); ++bundle) {
    if (victim.bundles[bundle].state != Bundle::State::kRunning) continue;
    const LeaseId lease{victim.id, static_cast<int>(bundle)};
    tell(lease);
    hold.victims.push_back(lease);
  }
  if (!victim.of->spec.is_group()) return;
  leaving_groups_.insert(victim.id);
  for (const LeaseId& inside : LeasesInside(victim)) tell(inside);
}

bool Scheduler::Impl::EndGroupsThatLeave() {
  // Nothing runs by a group's bundle that could be killed.
  const auto of_group = [&](const Action& action) {
    const auto* const revoke = std::get_if<Revoke>(&action);
    return revoke != nullptr && revoke->reason == LeavingReason::kPreempted &&
           leaving_groups_.contains(revoke->request);
  };
  actions_->erase(std::remove_if(actions_->begin(), actions_->end(), of_group), actions_->end());
  const std::vector<RequestId> ids(leaving_groups_.begin(), leaving_groups_.end());
  bool any = false;
  for (const RequestId id : ids) {
    Request& group = *Find(id);
    const Leaving::Entry* told = nullptr;
    for (size_t i = 0; i < group.bundles.size() && told == nullptr; ++i) {
      told = leaving_.Find({id, static_cast<int>(i)});
    }
    if (told == nullptr) leaving_groups_.erase(id);  // Its nodes were lost.
    if (told == nullptr || (!told->revoked && !LeasesInside(group).empty())) continue;
    any = true;
    const std::string why = absl::StrCat("its placement group was preempted: ", told->notice.why);
    ReleaseAll(group, why);
  }
  return any;
}

}  // namespace muster::sched
