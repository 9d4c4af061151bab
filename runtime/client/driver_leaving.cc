// Leases that are told to leave, and tasks that do.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/client/driver_core.h"

namespace muster::client {

void DriverCore::OnDraining(const v1::LeaseDraining& draining) {
  const auto known = lease_of_key_.find(draining.lease().SerializeAsString());
  if (known == lease_of_key_.end()) return;
  Lease& lease = *leases_.at(known->second);
  lease.draining = true;
  if (lease.state != LeaseState::kOpen) return;
  v1::ToExecutor message;
  message.mutable_drain()->set_deadline_in_ns(draining.deadline_in_ns());
  message.mutable_drain()->set_reason(draining.reason());
  message.mutable_drain()->set_why(draining.why());
  actions_->push_back(ToExecutor{lease.number, std::move(message)});
  if (lease.task_class == 0) {
    Group& group = *groups_.at(lease.group);
    if (draining.kept_for() != 0 && group.spec.return_to_preferred().moves() > 0) {
      group.kept_for = draining.kept_for();
    }
    return;
  }
  classes_.at(lease.task_class)->ready.erase(lease.number);
  if (lease.in_flight.empty()) Close(lease);
}

void DriverCore::OnStays(const v1::LeaseStays& stays) {
  const auto known = lease_of_key_.find(stays.lease().SerializeAsString());
  if (known == lease_of_key_.end()) return;
  Lease& lease = *leases_.at(known->second);
  lease.draining = false;
  if (lease.state != LeaseState::kOpen) return;
  v1::ToExecutor message;
  message.mutable_drain()->set_withdrawn(true);
  actions_->push_back(ToExecutor{lease.number, std::move(message)});
  if (lease.group == 0) return;  // It takes tasks again once it is through with those it has.
  Group& group = *groups_.at(lease.group);
  group.kept_for = 0;
  if (group.left && group.state == GroupState::kRunning) {  // Too late: others have gone.
    AbortGroup(group, absl::AbortedError("other ranks have left, as they were told to"));
  }
}

void DriverCore::OnLeft(Lease& lease) {
  if (lease.group != 0) return OnRankLeft(*groups_.at(lease.group), lease);
  BreakLease(lease, "its task left, as it was told to", /*counts=*/false);
}

void DriverCore::OnRankLeft(Group& group, Lease& lease) {
  Rank& rank = group.ranks[lease.rank];
  if (rank.over) return;
  rank.over = true;
  const std::string where = absl::StrCat("rank ", lease.rank, " on node ", lease.node);
  lease.in_flight.clear();
  Close(lease);
  if (group.state == GroupState::kRunning) {
    group.left = true;
    group.restart_counts = false;
    group.rank_error = absl::OkStatus();  // It may have come of this.
    group.rank_error_due = absl::InfiniteFuture();
    // Who was told too may save until its deadline. The others would only wait for this one.
    const bool all_told = std::all_of(
        group.ranks.begin(), group.ranks.end(),
        [&](const Rank& other) { return other.over || leases_.at(other.lease)->draining; });
    if (!all_told) AbortGroup(group, absl::AbortedError(absl::StrCat(where, " has left")));
  }
  if (AllOver(group)) EndGeneration(group);
}

}  // namespace muster::client
