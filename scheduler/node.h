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
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "scheduler/devices.h"
#include "scheduler/events.h"
#include "scheduler/explain.h"
#include "scheduler/free_key.h"
#include "scheduler/ids.h"
#include "scheduler/label_table.h"
#include "scheduler/prefetch.h"
#include "scheduler/resources.h"
#include "scheduler/row_set.h"

namespace muster::sched {

class CapacityIndex;
struct Node;
struct PackKind;
class SelectorIndex;

// Tells a node's index when what is free of it changes. A copy of what is watched is not watched.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) {}
  Watch& operator=(const Watch&) {
    Changed();
    return *this;
  }
  void Begin(Node* node) { node_ = node; }
  void Changed();

 private:
  Node* node_ = nullptr;
};

// What is free on a node: a value, so that a search can try on a copy.
class Capacity {
 public:
  explicit Capacity(const NodeResources& total);

  void BeginWatch(Node* node) { watch_.Begin(node); }

  bool Fits(const Resources& needs) const {
    // Nothing asked of the CPUs is there even where they are overcommitted.
    if (needs.cpus > 0 && needs.cpus > cpus_) return false;
    return FitsWithoutCpus(needs) && devices_.Fits(needs.gpus);
  }

  // How many times `needs` would fit, one after another, at most `limit`.
  int64_t Count(const Resources& needs, int64_t limit) const;

  FreeKey key() const;

  // What best fit compares, least first; see scheduler.h. REQUIRES: Fits(needs).
  using Score = std::pair<int64_t, FreeKey>;
  Score ScoreFor(const Resources& needs) const;

  // REQUIRES: Fits(needs).
  GpuShares Take(const Resources& needs, DeviceOrder order = DeviceOrder::kFullest);
  void Give(const Resources& needs, const GpuShares& devices);

  // Takes what a lease holds already, even beyond the CPUs there are; false (nothing taken) where
  // there is no room for the rest.
  bool TakeHeld(const Resources& needs, const GpuShares& devices);

  // A device in quarantine is out: nothing of it is free.
  void SetDeviceOut(int device, bool out) {
    devices_.SetOut(device, out);
    watch_.Changed();
  }

  // Lends out CPUs of a blocked lease, or takes them back (negative).
  void AddCpus(int64_t cpus) {
    cpus_ += cpus;
    watch_.Changed();
  }

  int64_t cpus() const { return cpus_; }
  int64_t memory_bytes() const { return memory_bytes_; }
  int64_t custom(const std::string& name) const;
  const Devices& devices() const { return devices_; }

 private:
  bool FitsWithoutCpus(const Resources& needs) const {
    return needs.memory_bytes <= memory_bytes_ && (needs.custom.empty() || FitsCustom(needs));
  }
  bool FitsCustom(const Resources& needs) const;
  void ChangeCustom(const Resources& needs, int64_t sign);
  void TakeWithoutDevices(const Resources& needs);

  int64_t cpus_;
  int64_t memory_bytes_;
  Devices devices_;
  CustomAmounts custom_;
  Watch watch_;
};

using LeaseId = std::pair<RequestId, int>;  // A bundle of a request.

// The nodes that have the same in all, and as many devices in quarantine.
struct NodeShape {
  NodeShape(NodeResources total_in, int devices_out_in);

  const NodeResources total;
  const int devices_out;
  const Capacity empty;  // As if nothing ran there; which devices are out does not matter for that.
  RowSet rows;
  int nodes = 0;
};

// A device that gets nothing new, and what it holds is to leave it.
struct Quarantine {
  int device = 0;
  std::string reason{};
  absl::Time leave_by{};
};

// The leases of a node, in order of request and bundle.
class LeaseSet {
 public:
  using Leases = absl::InlinedVector<LeaseId, 8>;  // Most nodes have 8 devices at most.
  using const_iterator = Leases::const_iterator;

  void emplace(RequestId request, int bundle);
  void erase(LeaseId lease);
  bool contains(LeaseId lease) const;
  bool empty() const { return leases_.empty(); }
  size_t size() const { return leases_.size(); }
  const_iterator begin() const { return leases_.begin(); }
  const_iterator end() const { return leases_.end(); }

 private:
  Leases leases_;
};

struct alignas(64) Node {
  Node(NodeId id_in, std::string name_in, LabelTable& table, NodeShape& shape_in);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // May get something new.
  bool usable() const { return reachable && !draining && closed == 0 && !set_aside; }
  NodeState state() const;
  NodeView View() const;
  void Prefetch() const { Prefetch(this); }
  // What a decision reads and changes of it.
  static void Prefetch(const void* node) { PrefetchLines(node, 5); }

  // What decisions read and change comes first, so that it lies in few cache lines.
  const NodeId id;
  bool reachable = true;
  bool draining = false;
  bool set_aside = false;  // For a group that waits; see reservation.h.
  bool changed = false;    // To be filed anew.
  bool repack = false;     // The same, by Packing.
  int closed = 0;          // For the length of a search; see ClosedNodes.
  Row row = kNoRow;
  Capacity free;
  PackKind* kind = nullptr;  // See Packing.
  LeaseSet leases;

  // --- Kept by the index ---
  CapacityIndex* filed_in = nullptr;
  SelectorIndex* index = nullptr;
  absl::InlinedVector<uint16_t, 4> filed_shares;  // And under what is left of devices in use.

  const std::string name;
  NodeLabels labels;          // Aliases added.
  NodeShape& whole;           // With no device out.
  NodeShape* shape = &whole;  // As it is now; kept by Cluster.
  const NodeResources& total = whole.total;
  const Capacity& empty() const { return shape->empty; }
  std::optional<absl::Time> deadline;   // Draining.
  std::string drain_reason;             // Draining; for people.
  bool said_empty = false;              // Draining: NodeEmpty was said.
  std::vector<Quarantine> quarantined;  // In order of device.
  int topology_slot = -1;               // Kept by Topology.
};

}  // namespace muster::sched
