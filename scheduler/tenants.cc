#include "scheduler/tenants.h"

#include <algorithm>

#include "absl/numeric/int128.h"
#include "scheduler/base/check.h"

namespace muster::sched {
namespace {

constexpr int64_t kWhole = 1'000'000'000;  // Of a share.

int64_t ShareOfTotal(int64_t used, int64_t total) {
  if (used <= 0) return 0;
  if (total <= 0) return kWhole;  // Its nodes are gone: it holds all there was.
  return static_cast<int64_t>(absl::uint128(static_cast<uint64_t>(used)) *
                              static_cast<uint64_t>(kWhole) / static_cast<uint64_t>(total));
}

void AddCustom(absl::btree_map<std::string, int64_t>& to,
               const absl::btree_map<std::string, int64_t>& amounts, int64_t sign) {
  for (const auto& [name, amount] : amounts) {
    const auto at = to.emplace(name, 0).first;
    at->second += sign * amount;
    if (at->second == 0) to.erase(at);
  }
}

}  // namespace

Tenant* Tenants::Enter(const std::string& name) {
  Tenant& tenant = Named(name);
  if (tenant.classes++ == 0) ++active_;
  return &tenant;
}

void Tenants::Leave(Tenant* tenant) {
  MUSTER_CHECK(tenant->classes > 0);
  if (--tenant->classes > 0) return;
  --active_;
  DropIfUnused(*tenant);
}

void Tenants::SetWeight(const std::string& name, int64_t weight_milli) {
  if (weight_milli < 1 || weight_milli > kWeightMax) return;
  Tenant& tenant = Named(name);
  tenant.weight_milli = weight_milli;
  tenant.weight_set = weight_milli != kWeightUnit;
  tenant.fresh = 0;
  DropIfUnused(tenant);
}

void Tenants::AddTotal(const NodeResources& total, int64_t sign) {
  totals_.cpus += sign * total.cpus;
  totals_.gpus += sign * total.gpu_devices * Amount::kUnit;
  totals_.memory_bytes += sign * total.memory_bytes;
  AddCustom(totals_.custom, total.custom, sign);
  ++epoch_;
}

std::vector<const Tenant*> Tenants::InOrder() const {
  std::vector<const Tenant*> tenants;
  tenants.reserve(tenants_.size());
  for (const auto& [name, tenant] : tenants_) tenants.push_back(tenant.get());
  return tenants;
}

Tenant& Tenants::Named(const std::string& name) {
  std::unique_ptr<Tenant>& slot = tenants_[name];
  if (slot == nullptr) {
    slot = std::make_unique<Tenant>();
    slot->name = name;
  }
  return *slot;
}

void Tenants::ChargeCustom(Tenant& tenant, const Resources& held, int64_t sign) {
  AddCustom(tenant.used.custom, held.custom, sign);
}

void Tenants::Refresh(const Tenant& tenant) const {
  if (tenant.fresh == epoch_) return;
  int64_t share = std::max({ShareOfTotal(tenant.used.cpus, totals_.cpus),
                            ShareOfTotal(tenant.used.gpus, totals_.gpus),
                            ShareOfTotal(tenant.used.memory_bytes, totals_.memory_bytes)});
  for (const auto& [name, used] : tenant.used.custom) {
    const auto total = totals_.custom.find(name);
    share = std::max(share, ShareOfTotal(used, total == totals_.custom.end() ? 0 : total->second));
  }
  tenant.share = share;
  tenant.turn = share * 1'000'000 / tenant.weight_milli;
  tenant.fresh = epoch_;
}

void Tenants::DropIfUnused(const Tenant& tenant) {
  if (tenant.classes == 0 && !tenant.weight_set) tenants_.erase(std::string(tenant.name));
}

}  // namespace muster::sched
