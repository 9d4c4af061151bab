// Draining nodes, and what is told to leave them: see NodeDraining in events.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

void Scheduler::Impl::On(const NodeDraining& event) {
  if (Node* const node = cluster_.FindNode(event.node)) Drain(*node, event);
}

void Scheduler::Impl::Drain(Node& node, const NodeDraining& event) {
  if (!node.draining && !event.draining) return;
  ReservedNodeChanged(node);
  node.draining = event.draining;
  changed_ = true;
  node.deadline = event.draining ? event.deadline : std::nullopt;
  node.drain_reason = event.draining ? event.reason : "";
  cluster_.topology().Update(node);
  if (node.draining) {
    DropHoldsOn(node);
    NoteEmptied(node);
  } else {
    node.said_empty = false;
    Grew(node);
  }
  TellLeases(node);
}

std::optional<Notice> Scheduler::Impl::MustLeave(const Node& node, LeaseId lease) const {
  std::optional<Notice> notice;
  if (node.draining && node.deadline) {
    notice = Notice{.reason = LeavingReason::kDraining,
                    .deadline = node.deadline,
                    .why = absl::StrCat("node ", node.name, " is draining",
                                        node.drain_reason.empty() ? "" : ": ", node.drain_reason)};
  }
  if (!node.quarantined.empty()) {
    const Request& request = *Find(lease.first);
    const Bundle* held = &request.bundles[lease.second];
    // What runs inside a placement group leaves with its bundle.
    if (held->inside >= 0) held = &Find(request.of->spec.inside->group)->bundles[held->inside];
    for (const Quarantine& out : node.quarantined) {
      const bool holds = std::any_of(held->placement.devices.begin(), held->placement.devices.end(),
                                     [&](GpuShare share) { return share.device == out.device; });
      if (!holds || (notice && *notice->deadline <= out.leave_by)) continue;
      notice = Notice{
          .reason = LeavingReason::kUnhealthy,
          .deadline = out.leave_by,
          .why = absl::StrCat("GPU ", out.device, " of node ", node.name, " is in quarantine",
                              out.reason.empty() ? "" : ": ", out.reason)};
    }
  }
  if (notice) {
    notice->request = lease.first;
    notice->bundle = lease.second;
  }
  return notice;
}

void Scheduler::Impl::TellLeases(Node& node) {
  // Bundles of groups are given up on the way.
  const std::vector<LeaseId> leases(node.leases.begin(), node.leases.end());
  for (const LeaseId& lease : leases) {
    if (node.leases.contains(lease)) TellLease(node, lease);
  }
}

void Scheduler::Impl::TellLease(const Node& node, LeaseId lease) {
  Request& request = *Find(lease.first);
  if (request.of->spec.is_group()) return LeaveIfEmpty(request, lease.second);
  const std::optional<Notice> notice = MustLeave(node, lease);
  const Leaving::Entry* const told = leaving_.Find(lease);
  if (told != nullptr && told->revoked) return;
  const bool for_node = told != nullptr && (told->notice.reason == LeavingReason::kDraining ||
                                            told->notice.reason == LeavingReason::kUnhealthy);
  if (!notice) {
    if (!for_node) return;
    leaving_.Forget(lease);
    actions_->push_back(NoticeWithdrawn{.request = lease.first, .bundle = lease.second});
    return;
  }
  if (for_node) {
    if (told->notice.deadline == notice->deadline && told->notice.reason == notice->reason) return;
    leaving_.Forget(lease);  // A later deadline is said too.
  }
  leaving_.Tell(*notice, *actions_);
}

void Scheduler::Impl::Spare(LeaseId lease) {
  leaving_.Forget(lease);
  const Request& request = *Find(lease.first);
  const Node& node = *cluster_.FindNode(request.bundles[lease.second].placement.node);
  if (MustLeave(node, lease)) return TellLease(node, lease);
  actions_->push_back(NoticeWithdrawn{.request = lease.first, .bundle = lease.second});
}

void Scheduler::Impl::LeaveIfEmpty(Request& group, int bundle) {
  const Bundle& held = group.bundles[bundle];
  if (held.state != Bundle::State::kRunning || group.closing) return;
  if (rooms_.contains({group.id, bundle})) return;  // Something runs inside.
  const Node& node = *cluster_.FindNode(held.placement.node);
  if (!MustLeave(node, {group.id, bundle})) return;
  actions_->push_back(LeaseLost{.request = group.id, .bundle = bundle, .node = node.id});
  EndBundle(group, bundle);
  MarkBroken(group);
}

void Scheduler::Impl::NoteEmptied(const Node& node) {
  if (node.draining && node.leases.empty()) emptied_.push_back(node.id);
}

void Scheduler::Impl::SayEmptied() {
  std::sort(emptied_.begin(), emptied_.end());
  for (const NodeId id : emptied_) {
    Node* const node = cluster_.FindNode(id);
    if (node == nullptr || !node->draining || !node->leases.empty() || node->said_empty) continue;
    node->said_empty = true;
    actions_->push_back(NodeEmpty{.node = id});
  }
  emptied_.clear();
}

}  // namespace muster::sched
