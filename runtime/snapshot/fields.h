// The members of what is written as JSON, one table for each struct: a member's name, the value,
// and the default where that is not the empty value. Members with their default are left out of
// what is written, and what is left out has its default when read. README.md has the form in
// words.
//
// To add a field to a spec, a node, the configuration, ...: one line here.
#pragma once

#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/events.h"
#include "scheduler/snapshot.h"

namespace muster::snapshot {

// What a table gets: the value itself by a reader, a const one by a writer.
template <typename A, typename T>
using In = typename A::template Value<T>;

// The words for the values of an enumeration, in their order.
template <typename T>
inline constexpr const char* kWords[] = {nullptr};
template <>
inline constexpr const char* kWords<sched::SnapshotBundle::State>[] = {"missing", "running",
                                                                       "closing", "ended"};
template <>
inline constexpr const char* kWords<sched::DecisionDetail>[] = {"off", "sampled", "all"};
template <>
inline constexpr const char* kWords<sched::PlacementPolicy>[] = {"pack", "best-fit", "spread"};
template <>
inline constexpr const char* kWords<sched::NodeState>[] = {"alive", "unreachable", "draining",
                                                           "lost"};
template <>
inline constexpr const char* kWords<sched::LeavingReason>[] = {
    "draining", "unhealthy", "preempted", "recalled", "return_to_preferred", "group_ended"};

// --- Requests ---

template <typename A>
void Fields(A& a, In<A, sched::Resources>& resources) {
  a.Amount("cpus", resources.cpus);
  a.Amount("gpus", resources.gpus);
  a("memory_bytes", resources.memory_bytes);
  a.Amounts("custom", resources.custom);
}

template <typename A>
void Fields(A& a, In<A, sched::Choice>& choice) {
  a("selector", choice.selector);
  a("resources", choice.resources);
  a("after", choice.after);
  a.Findings("advance_on", choice.advance_on);
}

template <typename A>
void Fields(A& a, In<A, sched::BundleSpec>& bundle) {
  a("choices", bundle.choices);
}

template <typename A>
void Fields(A& a, In<A, sched::GroupShape>& shape) {
  a("bundles", shape.bundles);
  a("strategy", shape.strategy);
  a("after", shape.after);
  a.Findings("advance_on", shape.advance_on);
}

template <typename A>
void Fields(A& a, In<A, sched::InsideGroup>& inside) {
  a("group", inside.group);
  a("bundle", inside.bundle, -1);
}

template <typename A>
void Fields(A& a, In<A, sched::NodeAffinity>& affinity) {
  a("node", affinity.node);
  a("soft", affinity.soft);
}

template <typename A>
void Fields(A& a, In<A, sched::ReturnToPreferred>& back) {
  a("moves", back.moves);
  a("after", back.after, absl::Minutes(10));
  a("grace", back.grace, absl::Minutes(5));
}

template <typename A>
void Fields(A& a, In<A, sched::RequestSpec>& spec) {
  a("name", spec.name);
  a("owner", spec.owner);
  a("bundles", spec.bundles, 1);
  a("priority", spec.priority);
  a("fail_if_infeasible", spec.fail_if_infeasible);
  a("placement", spec.placement);
  a("affinity", spec.affinity);
  a("avoid", spec.avoid);
  a("tenant", spec.tenant);
  a("job", spec.job);
  a("expected_duration", spec.expected_duration, absl::InfiniteDuration());
  a("preemptible", spec.preemptible, true);
  a("return_to_preferred", spec.return_to_preferred, sched::ReturnToPreferred{});
  a("choices", spec.choices);
  a("strategy", spec.strategy);
  a("shapes", spec.shapes);
  a("inside", spec.inside);
}

// --- Where things are ---

template <typename A>
void Fields(A& a, In<A, sched::GpuShare>& share) {
  a("device", share.device);
  a.Amount("amount", share.amount);
}

template <typename A>
void Fields(A& a, In<A, sched::Placement>& placement) {
  a("node", placement.node);
  a("choice", placement.choice);
  a("resources", placement.resources);
  a("devices", placement.devices);
}

template <typename A>
void Fields(A& a, In<A, sched::NodeResources>& total) {
  a.Amount("cpus", total.cpus);
  a("gpus", total.gpu_devices);
  a("memory_bytes", total.memory_bytes);
  a.Amounts("custom", total.custom);
}

template <typename A>
void Fields(A& a, In<A, sched::Notice>& notice) {
  a("request", notice.request);
  a("bundle", notice.bundle);
  a("reason", notice.reason);
  a("deadline", notice.deadline);
  a("why", notice.why);
}

// --- Between jobs ---

template <>
inline constexpr const char* kWords<sched::Ordering>[] = {"fair", "fifo"};
template <>
inline constexpr const char* kWords<sched::Backfill>[] = {"greedy", "none", "easy", "conservative"};

template <typename A>
void Fields(A& a, In<A, sched::SharingConfig>& sharing) {
  a("ordering", sharing.ordering);
  a("backfill", sharing.backfill);
  a("reservations_max", sharing.reservations_max, 64);
  a("duration_default", sharing.duration_default, absl::Hours(1));
  a("preemption", sharing.preemption);
  a("preemption_grace", sharing.preemption_grace, absl::Seconds(30));
  a("time_slice", sharing.time_slice, absl::InfiniteDuration());
  a("recall_grace", sharing.recall_grace, absl::InfiniteDuration());
}

template <typename A>
void Fields(A& a, In<A, sched::TenantSet>& tenant) {
  a("tenant", tenant.tenant);
  a("weight_milli", tenant.weight_milli, sched::kWeightUnit);
}

template <typename A>
void Fields(A& a, In<A, sched::Quota>& quota) {
  a("name", quota.name);
  a("tenant", quota.tenant);
  a("job", quota.job);
  a("selector", quota.selector);
  a.Amounts("limits", quota.limits);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotHoldPart>& part) {
  a("node", part.node);
  a("needs", part.needs);
  a("choice", part.choice);
  a("has", part.has);
  a("devices", part.devices);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotVictim>& victim) {
  a("request", victim.request);
  a("bundle", victim.bundle);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotHold>& hold) {
  a("class", hold.of);
  a("request", hold.request);
  a("reason", hold.reason, sched::LeavingReason::kPreempted);
  a("level", hold.level);
  a("until", hold.until, absl::InfiniteFuture());
  a("parts", hold.parts);
  a("victims", hold.victims);
}

// --- A snapshot ---

template <typename A>
void Fields(A& a, In<A, sched::SchedulerConfig>& config) {
  a("waiting_requests_max", config.waiting_requests_max, int64_t{2'000'000});
  a("waiting_per_tenant_max", config.waiting_per_tenant_max, int64_t{1'000'000});
  a("start", config.start, absl::InfinitePast());
  a("infeasible_grace", config.infeasible_grace);
  a("adoption_timeout", config.adoption_timeout, absl::Seconds(30));
  a("hierarchy", config.hierarchy, sched::DefaultHierarchy());
  a("overtaken_max", config.overtaken_max, int64_t{64});
  a("reservation_after", config.reservation_after, absl::Minutes(1));
  a("placement", config.placement);
  a("avoid_for", config.avoid_for, absl::Seconds(10));
  a("quarantine_grace", config.quarantine_grace, absl::Seconds(30));
  a("return_patience", config.return_patience, absl::Seconds(10));
  a("lost_nodes_kept", config.lost_nodes_kept, 100);
  a("idle_classes_kept", config.idle_classes_kept, 256);
  a("decisions_kept", config.decisions_kept, 4096);
  a("decision_detail", config.decision_detail);
  a("sharing", config.sharing);
}

template <typename A>
void Fields(A& a, In<A, sched::QuarantineView>& out) {
  a("gpu", out.device);
  a("reason", out.reason);
  a("leave_by", out.leave_by, absl::UnixEpoch());
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotNode>& node) {
  a("node", node.node);
  a("name", node.name);
  a("labels", node.labels);
  a("total", node.total);
  a("reachable", node.reachable, true);
  a("draining", node.draining);
  a("deadline", node.deadline);
  a("drain_reason", node.drain_reason);
  a("said_empty", node.said_empty);
  a("quarantined", node.quarantined);
}

template <typename A>
void Fields(A& a, In<A, sched::NodeView>& lost) {
  a("node", lost.node);
  a("name", lost.name);
  a("state", lost.state, sched::NodeState::kLost);
  a("labels", lost.labels);
  a("total", lost.total);
  a("used", lost.used);
  a("deadline", lost.deadline);
  a("drain_reason", lost.drain_reason);
  a("empty", lost.empty, true);
  a("quarantined", lost.quarantined);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotClass>& of) {
  a("class", of.id);
  a("spec", of.spec);
  a("idle_since", of.idle_since);
  a("durations", of.durations);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotBundle>& bundle) {
  a("state", bundle.state, sched::SnapshotBundle::State::kRunning);
  a("blocked", bundle.blocked);
  a("may_overcommit", bundle.may_overcommit);
  a("adopted", bundle.adopted);
  a("inside", bundle.inside, -1);
  a("placement", bundle.placement);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotRequest>& request) {
  a("request", request.request);
  a("class", request.of);
  a("arrival", request.arrival);
  a("since", request.since, absl::UnixEpoch());
  a("opened_at", request.opened_at, request.since);
  a("open", request.open, 1);
  a("waited", request.waited);
  a("avoids_until", request.avoids_until, absl::InfinitePast());
  a("bundles", request.bundles);
  a("adopt_by", request.adopt_by);
  a("shape", request.shape);
  a("level", request.level);
  a("broken", request.broken);
  a("closing", request.closing);
  a("removed", request.removed);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotReservation>& reservation) {
  a("group", reservation.group);
  a("since", reservation.since, absl::UnixEpoch());
  a("overtaken", reservation.overtaken);
  a("planned_at", reservation.planned_at);
  a("nodes", reservation.nodes);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotLeaving>& leaving) {
  a("notice", leaving.notice);
  a("revoked", leaving.revoked);
}

template <typename A>
void Fields(A& a, In<A, sched::SnapshotDemand>& demand) {
  a.Amount("gpus", demand.gpus);
  a.Amount("cpus", demand.cpus);
  a("kinds", demand.kinds);
  a("count", demand.count);
  a("memory_mib", demand.memory_mib);
  a("typical_count", demand.typical_count);
  a("typical_memory_mib", demand.typical_memory_mib);
}

template <typename A>
void Fields(A& a, In<A, sched::Snapshot>& snapshot) {
  a("config", snapshot.config);
  a("now", snapshot.now, absl::UnixEpoch());
  a("next_arrival", snapshot.next_arrival, uint64_t{1});
  a("next_class", snapshot.next_class, uint64_t{1});
  a("next_idle", snapshot.next_idle, uint64_t{1});
  a("nodes", snapshot.nodes);
  a("lost_nodes", snapshot.lost_nodes);
  a("classes", snapshot.classes);
  a("requests", snapshot.requests);
  a("leaving", snapshot.leaving);
  a("tenants", snapshot.tenants);
  a("quotas", snapshot.quotas);
  a("holds", snapshot.holds);
  a("reservation", snapshot.reservation);
  a("demand", snapshot.demand);
}

template <typename A>
void Fields(A& a, In<A, TaskOfRequest>& task) {
  a("task", task.task);
  a("request", task.request);
}

template <typename A>
void Fields(A& a, In<A, SnapshotFile>& file) {
  a("muster", file.muster);
  a("head", file.head);
  a("tasks", file.tasks);
  Fields(a, file.snapshot);
}

// --- Events ---

template <typename A>
void Fields(A& a, In<A, sched::HeldLease>& held) {
  a("request", held.request);
  a("bundle", held.bundle);
  a("spec", held.spec);
  a("placement", held.placement);
  a("shape", held.shape);
  a("level", held.level);
}
template <typename A>
void Fields(A& a, In<A, sched::NodeDraining>& event) {
  a("node", event.node);
  a("deadline", event.deadline);
  a("reason", event.reason);
  a("draining", event.draining, true);
}
template <typename A>
void Fields(A& a, In<A, sched::DeviceHealth>& event) {
  a("node", event.node);
  a("gpu", event.device);
  a("healthy", event.healthy);
  a("reason", event.reason);
}
template <typename A>
void Fields(A& a, In<A, sched::NodeJoined>& event) {
  a("node", event.node);
  a("name", event.name);
  a("labels", event.labels);
  a("total", event.total);
  a("held", event.held);
  a("drain", event.drain);
  a("unhealthy", event.unhealthy);
}
template <typename A>
void Fields(A& a, In<A, sched::NodeChanged>& event) {
  a("node", event.node);
  a("labels", event.labels);
}
template <typename A>
void Fields(A& a, In<A, sched::NodeReachable>& event) {
  a("node", event.node);
  a("reachable", event.reachable, true);
}
template <typename A>
void Fields(A& a, In<A, sched::NodeLost>& event) {
  a("node", event.node);
}
template <typename A>
void Fields(A& a, In<A, sched::Requested>& event) {
  a("request", event.request);
  a("spec", event.spec);
  a("placed_shape", event.placed_shape, -1);
  a("instead_of", event.instead_of);
}
template <typename A>
void Fields(A& a, In<A, sched::RequestCancelled>& event) {
  a("request", event.request);
}
template <typename A>
void Fields(A& a, In<A, sched::LeaseFinished>& event) {
  a("request", event.request);
  a("bundle", event.bundle);
}
template <typename A>
void Fields(A& a, In<A, sched::LeaseBlocked>& event) {
  a("request", event.request);
  a("bundle", event.bundle);
  a("blocked", event.blocked, true);
}
template <typename A>
void Fields(A& a, In<A, sched::QuotaSet>& event) {
  a("quota", event.quota);
}
template <typename A>
void Fields(A& a, In<A, sched::QuotaRemoved>& event) {
  a("name", event.name);
}
template <typename A>
void Fields(A&, In<A, sched::Tick>&) {}

// One name for each kind of event.
template <typename A>
void Kinds(A& a, In<A, decltype(sched::Event::what)>& what) {
  a.template Kind<sched::NodeJoined>("join", what);
  a.template Kind<sched::NodeChanged>("change", what);
  a.template Kind<sched::NodeReachable>("reachable", what);
  a.template Kind<sched::NodeDraining>("drain", what);
  a.template Kind<sched::DeviceHealth>("health", what);
  a.template Kind<sched::NodeLost>("lost", what);
  a.template Kind<sched::Requested>("request", what);
  a.template Kind<sched::RequestCancelled>("cancel", what);
  a.template Kind<sched::LeaseFinished>("finish", what);
  a.template Kind<sched::LeaseBlocked>("blocked", what);
  a.template Kind<sched::TenantSet>("tenant", what);
  a.template Kind<sched::QuotaSet>("quota", what);
  a.template Kind<sched::QuotaRemoved>("quota_removed", what);
  a.template Kind<sched::Tick>("tick", what);
}

}  // namespace muster::snapshot
