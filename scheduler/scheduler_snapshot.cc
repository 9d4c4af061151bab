// All that a scheduler knows, as a value.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/scheduler_impl.h"
#include "scheduler/snapshot.h"

namespace muster::sched {
namespace {

SnapshotNode NodeOf(const Node& node) {
  return {.node = node.id,
          .name = node.name,
          .labels = node.labels,
          .total = node.total,
          .reachable = node.reachable,
          .draining = node.draining,
          .deadline = node.deadline,
          .drain_reason = node.drain_reason,
          .said_empty = node.said_empty,
          .quarantined = node.View().quarantined};
}

SnapshotBundle BundleOf(const Bundle& bundle) {
  return {.state = static_cast<SnapshotBundle::State>(bundle.state),
          .blocked = bundle.blocked,
          .may_overcommit = bundle.may_overcommit,
          .adopted = bundle.adopted,
          .inside = bundle.inside,
          .placement = bundle.placement};
}

SnapshotRequest RequestOf(const Request& request) {
  SnapshotRequest to{
      .request = request.id,
      .of = request.of->id,
      .arrival = request.arrival,
      .since = request.since,
      .opened_at = request.opened_at,
      .open = request.open,
      .waited = request.waited,
      .avoids_until = request.avoids_until,
      .adopt_by = request.awaits_missing() ? std::optional(request.adopt_by) : std::nullopt,
      .shape = request.shape,
      .level = request.level,
      .broken = request.broken,
      .closing = request.closing,
      .removed = request.removed};
  for (const Bundle& bundle : request.bundles) to.bundles.push_back(BundleOf(bundle));
  return to;
}

SnapshotHold HoldOf(const Hold& hold) {
  SnapshotHold to{.of = hold.of->id,
                  .request = hold.request,
                  .reason = hold.reason,
                  .level = hold.level,
                  .until = hold.until};
  for (const LeaseId& lease : hold.victims) {
    to.victims.push_back({.request = lease.first, .bundle = lease.second});
  }
  for (const HoldPart& part : hold.parts) {
    to.parts.push_back({.node = part.node->id,
                        .choice = part.choice,
                        .needs = part.needs,
                        .has = part.has,
                        .devices = part.devices});
  }
  return to;
}

LabelSelector SelectorOf(const LabelRequirement& kinds) {
  if (kinds.key.empty()) return {};
  absl::StatusOr<LabelSelector> selector = LabelSelector::Parse({{kinds.key, kinds.ToText()}});
  MUSTER_CHECK(selector.ok());
  return *std::move(selector);
}

}  // namespace

Snapshot Scheduler::Impl::TakeSnapshot() const {
  Snapshot to;
  to.config = config_;
  to.now = now_;
  to.next_arrival = next_arrival_;
  to.next_class = cluster_.counters().next_class;
  to.next_idle = cluster_.counters().next_idle;
  for (const Node* node : cluster_.nodes()) to.nodes.push_back(NodeOf(*node));
  to.lost_nodes.assign(cluster_.lost_nodes().begin(), cluster_.lost_nodes().end());
  for (const auto& [id, of] : cluster_.classes()) {
    to.classes.push_back({.id = id,
                          .spec = of->handle,
                          .idle_since = of->idle_since.value_or(0),
                          .durations = of->durations.values()});
  }
  to.requests.reserve(requests_.size());
  for (const Request* request : requests_) to.requests.push_back(RequestOf(*request));
  // They came in no order.
  std::sort(
      to.requests.begin(), to.requests.end(),
      [](const SnapshotRequest& a, const SnapshotRequest& b) { return a.arrival < b.arrival; });
  for (const auto& [lease, entry] : leaving_.told()) {
    to.leaving.push_back({.notice = entry.notice, .revoked = entry.revoked});
  }
  for (const Tenant* tenant : tenants_.InOrder()) {
    if (!tenant->weight_set) continue;
    to.tenants.push_back({.tenant = tenant->name, .weight_milli = tenant->weight_milli});
  }
  for (const auto& [name, entry] : quotas_.entries()) to.quotas.push_back(entry.quota);
  for (const auto& [id, hold] : holds_.all()) to.holds.push_back(HoldOf(hold));
  to.reservation = {.group = reservation_.group,
                    .since = reservation_.since,
                    .overtaken = reservation_.overtaken,
                    .planned_at = reservation_.planned_at};
  for (const Node* node : reservation_.nodes) to.reservation.nodes.push_back(node->id);
  for (const auto& [shape, of] : cluster_.packing().demand().shapes()) {
    to.demand.push_back({.gpus = shape.gpus,
                         .cpus = shape.cpus,
                         .kinds = SelectorOf(shape.kinds),
                         .count = of->count,
                         .memory_mib = of->memory_mib,
                         .typical_count = of->typical_count,
                         .typical_memory_mib = of->typical_memory_mib});
  }
  return to;
}

}  // namespace muster::sched
