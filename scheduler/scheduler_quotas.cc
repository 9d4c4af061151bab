// Quotas in the scheduler: what they count, and which nodes they close to whom. See sharing.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

void Scheduler::Impl::On(const QuotaSet& event) {
  if (!Validate(event.quota).ok()) return;
  quotas_.Set(event.quota);
  for (const Node* node : cluster_.nodes()) {  // All anew: a change is rare.
    quotas_.RemoveNode(node->id);
    quotas_.AddNode(*node);
  }
  quotas_.ForgetUse();
  for (const Node* node : cluster_.nodes()) ChargeAgain(*node, +1);
  quota_freed_ = true;
}

void Scheduler::Impl::On(const QuotaRemoved& event) {
  if (!quotas_.Remove(event.name)) return;
  quota_freed_ = true;
  if (!quotas_.empty()) return;
  for (const auto& [key, of] : order_) of->quota_closed = 0;
}

// A blocked lease lends its CPUs; it takes them back whatever the quota says.
Resources Scheduler::Impl::QuotaHeld(const Bundle& bundle) {
  Resources held = bundle.placement.resources;
  if (bundle.blocked) held.cpus = 0;
  return held;
}

void Scheduler::Impl::ChargeQuotas(const RequestSpec& spec, NodeId node, const Resources& held,
                                   int64_t sign) {
  if (!quotas_.Charge(spec, node, held, sign)) return;
  (sign > 0 ? quota_used_ : quota_freed_) = true;
}

void Scheduler::Impl::ChargeAgain(const Node& node, int64_t sign) {
  if (quotas_.empty()) return;
  for (const LeaseId& lease : node.leases) {
    const Request& request = *Find(lease.first);
    if (request.of->spec.inside) continue;  // Its group is charged.
    ChargeQuotas(request.of->spec, node.id, QuotaHeld(request.bundles[lease.second]), sign);
  }
  for (const auto& [id, hold] : holds_.all()) {
    if (hold.returns()) ChargeKept(hold, node, sign);
  }
  (sign > 0 ? quota_used_ : quota_freed_) = true;
}

// What is kept for a return counts as if it ran there already.
void Scheduler::Impl::ChargeKept(const Hold& hold, const Node& node, int64_t sign) {
  if (quotas_.empty()) return;
  for (const HoldPart& part : hold.parts) {
    if (part.node == &node) ChargeQuotas(hold.of->spec, node.id, part.needs, sign);
  }
}

void Scheduler::Impl::ChargeKept(const Hold& hold, int64_t sign) {
  if (quotas_.empty()) return;
  for (const HoldPart& part : hold.parts) {
    ChargeQuotas(hold.of->spec, part.node->id, part.needs, sign);
  }
}

// The nodes that quotas close to `choice`; false: none does.
bool Scheduler::Impl::CloseByQuota(const SchedulingClass& of, int choice,
                                   ClosedNodes& closed) const {
  const std::vector<const Quotas::Entry*> entries = quotas_.Closed(of.spec, choice);
  for (const Quotas::Entry* entry : entries) {
    for (const NodeId node : entry->nodes) closed.Close(cluster_.FindNode(node));
  }
  return !entries.empty();
}

// Among the nodes of `only`, or among all where that is null.
std::optional<Room> Scheduler::Impl::FindWithinQuota(const SchedulingClass& of, int first, int open,
                                                     const std::vector<Node*>* only) const {
  const auto find = [&](int from, int to) {
    return only != nullptr ? FindRoom(of, to, *only, from)
                           : FindRoom(of, to, cluster_.index(), from);
  };
  // A group's are closed for all of it, before its first bundle.
  if (quotas_.empty() || of.spec.bundles > 1) return find(first, open);
  for (int choice = first; choice < open; ++choice) {
    ClosedNodes closed;
    CloseByQuota(of, choice, closed);
    if (const std::optional<Room> room = find(choice, choice + 1)) return room;
  }
  return std::nullopt;
}

uint64_t Scheduler::Impl::ClosedChoices(const SchedulingClass& of, int open, bool& limited) const {
  uint64_t bits = 0;
  limited = false;
  for (int choice = 0; choice < open; ++choice) {
    ClosedNodes closed;
    if (!CloseByQuota(of, choice, closed)) continue;
    limited = true;
    const Resources& needs = of.spec.choices[choice].resources;
    const bool any =
        std::any_of(cluster_.nodes().begin(), cluster_.nodes().end(), [&](const Node* node) {
          return node->closed == 0 && MayUse(of.spec, *node) &&
                 SelectorIndex::Selected(*node, of.selectors[choice]) && node->empty().Fits(needs);
        });
    if (!any) bits |= uint64_t{1} << choice;
  }
  return bits;
}

// As of now: what was placed in this round may have used it up.
bool Scheduler::Impl::WaitsForQuota(const SchedulingClass& of) const {
  bool limited = false;
  if (!quotas_.empty()) ClosedChoices(of, of.head()->open, limited);
  return limited;
}

void Scheduler::Impl::LookAtQuotas() {
  if (!quota_used_ && !quota_freed_ &&
      (quotas_.empty() || !(topology_changed_ || look_at_all_ || !touched_.empty())))
    return;
  std::vector<SchedulingClass*> classes;
  for (const auto& [key, of] : order_) classes.push_back(of);
  for (SchedulingClass* of : classes) {
    const bool was_limited = of->quota_limited;
    const uint64_t before = of->quota_closed;
    of->quota_closed = ClosedChoices(*of, of->head()->open, of->quota_limited);
    if (of->quota_closed != before) Touch(*of);
    if (!was_limited || !quota_freed_) continue;
    LookAgain(*of);
  }
  quota_used_ = quota_freed_ = false;
}

// Wherever its bundles lie to each other.
bool Scheduler::Impl::HasRoomAnywhere(const SchedulingClass& of, const Request& head) const {
  const ClosedNodes avoided(Avoids(head) ? AvoidedNodes(cluster_, of.spec) : std::vector<Node*>{});
  const std::vector<Node*> nodes = NodesFor(of.spec);
  if (quotas_.empty()) return HasRoomForAll(of, head.open, nodes);
  ClosedNodes closed;
  if (of.spec.bundles > 1) {
    for (int choice = 0; choice < head.open; ++choice) CloseByQuota(of, choice, closed);
    return HasRoomForAll(of, head.open, nodes);
  }
  return FindWithinQuota(of, 0, head.open, &nodes).has_value();
}

std::vector<QuotaView> Scheduler::Impl::QuotaViews() const {
  std::vector<QuotaView> views;
  for (const auto& [name, entry] : quotas_.entries()) {
    views.push_back({.quota = entry.quota, .used = entry.used});
  }
  return views;
}

// "quota h100 of tenant a: 8 GPUs of 8 GPUs used on accelerator-type=H100"
static std::string UseText(const Quotas::Entry& entry, const std::string& limit) {
  const Quota& quota = entry.quota;
  const std::string whose = !quota.tenant.empty() ? absl::StrCat(" of tenant ", quota.tenant)
                            : !quota.job.empty()  ? absl::StrCat(" of job ", quota.job)
                                                  : "";
  return absl::StrCat("quota ", quota.name, whose, ": ", LimitText(limit, entry.used.at(limit)),
                      " of ", LimitText(limit, quota.limits.at(limit)), " used",
                      quota.selector.empty() ? "" : absl::StrCat(" on ", ToText(quota.selector)));
}

// For a request that waits: where a quota closes nodes to an open choice, which it is.
void Scheduler::Impl::ExplainQuotas(const Request& request, Explanation& explanation) const {
  const SchedulingClass& of = *request.of;
  absl::btree_set<std::string> said;
  for (int choice = 0; choice < request.open && !quotas_.empty(); ++choice) {
    for (const Quotas::Entry* entry : quotas_.Closed(of.spec, choice)) {
      const std::string* const limit =
          entry->Exceeded(of.spec.choices[choice].resources, of.spec.bundles);
      const std::string text = UseText(*entry, *limit);
      if ((of.quota_closed >> choice & 1) != 0) {
        explanation.choices[choice].why = absl::StrCat("kept back by ", text);
        explanation.what_would_help = absl::StrCat("room under quota ", entry->quota.name);
      } else if (said.insert(entry->quota.name).second) {
        explanation.between_jobs.push_back(
            absl::StrCat("Choice ", choice + 1, " is kept off some nodes by ", text));
      }
    }
  }
}
}  // namespace muster::sched
