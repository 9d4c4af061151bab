// Who shares the cluster: what each tenant's leases hold, and its weighted dominant share.
//
// Invariant: a tenant is known while a class of it has requests, or while its weight is set.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "scheduler/resources.h"
#include "scheduler/sharing.h"

namespace muster::sched {

struct Tenant {
  std::string name{};
  int64_t weight_milli = kWeightUnit;
  bool weight_set = false;
  int classes = 0;  // With requests.
  int64_t leases = 0;
  int64_t waiting = 0;  // Requests; kept by the scheduler.
  Resources used{};
  // Known while `fresh`:
  mutable int64_t share = 0;   // Of its dominant resource, 1/10^9 of the cluster's.
  mutable int64_t turn = 0;    // share by weight: the least comes first.
  mutable uint64_t fresh = 0;  // Of which Tenants::epoch(); 0: never.
};

class Tenants {
 public:
  Tenant* Enter(const std::string& name);  // For a class that got its first request.
  void Leave(Tenant* tenant);
  void SetWeight(const std::string& name, int64_t weight_milli);

  // A node came (+1) or went (-1).
  void AddTotal(const NodeResources& total, int64_t sign);
  // A lease began (+1) or ended (-1).
  void Charge(Tenant& tenant, const Resources& held, int64_t sign) {
    tenant.used.cpus += sign * held.cpus;
    tenant.used.gpus += sign * held.gpus;
    tenant.used.memory_bytes += sign * held.memory_bytes;
    tenant.leases += sign;
    tenant.fresh = 0;
    if (!held.custom.empty()) ChargeCustom(tenant, held, sign);
  }

  int64_t TurnOf(const Tenant& tenant) const {
    Refresh(tenant);
    return tenant.turn;
  }
  int64_t ShareOf(const Tenant& tenant) const {
    Refresh(tenant);
    return tenant.share;
  }

  // More than one has requests: their order is not simply that of age.
  bool several() const { return active_ > 1; }
  std::vector<const Tenant*> InOrder() const;  // By name.
  const Resources& totals() const { return totals_; }

 private:
  void ChargeCustom(Tenant& tenant, const Resources& held, int64_t sign);
  void Refresh(const Tenant& tenant) const;
  Tenant& Named(const std::string& name);
  void DropIfUnused(const Tenant& tenant);

  absl::btree_map<std::string, std::unique_ptr<Tenant>> tenants_;
  Resources totals_;
  int active_ = 0;
  uint64_t epoch_ = 1;
};

}  // namespace muster::sched
