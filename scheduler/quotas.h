// The quotas there are and what is held under each; see sharing.h.
//
// Invariant: `used` counts the running leases of the quota's tenant or job on nodes whose labels
// its
//   selector matches now, without the CPUs of blocked ones. A grant never makes it exceed the
//   limit.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "scheduler/closed_nodes.h"
#include "scheduler/events.h"
#include "scheduler/node.h"
#include "scheduler/sharing.h"

namespace muster::sched {

class Quotas {
 public:
  struct Entry {
    Quota quota{};
    absl::btree_set<NodeId> nodes{};               // That the selector matches.
    absl::btree_map<std::string, int64_t> used{};  // By limit.

    bool Covers(const RequestSpec& spec) const {
      if (!quota.tenant.empty()) return quota.tenant == spec.tenant;
      return quota.job.empty() || quota.job == spec.job;
    }
    // The first limit that `times` of `needs` would exceed; nullptr: none.
    const std::string* Exceeded(const Resources& needs, int64_t times) const;
  };

  bool empty() const { return entries_.empty(); }
  const absl::btree_map<std::string, Entry>& entries() const { return entries_; }

  // Its nodes and what is used are for the caller to add. Replaces one of that name.
  void Set(const Quota& quota);
  bool Remove(const std::string& name);
  void ForgetUse();  // Of all, for the caller to add anew.

  void AddNode(const Node& node);  // Of the quotas whose selector matches its labels.
  void RemoveNode(NodeId node);

  // A lease began (+1) or ended (-1). True: it counts under a quota.
  bool Charge(const RequestSpec& spec, NodeId node, const Resources& held, int64_t sign);

  // The quotas whose nodes are closed to a request of this spec, by choice `choice`.
  std::vector<const Entry*> Closed(const RequestSpec& spec, int choice) const;

 private:
  absl::btree_map<std::string, Entry> entries_;  // By name.
};

}  // namespace muster::sched
