#include "runtime/head/sharing_changes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"
#include "scheduler/sharing.h"

namespace muster::head {
namespace {

constexpr size_t kQuotaBytesMax = 4096;
// The year 2200: a clock that says more is wrong, and stamps must have room to grow.
constexpr uint64_t kStampMax = uint64_t{7'258'118'400} * 1'000'000'000;

template <typename Known>
std::set<std::string> InForce(const std::set<std::string>& flags, const Known& known) {
  std::set<std::string> names = flags;
  for (const auto& [name, of] : known) {
    if (of.undone) {
      names.erase(name);
    } else {
      names.insert(name);
    }
  }
  return names;
}

absl::Status CheckWeight(const v1::TenantWeight& weight) {
  if (weight.tenant().empty()) return absl::InvalidArgumentError("a weight needs a tenant");
  MUSTER_RETURN_IF_ERROR(sched::ValidateTenantName("tenant", weight.tenant()));
  if (weight.weight_milli() >= 1 && weight.weight_milli() <= sched::kWeightMax) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("tenant ", weight.tenant(), ": a weight of ",
                                                 sched::WeightToText(weight.weight_milli()),
                                                 "; allowed: 0.001 to 1000000"));
}

}  // namespace

SharingChanges::SharingChanges(const std::vector<sched::TenantSet>& tenants,
                               const std::vector<sched::Quota>& quotas, const SharingLimits& limits)
    : limits_(limits) {
  for (const sched::TenantSet& tenant : tenants) {
    if (tenant.weight_milli == sched::kWeightUnit) {
      flag_weights_.erase(tenant.tenant);  // The last of several for a tenant holds.
    } else {
      flag_weights_.insert(tenant.tenant);
    }
  }
  for (const sched::Quota& quota : quotas) flag_quotas_.insert(quota.name);
}

absl::StatusOr<SharingChanges::Parsed> SharingChanges::Parse(const v1::SharingChange& change) {
  switch (change.what_case()) {
    case v1::SharingChange::kQuota: {
      if (change.quota().size() > kQuotaBytesMax) {
        return absl::InvalidArgumentError(absl::StrCat(
            "the quota has ", change.quota().size(), " bytes; allowed: at most ", kQuotaBytesMax));
      }
      MUSTER_ASSIGN_OR_RETURN(sched::Quota quota, sched::ParseQuota(change.quota()));
      std::string name = quota.name;
      return Parsed{std::move(name), false, sched::QuotaSet{std::move(quota)}};
    }
    case v1::SharingChange::kQuotaRemoved:
      if (change.quota_removed().empty()) {
        return absl::InvalidArgumentError("a quota is removed by its name, which is missing");
      }
      MUSTER_RETURN_IF_ERROR(sched::ValidateTenantName("quota", change.quota_removed()));
      return Parsed{change.quota_removed(), true, sched::QuotaRemoved{change.quota_removed()}};
    case v1::SharingChange::kWeight: {
      MUSTER_RETURN_IF_ERROR(CheckWeight(change.weight()));
      return Parsed{change.weight().tenant(), change.weight().weight_milli() == sched::kWeightUnit,
                    sched::TenantSet{change.weight().tenant(), change.weight().weight_milli()}};
    }
    default:
      return absl::InvalidArgumentError("nothing is asked of the sharing");
  }
}

absl::Status SharingChanges::CheckRoom(const Parsed& parsed) const {
  if (parsed.undone) return absl::OkStatus();
  const bool weight = std::holds_alternative<sched::TenantSet>(parsed.event);
  const std::set<std::string> names =
      weight ? InForce(flag_weights_, weights_) : InForce(flag_quotas_, quotas_);
  const size_t most = weight ? limits_.weights_max : limits_.quotas_max;
  if (names.contains(parsed.name) || names.size() < most) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      weight ? absl::StrCat("tenant ", parsed.name, ": ", names.size(),
                            " tenants have a weight of their own, which is the most allowed; give "
                            "one of them 1 again")
             : absl::StrCat("quota ", parsed.name, ": there are ", names.size(),
                            " quotas already, which is the most allowed; remove one of them"));
}

absl::StatusOr<v1::SharingChange> SharingChanges::Read(const v1::SetSharingRequest& request,
                                                       absl::Time now) const {
  if (last_stamp_ >= kStampMax) {
    return absl::FailedPreconditionError(
        "the clock of this head, or of one before it, is a century ahead");
  }
  v1::SharingChange change;
  change.set_stamp(std::max(last_stamp_ + 1, static_cast<uint64_t>(absl::ToUnixNanos(now))));
  if (request.has_quota()) change.set_quota(request.quota());
  if (request.has_quota_removed()) change.set_quota_removed(request.quota_removed());
  if (request.has_weight()) *change.mutable_weight() = request.weight();
  MUSTER_ASSIGN_OR_RETURN(const Parsed parsed, Parse(change));
  MUSTER_RETURN_IF_ERROR(CheckRoom(parsed));
  if (request.has_quota_removed() && !QuotasInForce().contains(parsed.name)) {
    return absl::NotFoundError(
        absl::StrCat("there is no quota \"", parsed.name, "\"; muster quota lists them"));
  }
  return change;
}

absl::StatusOr<std::optional<SharingChanges::SchedulerEvent>> SharingChanges::Take(
    const v1::SharingChange& change) {
  if (change.stamp() == 0 || change.stamp() > kStampMax) {
    return absl::InvalidArgumentError(absl::StrCat("a stamp of ", change.stamp()));
  }
  MUSTER_ASSIGN_OR_RETURN(Parsed parsed, Parse(change));
  const bool weight = std::holds_alternative<sched::TenantSet>(parsed.event);
  KnownByName& known = weight ? weights_ : quotas_;
  const auto before = known.find(parsed.name);
  if (before != known.end() && before->second.change.stamp() >= change.stamp()) {
    return std::optional<SchedulerEvent>();
  }
  MUSTER_RETURN_IF_ERROR(CheckRoom(parsed));
  known[parsed.name] = {change, parsed.undone};
  last_stamp_ = std::max(last_stamp_, change.stamp());
  Forget(known, weight ? flag_weights_ : flag_quotas_);
  listed_ = false;
  return std::optional<SchedulerEvent>(std::move(parsed.event));
}

// The oldest of what took away only what run time had set.
void SharingChanges::Forget(KnownByName& known, const std::set<std::string>& flags) {
  std::vector<std::pair<uint64_t, std::string>> undone;
  for (const auto& [name, of] : known) {
    if (of.undone && !flags.contains(name)) undone.emplace_back(of.change.stamp(), name);
  }
  if (undone.size() <= limits_.undone_kept) return;
  std::sort(undone.begin(), undone.end());
  undone.resize(undone.size() - limits_.undone_kept);
  for (const auto& [stamp, name] : undone) known.erase(name);
}

const v1::SharingChanges& SharingChanges::Kept() {
  if (std::exchange(listed_, true)) return kept_;
  kept_.Clear();
  for (const bool undone : {true, false}) {
    for (const KnownByName* known : {&quotas_, &weights_}) {
      for (const auto& [name, of] : *known) {
        if (of.undone == undone) *kept_.add_changes() = of.change;
      }
    }
  }
  return kept_;
}

bool SharingChanges::QuotaSetAtRunTime(const std::string& name) const {
  const auto known = quotas_.find(name);
  return known != quotas_.end() && !known->second.undone;
}

std::set<std::string> SharingChanges::QuotasInForce() const {
  return InForce(flag_quotas_, quotas_);
}

}  // namespace muster::head
