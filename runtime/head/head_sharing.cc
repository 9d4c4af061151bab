// How the cluster is shared: what operators change of it, and what is said of it. The head keeps
// changes only in memory; each worker keeps all of them, for a head that forgets.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/convert.h"

namespace muster::head {
namespace {

v1::TenantStatus TenantStatusOf(const sched::TenantView& view) {
  v1::TenantStatus tenant;
  tenant.set_name(view.name);
  tenant.set_weight_milli(view.weight_milli);
  tenant.set_share_billionths(view.share);
  *tenant.mutable_used() = ToProto(view.used);
  tenant.set_leases(static_cast<uint64_t>(view.leases));
  tenant.set_waiting(static_cast<uint64_t>(view.waiting));
  return tenant;
}

}  // namespace

absl::Status HeadCore::CheckSharing(const v1::SetSharingRequest& request) const {
  return sharing_.Read(request, now_).status();
}

void HeadCore::On(const SharingControl& control) {
  const absl::StatusOr<v1::SharingChange> change = sharing_.Read(control.request, now_);
  if (!change.ok()) return;
  const auto event = sharing_.Take(*change);
  if (!event.ok() || !event->has_value()) return;
  for (const auto& [id, node] : nodes_) SendSharing(node);
  SayLine(ApplySharing(**event));
}

std::string HeadCore::ApplySharing(const SharingChanges::SchedulerEvent& event) {
  std::visit([this](const auto& what) { Schedule(what); }, event);
  if (const auto* set = std::get_if<sched::QuotaSet>(&event)) {
    return absl::StrCat("quota set: ", ToText(set->quota));
  }
  if (const auto* removed = std::get_if<sched::QuotaRemoved>(&event)) {
    return absl::StrCat("quota ", removed->name, " is removed");
  }
  const auto& tenant = std::get<sched::TenantSet>(event);
  return absl::StrCat("tenant ", tenant.tenant, " has weight ",
                      sched::WeightToText(tenant.weight_milli));
}

// As a worker kept it for a head that has forgotten; it is not trusted. Before the worker's node
// gets anything.
void HeadCore::TakeSharing(Node& node, const v1::SharingChanges& theirs) {
  bool any = false;
  for (const v1::SharingChange& change : theirs.changes()) {
    const auto event = sharing_.Take(change);
    if (!event.ok()) {
      SayLine(absl::StrCat("node ", node.name, " kept what cannot be: ", event.status().message()),
              true);
    } else if (event->has_value()) {
      SayLine(absl::StrCat("as it was set before: ", ApplySharing(**event)));
      any = true;
    }
  }
  for (const auto& [id, other] : nodes_) {
    if (any && id != node.id) SendSharing(other);
  }
  if (sharing_.Kept().SerializeAsString() != theirs.SerializeAsString()) SendSharing(node);
}

void HeadCore::SendSharing(const Node& node) {
  v1::ToWorker message;
  *message.mutable_sharing() = sharing_.Kept();
  Tell(node, std::move(message));
}

v1::SetSharingReply HeadCore::SharingAfter(const v1::SetSharingRequest& request) const {
  v1::SetSharingReply reply;
  const auto keeps = [](const auto& entry) { return entry.second.connection != 0; };
  reply.set_keepers(static_cast<uint32_t>(std::count_if(nodes_.begin(), nodes_.end(), keeps)));
  if (request.has_quota()) {
    const absl::StatusOr<sched::Quota> asked = sched::ParseQuota(request.quota());
    for (const sched::QuotaView& view : scheduler_.QuotaViews()) {
      if (asked.ok() && view.quota.name == asked->name)
        *reply.mutable_quota() = QuotaStatusOf(view);
    }
  }
  if (request.has_weight()) {  // Where it is not known, it has weight 1 and no work.
    reply.mutable_tenant()->set_name(request.weight().tenant());
    reply.mutable_tenant()->set_weight_milli(sched::kWeightUnit);
    for (const sched::TenantView& view : scheduler_.TenantViews()) {
      if (view.name != request.weight().tenant()) continue;
      *reply.mutable_tenant() = TenantStatusOf(view);
    }
  }
  return reply;
}

v1::QuotaStatus HeadCore::QuotaStatusOf(const sched::QuotaView& view) const {
  v1::QuotaStatus quota;
  quota.set_name(view.quota.name);
  quota.set_tenant(view.quota.tenant);
  quota.set_job(view.quota.job);
  quota.set_selector(sched::ToText(view.quota.selector));
  quota.set_set_at_run_time(sharing_.QuotaSetAtRunTime(view.quota.name));
  for (const auto& [resource, limit] : view.quota.limits) {
    v1::QuotaStatus::Limit& row = *quota.add_limits();
    row.set_resource(resource);
    row.set_used(view.used.at(resource));
    row.set_limit(limit);
  }
  return quota;
}

void HeadCore::FillSharing(v1::StatusReply& reply) const {
  const sched::SharingConfig& sharing = config_.sharing;
  std::string text =
      absl::StrCat(ToString(sharing.ordering), ", ", ToString(sharing.backfill), " backfill");
  if (sharing.preemption) {
    absl::StrAppend(&text, ", preemption after ", absl::FormatDuration(sharing.preemption_grace));
  }
  if (sharing.time_slice != absl::InfiniteDuration()) {
    absl::StrAppend(&text, ", time slices of ", absl::FormatDuration(sharing.time_slice));
  }
  reply.set_sharing(text);
  const std::vector<sched::TenantView> tenants = scheduler_.TenantViews();
  const bool only_default = tenants.size() == 1 && tenants[0].name.empty();
  for (const sched::TenantView& view : tenants) {
    if (!only_default) *reply.add_tenants() = TenantStatusOf(view);
  }
  for (const sched::QuotaView& view : scheduler_.QuotaViews()) {
    *reply.add_quotas() = QuotaStatusOf(view);
  }
}

}  // namespace muster::head
