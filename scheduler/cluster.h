// The nodes there are and the scheduling classes that requests speak of, kept in step: what each
// class's selectors match, and what the nodes could hold for it.
//
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "scheduler/base/slab.h"
#include "scheduler/explain.h"
#include "scheduler/feasibility.h"
#include "scheduler/ids.h"
#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"
#include "scheduler/selector_index.h"
#include "scheduler/topology.h"

namespace muster::sched {

class Cluster {
 public:
  Cluster(int lost_nodes_kept, int idle_classes_kept, std::vector<std::string> hierarchy)
      : lost_nodes_kept_(lost_nodes_kept),
        idle_classes_kept_(idle_classes_kept),
        topology_(std::move(hierarchy)) {}
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;
  ~Cluster() {
    for (Node* node : sorted_) slab_.Delete(node);
  }

  Node* FindNode(NodeId id) const;               // Null: not there, or lost.
  Node* FindNode(absl::string_view name) const;  // Names are unique: the head sees to it.
  Node* AddNode(NodeId id, const std::string& name, const Labels& labels,
                const NodeResources& total);
  void Relabel(Node* node, const Labels& labels);
  void CountQuarantined(Node* node);  // Another number of its devices is out.
  void RemoveNode(Node* node);        // Remembered as lost.
  const std::vector<Node*>& nodes() const {
    return sorted_;
  }                                     // In order of id, lost ones left out.
  std::vector<NodeView> Views() const;  // Lost ones included.

  // The class of `spec`, made if need be. Each Use() of a class asks for one Unuse().
  SchedulingClass* Use(const SpecHandle& spec);
  SchedulingClass* Use(SchedulingClass* of);
  void Unuse(SchedulingClass* of);

  // Null: there is none yet.
  SchedulingClass* FindClass(const SpecHandle& spec) const;

  const SelectorIndex& index() const { return index_; }
  Packing& packing() { return index_.capacity().packing(); }
  const Packing& packing() const { return index_.capacity().packing(); }
  Feasibility& feasibility() { return feasibility_; }
  const Feasibility& feasibility() const { return feasibility_; }
  uint64_t nodes_version() const {
    return nodes_version_;
  }  // Another number after each change of nodes.
  // Told of each change of what is free of a node or whether it may be used.
  Topology& topology() { return topology_; }
  // Up to date.
  const Topology& topology() const {
    topology_.Refresh(sorted_);
    return topology_;
  }
  const absl::btree_map<uint64_t, std::unique_ptr<SchedulingClass>>& classes() const {
    return classes_;
  }

  // --- For snapshots ---
  struct Counters {
    uint64_t next_class = 1;
    uint64_t next_idle = 1;
  };
  Counters counters() const { return {.next_class = next_class_, .next_idle = next_idle_}; }
  const std::deque<NodeView>& lost_nodes() const { return lost_; }
  // Makes a class with the id that it had, idle. Null where that is taken.
  SchedulingClass* RestoreClass(uint64_t id, const SpecHandle& spec, uint64_t idle_since);
  void RestoreLost(NodeView view);
  // Once all is restored.
  void Restore(Counters counters) {
    next_class_ = counters.next_class;
    next_idle_ = counters.next_idle;
    DropIdleClasses();
  }

  void CheckInvariants() const;

 private:
  SchedulingClass* MakeClass(uint64_t id, const SpecHandle& spec);
  void DropIdleClasses();

  const int lost_nodes_kept_;
  const int idle_classes_kept_;
  SelectorIndex index_;  // Outlives the nodes.
  Slab<Node> slab_;
  absl::flat_hash_map<NodeId, Node*> nodes_;
  std::vector<Node*> sorted_;
  Feasibility feasibility_{index_, sorted_};
  uint64_t nodes_version_ = 1;
  absl::flat_hash_map<absl::string_view, Node*> by_name_;  // The text is the node's.
  std::deque<NodeView> lost_;                              // Oldest loss first.
  mutable Topology topology_;                              // Brought up to date when it is asked.

  absl::btree_map<uint64_t, std::unique_ptr<SchedulingClass>> classes_;
  absl::flat_hash_map<SpecHandle, SchedulingClass*> class_of_spec_;
  absl::btree_map<uint64_t, SchedulingClass*> idle_;  // Longest idle first.
  uint64_t next_class_ = 1;
  uint64_t next_idle_ = 1;
};

}  // namespace muster::sched
