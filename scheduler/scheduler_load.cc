// A scheduler made from a snapshot. What makes no sense is refused, named with its value.
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/scheduler_impl.h"
#include "scheduler/snapshot.h"

namespace muster::sched {
namespace {

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckConfig(const SchedulerConfig& config) {
  if (config.waiting_requests_max < 0) {
    return Wrong("config: waiting_requests_max is ", config.waiting_requests_max);
  }
  if (config.lost_nodes_kept < 0) return Wrong("config: lost_nodes_kept is negative");
  if (config.idle_classes_kept < 0) return Wrong("config: idle_classes_kept is negative");
  if (config.sharing.reservations_max < 1) return Wrong("config: reservations_max is below 1");
  if (config.sharing.duration_default <= absl::ZeroDuration()) {
    return Wrong("config: duration_default must be positive");
  }
  if (config.adoption_timeout < absl::ZeroDuration()) {
    return Wrong("config: adoption_timeout is negative");
  }
  if (config.return_patience < absl::ZeroDuration()) {
    return Wrong("config: return_patience is negative");
  }
  return absl::OkStatus();
}

// What one class's queue relies on, requests in order of arrival.
absl::Status CheckQueue(const SchedulingClass& of) {
  const Request* older = nullptr;
  for (const Request* request : of.Queue()) {
    if (older != nullptr && older->arrival > request->arrival) {
      return Wrong("request ", older->id.ToString(), " came after request ", request->id.ToString(),
                   " of its class, but has more choices open");
    }
    older = request;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Scheduler::Impl::Load(const Snapshot& snapshot, std::vector<Action>& actions) {
  MUSTER_CHECK(requests_.empty());
  MUSTER_RETURN_IF_ERROR(CheckConfig(snapshot.config));
  now_ = snapshot.now;
  actions_ = &actions;
  for (const TenantSet& from : snapshot.tenants) On(from);
  for (const Quota& quota : snapshot.quotas) {
    MUSTER_RETURN_IF_ERROR(Validate(quota));
    quotas_.Set(quota);
  }
  MUSTER_RETURN_IF_ERROR(LoadDemand(snapshot));
  for (const SnapshotNode& from : snapshot.nodes) MUSTER_RETURN_IF_ERROR(LoadNode(from));
  for (const NodeView& view : snapshot.lost_nodes) cluster_.RestoreLost(view);

  MUSTER_RETURN_IF_ERROR(LoadClasses(snapshot));
  for (const SnapshotRequest& from : snapshot.requests) {
    if (from.arrival >= snapshot.next_arrival) {
      return Wrong("request ", from.request.ToString(), ": its arrival is not below next_arrival");
    }
    MUSTER_RETURN_IF_ERROR(LoadRequest(from));
  }
  for (const SnapshotNode& from : snapshot.nodes) MUSTER_RETURN_IF_ERROR(LoadQuarantine(from));
  next_arrival_ = snapshot.next_arrival;
  for (const SnapshotHold& from : snapshot.holds) {  // Of classes that perhaps no request is of.
    const auto of = cluster_.classes().find(from.of);
    if (from.reason == LeavingReason::kReturnToPreferred && of != cluster_.classes().end()) {
      KeepClass(*of->second);
    }
  }
  for (const auto& [id, of] : cluster_.classes()) {
    if (of->idle_since && *of->idle_since >= snapshot.next_idle) {
      return Wrong("class ", id, ": idle_since is 0, but no request is of it");
    }
    MUSTER_RETURN_IF_ERROR(CheckQueue(*of));
    if (of->waits()) RefreshFeasible(*of);
    Reindex(*of);
    of->said_infeasible = of->waits() && !InGrace() && !of->Feasible();
  }
  MUSTER_RETURN_IF_ERROR(CheckOvercommitted());
  for (const SnapshotLeaving& from : snapshot.leaving) MUSTER_RETURN_IF_ERROR(LoadLeaving(from));
  for (const SnapshotHold& from : snapshot.holds) MUSTER_RETURN_IF_ERROR(LoadHold(from));
  MUSTER_RETURN_IF_ERROR(LoadReservation(snapshot.reservation));
  cluster_.Restore({.next_class = snapshot.next_class, .next_idle = snapshot.next_idle});
  // Nothing follows from this where nothing was edited.
  look_at_all_ = true;
  Step({.at = now_, .what = Tick{}}, actions);
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadDemand(const Snapshot& snapshot) {
  for (const SnapshotDemand& from : snapshot.demand) {
    DemandShape shape{.gpus = from.gpus, .cpus = from.cpus};
    if (!from.kinds.requirements().empty()) shape.kinds = from.kinds.requirements()[0];
    const DemandCount count{.count = from.count,
                            .memory_mib = from.memory_mib,
                            .typical_count = from.typical_count,
                            .typical_memory_mib = from.typical_memory_mib};
    if (from.kinds.requirements().size() > 1 ||
        !cluster_.packing().demand().Restore(shape, count)) {
      return Wrong("demand: ", AmountToText(from.gpus), " GPUs and ", AmountToText(from.cpus),
                   " CPUs on ", from.kinds.ToString(), ", ", from.count,
                   " times: it is there already, or its counts make no sense");
    }
  }
  cluster_.packing().demand().Restored();
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadNode(const SnapshotNode& from) {
  if (cluster_.FindNode(from.node) != nullptr) {
    return Wrong("node ", from.node.ToString(), " is there twice");
  }
  MUSTER_RETURN_IF_ERROR(ValidateLabels(from.labels));
  MUSTER_RETURN_IF_ERROR(Validate(from.total));
  Node* const node = cluster_.AddNode(from.node, from.name, from.labels, from.total);
  tenants_.AddTotal(node->total, +1);
  quotas_.AddNode(*node);
  node->reachable = from.reachable;
  node->draining = from.draining;
  node->deadline = from.deadline;
  node->drain_reason = from.drain_reason;
  node->said_empty = from.said_empty;
  return absl::OkStatus();
}

// CPUs are overcommitted only by what took back what it had lent, or joined held.
absl::Status Scheduler::Impl::CheckOvercommitted() const {
  for (const Node* node : cluster_.nodes()) {
    int64_t may_overcommit = 0;
    for (const LeaseId& lease : node->leases) {
      const Bundle& bundle = Find(lease.first)->bundles[lease.second];
      if (bundle.may_overcommit && !bundle.blocked) {
        may_overcommit += bundle.placement.resources.cpus;
      }
    }
    if (node->free.cpus() < -may_overcommit) {
      return Wrong("node ", node->name, ": its leases hold more CPUs than it has");
    }
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadLeaving(const SnapshotLeaving& from) {
  const LeaseId lease = {from.notice.request, from.notice.bundle};
  if (Running(Find(lease.first), lease.second) == nullptr) {
    return Wrong("leaving: request ", lease.first.ToString(), " has no running bundle ",
                 lease.second);
  }
  if (!leaving_.Restore({.notice = from.notice, .revoked = from.revoked})) {
    return Wrong("leaving: request ", lease.first.ToString(), " bundle ", lease.second,
                 " is there twice");
  }
  if (from.notice.reason == LeavingReason::kPreempted && Find(lease.first)->of->spec.is_group()) {
    leaving_groups_.insert(lease.first);
  }
  return absl::OkStatus();
}

// After what its devices hold, which may be on those.
absl::Status Scheduler::Impl::LoadQuarantine(const SnapshotNode& from) {
  if (from.quarantined.empty()) return absl::OkStatus();
  Node& node = *cluster_.FindNode(from.node);
  for (const QuarantineView& out : from.quarantined) {
    const int last = node.quarantined.empty() ? -1 : node.quarantined.back().device;
    if (out.device <= last || out.device >= node.total.gpu_devices) {
      return Wrong("node ", node.name, ": GPU ", out.device,
                   " is in quarantine; its GPUs are numbered from 0 to ",
                   node.total.gpu_devices - 1, ", in order");
    }
    node.quarantined.push_back(
        {.device = out.device, .reason = out.reason, .leave_by = out.leave_by});
    node.free.SetDeviceOut(out.device, true);
  }
  ApplyQuarantine(node);
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadReservation(const SnapshotReservation& from) {
  if (from.group.value == 0) return absl::OkStatus();
  const Request* const group = Find(from.group);
  if (group == nullptr || group->of->plan == nullptr) {
    return Wrong("reservation: request ", from.group.ToString(), " is no group");
  }
  reservation_ = {.group = from.group,
                  .since = from.since,
                  .overtaken = from.overtaken,
                  .planned_at = from.planned_at};
  for (const NodeId id : from.nodes) {
    Node* const node = cluster_.FindNode(id);
    if (node == nullptr || node->set_aside) {
      return Wrong("reservation: there is no node ", id.ToString(), ", or it is there twice");
    }
    reservation_.nodes.push_back(node);
    node->set_aside = true;
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadClasses(const Snapshot& snapshot) {
  uint64_t last = 0;
  uint64_t busy = snapshot.next_idle;  // Ranks for those that are in use, for the moment.
  for (const SnapshotClass& from : snapshot.classes) {
    if (from.id <= last || from.id >= snapshot.next_class) {
      return Wrong("class ", from.id, ": ids grow from class to class, up to next_class");
    }
    last = from.id;
    if (from.idle_since >= snapshot.next_idle) {
      return Wrong("class ", from.id, ": idle_since is not below next_idle");
    }
    if (const absl::Status status = Validate(*from.spec); !status.ok()) {
      return Wrong("class ", from.id, ": ", status.message());
    }
    const uint64_t rank = from.idle_since == 0 ? busy++ : from.idle_since;
    SchedulingClass* const of = cluster_.RestoreClass(from.id, from.spec, rank);
    if (of == nullptr) {
      return Wrong("class ", from.id, " has the spec or the idle_since of one before it");
    }
    for (const absl::Duration duration : from.durations) of->durations.Add(duration);
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadRequest(const SnapshotRequest& from) {
  const std::string name = absl::StrCat("request ", from.request.ToString());
  const auto of = cluster_.classes().find(from.of);
  if (of == cluster_.classes().end()) return Wrong(name, ": there is no class ", from.of);
  if (Find(from.request) != nullptr) return Wrong(name, " is there twice");
  const int choices = of->second->choices();
  if (from.open < 1 || from.open > choices) {
    return Wrong(name, ": open is ", from.open, ", but it has ", choices, " choices");
  }
  if (from.arrival < next_arrival_) return Wrong(name, ": arrivals grow from request to request");
  if (from.since > now_ || from.opened_at < from.since || from.opened_at > now_) {
    return Wrong(name, ": since, opened_at and now come in this order");
  }
  const RequestSpec& spec = of->second->spec;
  if (from.shape < 0 || (spec.is_group() && from.shape >= static_cast<int>(spec.shapes.size()))) {
    return Wrong(name, ": there is no shape ", from.shape);
  }
  const int bundles = BundlesOf(spec, from.shape);
  if (from.granted() && from.bundles.size() != static_cast<size_t>(bundles)) {
    return Wrong(name, " holds ", from.bundles.size(), " bundles, but asked for ", bundles);
  }
  if (from.waited < absl::ZeroDuration() || from.waited > now_ - from.since) {
    return Wrong(name, ": waited is longer than it has been there");
  }
  next_arrival_ = from.arrival;
  Request& request = Add(from.request, of->second->handle, of->second.get());
  request.since = from.since;
  request.opened_at = from.opened_at;
  request.open = from.open;
  request.waited = from.waited;
  request.avoids_until = from.avoids_until;
  if (!from.granted()) {
    if (from.adopt_by) return Wrong(name, ": adopt_by, but it has no bundle");
    request.of->Push(&request);
    ++waiting_;
    ++request.of->tenant->waiting;
    return absl::OkStatus();
  }
  BeginSlice(request);
  request.shape = from.shape;
  request.level = from.level;
  if (from.broken || from.closing || from.removed) {
    if (!spec.is_group() || from.broken == from.closing) {
      return Wrong(name, ": only a placement group is broken or else closing");
    }
    request.broken = from.broken;
    request.closing = from.closing;
    request.removed = from.removed;
    if (request.broken) broken_.emplace(KeyOf(request), &request);
  }
  request.bundles.resize(from.bundles.size());
  for (size_t i = 0; i < from.bundles.size(); ++i) {
    if (absl::Status status = LoadBundle(from.bundles[i], request, static_cast<int>(i));
        !status.ok()) {
      return Wrong(name, " bundle ", i, ": ", status.message());
    }
  }
  if (!request.Has(Bundle::State::kRunning) && !request.broken && !request.closing &&
      !(spec.is_group() && from.adopt_by)) {
    return Wrong(name, ": none of its bundles runs");
  }
  AwaitReturn(request);
  if (from.adopt_by) {
    if (!request.Has(Bundle::State::kMissing))
      return Wrong(name, ": adopt_by, but none is missing");
    if (*from.adopt_by == absl::InfinitePast()) return Wrong(name, ": adopt_by is no time");
    request.adopt_by = *from.adopt_by;
    adoptions_.emplace(request.adopt_by, request.id);
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadBundle(const SnapshotBundle& from, Request& request, int number) {
  Bundle& bundle = request.bundles[number];
  bundle = {.state = static_cast<Bundle::State>(from.state),
            .blocked = from.blocked,
            .may_overcommit = from.may_overcommit,
            .adopted = from.adopted,
            .inside = from.inside,
            .placement = from.placement};
  if (bundle.state != Bundle::State::kRunning && bundle.state != Bundle::State::kClosing) {
    return absl::OkStatus();
  }
  const RequestSpec& spec = request.of->spec;
  if (bundle.blocked) CountBlocked(spec, +1);
  const Placement& placement = bundle.placement;
  const size_t choices = spec.is_group() ? spec.shapes[request.shape].bundles[number].choices.size()
                                         : spec.choices.size();
  if (placement.choice < 0 || static_cast<size_t>(placement.choice) >= choices) {
    return Wrong("there is no choice ", placement.choice);
  }
  MUSTER_RETURN_IF_ERROR(Validate(placement.resources));
  Node* const node = cluster_.FindNode(placement.node);
  if (node == nullptr) return Wrong("there is no node ", placement.node.ToString());
  if (bundle.inside >= 0) return LoadInside(request, number, *node);
  if (!node->free.TakeHeld(placement.resources, placement.devices)) {
    return Wrong("node ", node->name, " has not what it holds");
  }
  if (bundle.blocked) node->free.AddCpus(placement.resources.cpus);
  node->leases.emplace(request.id, number);
  Charge(request, bundle, +1);
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadHold(const SnapshotHold& from) {
  const std::string name = absl::StrCat("the hold for request ", from.request.ToString());
  const auto of = cluster_.classes().find(from.of);
  if (of == cluster_.classes().end()) return Wrong(name, ": there is no class ", from.of);
  Hold hold{.of = of->second.get(),
            .request = from.request,
            .reason = from.reason,
            .level = from.level,
            .until = from.until};
  for (const SnapshotVictim& victim : from.victims) {
    hold.victims.push_back({victim.request, victim.bundle});
  }
  const Request* const told = hold.returns() ? Find(from.request) : nullptr;
  if (hold.returns()) {
    const bool known = told != nullptr ? told->of == hold.of && told->granted()
                                       : from.until != absl::InfiniteFuture();
    if (!known || holds_.ReturnOf(from.request) != nullptr) {
      return Wrong(name, ": it is kept for what no request of its class is to return from");
    }
  } else if (holds_.CountOf(*hold.of) >= hold.of->waiting) {
    return Wrong(name, ": none waits for it");
  }
  for (const SnapshotHoldPart& part : from.parts) {
    Node* const node = cluster_.FindNode(part.node);
    if (node == nullptr) return Wrong(name, ": there is no node ", part.node.ToString());
    MUSTER_RETURN_IF_ERROR(Validate(part.needs));
    MUSTER_RETURN_IF_ERROR(Validate(part.has));
    if (!node->free.TakeHeld(part.has, part.devices)) {
      return Wrong(name, ": node ", node->name, " has not what it keeps");
    }
    cluster_.topology().Update(*node);
    hold.parts.push_back({.node = node,
                          .choice = part.choice,
                          .needs = part.needs,
                          .has = part.has,
                          .devices = part.devices});
  }
  if (told != nullptr) ForgetReturn(*told);
  if (hold.returns()) ChargeKept(hold, +1);
  holds_.Add(std::move(hold));
  return absl::OkStatus();
}

absl::Status Scheduler::Impl::LoadInside(Request& request, int number, Node& node) {
  const Bundle& bundle = request.bundles[number];
  Request* const group = request.of->spec.inside ? Find(request.of->spec.inside->group) : nullptr;
  if (group == nullptr || bundle.inside >= static_cast<int>(group->bundles.size())) {
    return Wrong("there is no such bundle of a placement group that it is inside");
  }
  const Bundle& its = group->bundles[bundle.inside];
  const bool held = its.state == Bundle::State::kRunning || its.state == Bundle::State::kClosing;
  if (!held || its.placement.node != node.id) {
    return Wrong("the bundle that it is inside is not on its node");
  }
  BundleRoom& room = RoomOf(*group, bundle.inside);
  if (!room.left.TakeHeld(bundle.placement.resources, bundle.placement.devices)) {
    return Wrong("the bundle that it is inside has not what it holds");
  }
  if (bundle.blocked) room.left.AddCpus(bundle.placement.resources.cpus);
  room.children.emplace(request.id, number);
  node.leases.emplace(request.id, number);
  return absl::OkStatus();
}

}  // namespace muster::sched
