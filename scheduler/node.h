// A node as the scheduler sees it: what it has, what is free, and which leases run there.
//
// Invariants: what is free is the total less what the leases hold; devices, memory and custom
// resources
//   are never overcommitted; CPUs only where a lease took back what it had lent, or by what joined
//   held.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/time/time.h"
#include "scheduler/devices.h"
#include "scheduler/events.h"
#include "scheduler/explain.h"
#include "scheduler/ids.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"

namespace muster::sched {

// What is free on a node: a value, so that a search can try on a copy.
class Capacity {
 public:
  explicit Capacity(const NodeResources& total);

  bool Fits(const Resources& needs) const;

  // How many times `needs` would fit, one after another, at most `limit`.
  int64_t Count(const Resources& needs, int64_t limit) const;

  // What best fit compares, least first; see scheduler.h. REQUIRES: Fits(needs).
  using Score = std::tuple<bool, int64_t, int64_t, int64_t, int64_t>;
  Score ScoreFor(const Resources& needs) const;

  GpuShares Take(const Resources& needs);  // REQUIRES: Fits(needs).
  void Give(const Resources& needs, const GpuShares& devices);

  // Takes what a lease holds already, even beyond the CPUs there are; false (nothing taken) where
  // there is no room for the rest.
  bool TakeHeld(const Resources& needs, const GpuShares& devices);

  // Lends out CPUs of a blocked lease, or takes them back (negative).
  void AddCpus(int64_t cpus) { cpus_ += cpus; }

  int64_t cpus() const { return cpus_; }
  int64_t memory_bytes() const { return memory_bytes_; }
  int64_t custom(const std::string& name) const;
  const Devices& devices() const { return devices_; }

 private:
  bool FitsWithoutCpus(const Resources& needs) const;
  void TakeWithoutDevices(const Resources& needs);

  int64_t cpus_;
  int64_t memory_bytes_;
  Devices devices_;
  absl::btree_map<std::string, int64_t> custom_;
};

using LeaseId = std::pair<RequestId, int>;  // A bundle of a request.

struct Node {
  Node(NodeId id_in, std::string name_in, Labels labels_in, NodeResources total_in);

  bool usable() const { return reachable && !draining && !set_aside; }  // May get something new.
  NodeState state() const;
  NodeView View() const;

  const NodeId id;
  const std::string name;
  Labels labels;  // Aliases added.
  const NodeResources total;
  const Capacity empty;  // As if nothing ran there.
  Capacity free;
  bool reachable = true;
  bool draining = false;
  std::optional<absl::Time> deadline;
  absl::btree_set<LeaseId> leases;
  std::vector<bool> selected;  // By selector number; kept by SelectorIndex.
  bool set_aside = false;      // For a group that waits; see reservation.h.
  int topology_slot = -1;      // Kept by Topology.
};

}  // namespace muster::sched
