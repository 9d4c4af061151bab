// Between jobs: what tenants hold, whose turn it is, and what is said of both. The rules are in
// sharing.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

void Scheduler::Impl::On(const TenantSet& event) {
  if (!ValidateTenantName("tenant", event.tenant).ok()) return;
  tenants_.SetWeight(event.tenant, event.weight_milli);
  changed_ = true;
}

void Scheduler::Impl::Charge(const Request& request, const Bundle& bundle, int64_t sign) {
  const SchedulingClass& of = *request.of;
  tenants_.Charge(*of.tenant, bundle.placement.resources, sign);
  if (config_.sharing.preemption && of.spec.preemptible) {
    const auto at = preemptible_.emplace(of.spec.priority, 0).first;
    at->second += sign;
    if (at->second == 0) preemptible_.erase(at);
  }
  if (quotas_.empty()) return;
  ChargeQuotas(of.spec, bundle.placement.node, QuotaHeld(bundle), sign);
}

// --- Turns ---

void Scheduler::Impl::PlaceInTurns() {
  if (PlansAhead()) {
    PlaceByPlan();
    return;
  }
  const bool strict = config_.sharing.backfill == Backfill::kNone;
  Turns turns(tenants_, ByShare());
  // What could be taken from others may have grown with a node too, whatever room there is.
  if (strict || (MayPreempt() && !grown_.empty())) {
    for (const auto& [key, of] : order_) turns.Put(of->head());
  } else {
    for (const auto& [key, of] : ready_) turns.Put(of->head());
    FindCandidates(std::nullopt);
    for (SchedulingClass* of : candidates_) {
      if (!of->indexed_ready) turns.Put(of->head());
    }
    DropCandidates();
  }
  bool held_back = false;  // Strict: what comes after the first that waits.
  while (Request* const next = turns.Next()) {
    SchedulingClass& of = *next->of;
    // What runs inside a group waits for that alone, and takes nothing from others.
    if (held_back && !of.spec.inside && !IsAwaited(of.spec)) continue;
    if (strict) of.blocked = false;  // What grew while others blocked it was not noted.
    const bool placed = PlaceHead(of) || PreemptFor(of);
    if (!placed) of.blocked = true;
    Reindex(of);
    if (placed && of.waits()) turns.Put(of.head());
    held_back =
        held_back || (strict && !placed && !of.spec.inside && !WaitsForQuota(of) && of.Feasible());
    if (held_back && blocked_jobs_.empty() && inside_.empty()) break;
  }
  grown_.clear();
}

// --- Blocked leases ---

void Scheduler::Impl::CountBlocked(const RequestSpec& spec, int64_t sign) {
  const std::pair<std::string, std::string> job = {spec.tenant, spec.job};
  int64_t& count = blocked_jobs_[job];
  count += sign;
  const bool first = count == 1 && sign > 0;
  if (count == 0) blocked_jobs_.erase(job);
  if (!first) return;
  changed_ = true;
  for (const auto& [key, of] : order_) {  // They may be placed where they could not.
    if (of->spec.tenant != spec.tenant || of->spec.job != spec.job) continue;
    of->blocked = false;
    Reindex(*of);
  }
}

// A recall that waits for the end of the running task could wait for ever.
void Scheduler::Impl::SpareBlocked(LeaseId lease) {
  const Leaving::Entry* const told = leaving_.Find(lease);
  if (told == nullptr || told->notice.reason != LeavingReason::kRecalled || told->notice.deadline) {
    return;
  }
  std::vector<uint64_t> ids;
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.reason != LeavingReason::kRecalled) continue;
    if (std::find(hold.victims.begin(), hold.victims.end(), lease) == hold.victims.end()) continue;
    ids.push_back(id);
  }
  for (const uint64_t id : ids) {
    LookAgain(*holds_.all().at(id).of);
    DropHold(id, /*spare_victims=*/true);
  }
}

// --- What is said and checked ---

std::vector<TenantView> Scheduler::Impl::TenantViews() const {
  std::vector<TenantView> views;
  for (const Tenant* tenant : tenants_.InOrder()) {
    TenantView view{.name = tenant->name,
                    .weight_milli = tenant->weight_milli,
                    .share = tenants_.ShareOf(*tenant),
                    .used = tenant->used,
                    .leases = tenant->leases};
    view.waiting = tenant->waiting;
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<std::string> Scheduler::Impl::BetweenJobs(const Request& request) const {
  std::vector<std::string> lines;
  const SchedulingClass& of = *request.of;
  if (request.granted()) {
    for (size_t bundle = 0; bundle < request.bundles.size(); ++bundle) {
      const Leaving::Entry* const told = leaving_.Find({request.id, static_cast<int>(bundle)});
      if (told == nullptr) continue;
      const std::string by =
          told->revoked ? ", and its time is over"
          : told->notice.deadline
              ? absl::StrCat(" within ", ShortDuration(*told->notice.deadline - now_))
              : " when its running task is done";
      lines.push_back(absl::StrCat("It is to leave (", ToString(told->notice.reason), ")", by, ": ",
                                   told->notice.why));
      break;  // The others say the same.
    }
    if (lines.empty() && returns_.contains({ReturnDue(request), request.id})) {
      const int moves = of.spec.return_to_preferred.moves;
      lines.push_back(absl::StrCat("It returns to an earlier choice once that has room (", moves,
                                   moves == 1 ? " move" : " moves", " left)"));
    }
    return lines;
  }
  if (ByShare()) {
    absl::btree_set<std::string> first;
    for (const auto& [key, other] : order_) {
      if (other->spec.priority == of.spec.priority && other->tenant != of.tenant &&
          tenants_.TurnOf(*other->tenant) < tenants_.TurnOf(*of.tenant)) {
        first.insert(other->tenant->name);
      }
    }
    if (!first.empty()) {
      lines.push_back(absl::StrCat(first.size(), first.size() == 1 ? " tenant" : " tenants",
                                   " with a lower share ", first.size() == 1 ? "comes" : "come",
                                   " first"));
    }
  }
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.of != &of) continue;
    int64_t running = 0;
    absl::Time last = absl::InfinitePast();
    for (const LeaseId& lease : hold.victims) {
      const Leaving::Entry* const told = leaving_.Find(lease);
      if (told == nullptr) continue;
      ++running;
      last = std::max(last, told->notice.deadline.value_or(absl::InfiniteFuture()));
    }
    lines.push_back(
        absl::StrCat(running, running == 1 ? " lease is" : " leases are", " told to leave for it (",
                     ToString(hold.reason), ")",
                     last == absl::InfiniteFuture() || last <= now_
                         ? ""
                         : absl::StrCat(", in ", ShortDuration(last - now_), " at the latest"),
                     "; what they give back is kept for it"));
    break;
  }
  return lines;
}

void Scheduler::Impl::CheckSharing() const {
  // Shares add up, and each quota counts what runs under it.
  absl::btree_map<std::string, Resources> used;
  absl::btree_map<std::string, int64_t> leases;
  absl::btree_map<std::pair<std::string, std::string>, int64_t> under;
  absl::btree_map<int, int64_t> preemptible;
  Resources totals;
  for (const Node* node : cluster_.nodes()) {
    MUSTER_CHECK(node->closed == 0);
    totals.cpus += node->total.cpus;
    totals.gpus += node->total.gpu_devices * Amount::kUnit;
    totals.memory_bytes += node->total.memory_bytes;
    for (const LeaseId& lease : node->leases) {
      const Request& request = *Find(lease.first);
      const RequestSpec& spec = request.of->spec;
      if (spec.inside) continue;  // Its group is charged.
      const Bundle& bundle = request.bundles[lease.second];
      const Resources& held = bundle.placement.resources;
      Resources& sum = used[spec.tenant];
      sum.cpus += held.cpus;
      sum.gpus += held.gpus;
      sum.memory_bytes += held.memory_bytes;
      for (const auto& [name, amount] : held.custom) sum.custom[name] += amount;
      ++leases[spec.tenant];
      if (spec.preemptible) ++preemptible[spec.priority];
      for (const auto& [name, entry] : quotas_.entries()) {
        if (!entry.Covers(spec) || !entry.quota.selector.Matches(node->labels)) continue;
        for (const auto& [limit, amount] : entry.used) {
          under[{name, limit}] += AmountOf(QuotaHeld(bundle), limit);
        }
      }
    }
  }
  for (const auto& [id, hold] : holds_.all()) {
    for (const HoldPart& part : hold.parts) {
      if (!hold.returns()) continue;
      for (const auto& [name, entry] : quotas_.entries()) {
        if (!entry.Covers(hold.of->spec) || !entry.quota.selector.Matches(part.node->labels)) {
          continue;
        }
        for (const auto& [limit, amount] : entry.used) {
          under[{name, limit}] += AmountOf(part.needs, limit);
        }
      }
    }
  }
  MUSTER_CHECK(totals.cpus == tenants_.totals().cpus);
  MUSTER_CHECK(totals.gpus == tenants_.totals().gpus);
  MUSTER_CHECK(totals.memory_bytes == tenants_.totals().memory_bytes);
  absl::btree_map<const Tenant*, int64_t> waiting;
  for (const auto& [key, of] : order_) waiting[of->tenant] += of->waiting;
  for (const Tenant* tenant : tenants_.InOrder()) {
    MUSTER_CHECK(tenant->waiting == waiting[tenant]);
    MUSTER_CHECK(tenant->used == used[tenant->name]);
    MUSTER_CHECK(tenant->leases == leases[tenant->name]);
    leases.erase(tenant->name);
  }
  MUSTER_CHECK(leases.empty());
  for (const auto& [name, entry] : quotas_.entries()) {
    for (const auto& [limit, amount] : entry.used) {
      const int64_t expected = under[{name, limit}];
      MUSTER_CHECK(amount == expected);
    }
  }
  if (config_.sharing.preemption) MUSTER_CHECK(preemptible == preemptible_);
  for (const auto& [id, of] : cluster_.classes()) {
    MUSTER_CHECK((of->tenant != nullptr) == (of->requests > 0));
    if (of->tenant != nullptr) MUSTER_CHECK(of->tenant->name == of->spec.tenant);
  }
  // Holds: of classes that wait for no fewer, on nodes there are, no part with more than it needs.
  for (const auto& [id, hold] : holds_.all()) {
    MUSTER_CHECK(holds_.CountOf(*hold.of) <= hold.of->waiting);
    MUSTER_CHECK(!hold.full() || hold.returns());
    for (const HoldPart& part : hold.parts) {
      MUSTER_CHECK(cluster_.FindNode(part.node->id) == part.node);
      MUSTER_CHECK(part.has.cpus <= part.needs.cpus);
      MUSTER_CHECK(part.has.gpus <= part.needs.gpus);
      MUSTER_CHECK(part.has.memory_bytes <= part.needs.memory_bytes);
    }
  }
}

}  // namespace muster::sched
