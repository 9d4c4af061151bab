// Return to an earlier choice: see ReturnToPreferred in choice.h. The room is looked for as if the
// request had left already, kept by a hold, and taken by what is asked for instead of the request;
// who waits comes first.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

int Scheduler::Impl::WorstChoice(const Request& request) {
  int worst = 0;
  for (const Bundle& bundle : request.bundles) {
    if (bundle.state == Bundle::State::kRunning) worst = std::max(worst, bundle.placement.choice);
  }
  return worst;
}

// Not before it may go to the nodes that it avoids at first.
absl::Time Scheduler::Impl::ReturnDue(const Request& request) {
  return std::max(request.granted_at() + request.of->spec.return_to_preferred.after,
                  request.avoids_until);
}

void Scheduler::Impl::AwaitReturn(const Request& request) {
  const ReturnToPreferred& back = request.of->spec.return_to_preferred;
  if (back.moves == 0 || back.after == absl::InfiniteDuration() || WorstChoice(request) == 0)
    return;
  const absl::Time due = ReturnDue(request);
  returns_.emplace(due, request.id);
  returns_put_off_ = returns_put_off_ || due <= returns_looked_at_;
}

void Scheduler::Impl::ForgetReturn(const Request& request) {
  if (!returns_.empty()) returns_.erase({ReturnDue(request), request.id});
}

// It runs as a whole, and has no other reason to leave.
bool Scheduler::Impl::MayReturn(const Request& request) const {
  for (size_t i = 0; i < request.bundles.size(); ++i) {
    const Bundle& bundle = request.bundles[i];
    if (bundle.state != Bundle::State::kRunning || bundle.blocked) return false;
    if (leaving_.Find({request.id, static_cast<int>(i)}) != nullptr) return false;
  }
  return WorstChoice(request) > 0;
}

// Whether a node that grew could hold one of its bundles by an earlier choice.
bool Scheduler::Impl::GrewForReturn(const Request& request) const {
  const SchedulingClass& of = *request.of;
  const int worst = WorstChoice(request);
  for (const Node* node : changed_nodes_) {
    for (int choice = 0; choice < worst; ++choice) {
      if (Takes(of, choice, *node) && node->empty().Fits(of.spec.choices[choice].resources)) {
        return true;
      }
    }
  }
  return false;
}

// After all who wait were tried. Those looked at before are looked at again where something has
// changed that could matter to them.
void Scheduler::Impl::TryReturns() {
  const auto end = returns_.upper_bound({now_, RequestId{UINT64_MAX}});
  if (end == returns_.begin()) return;
  const absl::Time looked_at = std::exchange(returns_looked_at_, now_);
  if (waiting_ > 0 && (PlansAhead() || config_.sharing.backfill == Backfill::kNone)) {
    returns_put_off_ = true;  // Room now may be what a start is planned with.
    return;
  }
  const bool all = std::exchange(returns_put_off_, false) || topology_changed_ || look_at_all_ ||
                   (changed_ && !quotas_.empty());
  const std::vector<std::pair<absl::Time, RequestId>> due(returns_.begin(), end);
  for (const auto& [at, id] : due) {
    Request& request = *Find(id);
    if (!all && at <= looked_at && !GrewForReturn(request)) continue;
    if (!MayReturn(request) || holds_.size() >= Holds::kMax) {
      returns_put_off_ = true;
      continue;
    }
    ReturnOne(request);
  }
}

bool Scheduler::Impl::TakeBundles(Request& request) {
  SchedulingClass& of = *request.of;
  const bool blocked = std::exchange(of.blocked, false);  // Not only nodes that grew count.
  bool taken = false;
  if (of.shaped()) {
    taken = FindShaped(of, request.open);
    if (taken) TakeFoundShape(request);
  } else if (of.spec.bundles == 1) {
    const std::optional<Room> room = FindRoomFor(of, request);
    taken = room.has_value();
    if (taken && decisions_.surveys()) SurveyBefore(of, *room);
    if (taken) PlaceBundle(request, *room);
  } else {
    taken = TakeGroup(of, request);
  }
  of.blocked = blocked;
  return taken;
}

void Scheduler::Impl::ReturnOne(Request& request) {
  SchedulingClass& of = *request.of;
  const std::vector<Bundle> own = request.bundles;
  const int worst = WorstChoice(request);
  const int open = std::exchange(request.open, worst);
  const int shape = request.shape;
  const int level = request.level;
  const std::pair<bool, bool> quotas = {quota_used_, quota_freed_};
  // As if it had left already: it may return to a part of what it holds.
  TakeBackBundles(request);
  const bool found = TakeBundles(request);
  const std::vector<Bundle> places = request.bundles;
  const int found_level = request.level;
  TakeBackBundles(request);
  decisions_.DropSurvey();
  request.bundles = own;
  request.open = open;
  request.shape = shape;
  request.level = level;
  for (size_t i = 0; i < own.size(); ++i) {
    const Placement& placement = own[i].placement;
    Node& node = *cluster_.FindNode(placement.node);
    const bool back = node.free.TakeHeld(placement.resources, placement.devices);
    MUSTER_CHECK(back);
    BeginBundle(request, static_cast<int>(i), node);
  }
  std::tie(quota_used_, quota_freed_) = quotas;
  if (!found) return;

  Hold hold{.of = &of,
            .request = request.id,
            .reason = LeavingReason::kReturnToPreferred,
            .level = found_level};
  int choice = 0;
  for (const Bundle& place : places) {
    choice = std::max(choice, place.placement.choice);
    hold.parts.push_back({.node = cluster_.FindNode(place.placement.node),
                          .choice = place.placement.choice,
                          .needs = place.placement.resources});
    hold.parts.back().Fill();
    cluster_.topology().Update(*hold.parts.back().node);
  }
  const LabelSelector& selector = of.spec.choices[choice].selector;
  Notice notice{.reason = LeavingReason::kReturnToPreferred,
                .why = absl::StrCat("choice ", choice + 1, " of ", of.choices(), " (",
                                    selector.empty() ? "any node" : ToText(selector), ") has room ",
                                    places.size() == 1
                                        ? absl::StrCat("on ", hold.parts[0].node->name)
                                        : absl::StrCat("for all ", places.size(), " bundles"))};
  if (const absl::Duration grace = of.spec.return_to_preferred.grace;
      grace != absl::InfiniteDuration()) {
    notice.deadline = now_ + grace;
  }
  ForgetReturn(request);
  TellToLeave(request, notice, hold);
  KeepClass(of);
  ChargeKept(hold, +1);
  holds_.Add(std::move(hold));
}

bool Scheduler::Impl::PlaceKept(Request& request, RequestId instead_of) {
  const Hold* const kept = holds_.ReturnOf(instead_of);
  if (kept == nullptr || Find(instead_of) != nullptr) return false;
  SchedulingClass& of = *request.of;
  const RequestSpec& had = kept->of->spec;
  if (had.tenant != of.spec.tenant || had.job != of.spec.job || had.owner != of.spec.owner ||
      had.choices != of.spec.choices || had.bundles != of.spec.bundles || of.spec.is_group() ||
      of.spec.inside) {
    return false;
  }
  const std::vector<HoldPart> parts = kept->parts;
  const bool good = std::all_of(parts.begin(), parts.end(), [&](const HoldPart& part) {
    return part.full() && Takes(of, part.choice, *part.node);
  });
  request.level = kept->level;
  DropHold(kept->id, /*spare_victims=*/false);
  if (!good) return false;
  if (decisions_.surveys()) {
    SurveyBefore(of, Room{.node = parts[0].node, .choice = parts[0].choice});
  }
  for (const HoldPart& part : parts) PlaceKept(request, part);
  Granted(request);
  return true;
}

// On the very devices that were kept.
void Scheduler::Impl::PlaceKept(Request& request, const HoldPart& part) {
  const int number = static_cast<int>(request.bundles.size());
  Placement& placement = request.bundles.emplace_back().placement;
  placement = {.node = part.node->id,
               .choice = part.choice,
               .resources = part.needs,
               .devices = part.devices};
  std::sort(placement.devices.begin(), placement.devices.end(),
            [](GpuShare a, GpuShare b) { return a.device < b.device; });
  const bool room = part.node->free.TakeHeld(part.needs, placement.devices);
  MUSTER_CHECK(room);
  BeginBundle(request, number, *part.node);
}

// Who has given nothing back yet may stay, and may be told another time.
void Scheduler::Impl::SpareReturning(const Hold& hold) {
  const Request* const request = Find(hold.request);
  if (request == nullptr || request->Has(Bundle::State::kEnded)) return;
  const auto revoked = [&](LeaseId lease) {
    const Leaving::Entry* const told = leaving_.Find(lease);
    return told != nullptr && told->revoked;
  };
  if (std::any_of(hold.victims.begin(), hold.victims.end(), revoked)) return;
  for (const LeaseId& lease : hold.victims) {
    const Leaving::Entry* const told = leaving_.Find(lease);
    if (told != nullptr && told->notice.reason == hold.reason) Spare(lease);
  }
  AwaitReturn(*request);
}

// As a request of it would, while room is kept for none that is there.
void Scheduler::Impl::KeepClass(SchedulingClass& of) {
  cluster_.Use(&of);
  if (of.tenant == nullptr) of.tenant = tenants_.Enter(of.spec.tenant);
}

void Scheduler::Impl::CheckReturns() const {
  for (const auto& [due, id] : returns_) {
    const Request* const request = Find(id);
    MUSTER_CHECK(request != nullptr);
    MUSTER_CHECK(request->granted());
    MUSTER_CHECK(request->of->spec.return_to_preferred.moves > 0);
    MUSTER_CHECK(due == ReturnDue(*request));
  }
  for (const auto& [id, hold] : holds_.all()) {
    if (!hold.returns()) continue;
    const Request* const request = Find(hold.request);
    MUSTER_CHECK((request == nullptr) == (hold.until != absl::InfiniteFuture()));
    MUSTER_CHECK(request == nullptr || !returns_.contains({ReturnDue(*request), request->id}));
    MUSTER_CHECK(hold.of->requests > 0);
  }
}

}  // namespace muster::sched
