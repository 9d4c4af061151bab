// What the nodes there are could ever hold of the classes that wait, all of it free: kept in
// SchedulingClass::nodes_for_choice and bundles_for_open, and only while a class waits.
//
// A plain class has a witness for each choice, a node that could hold it: a node that comes is
// looked at only for classes that lack one, a node that goes or changes only for those it stood
// for. Placement groups, strategies and what runs inside a group are looked up by the scheduler,
// when it hears that nodes have changed. Of other requests with several bundles, or with a node
// that they want or avoid, bundles are counted over all nodes.
//
// Cost: a node that comes, changes or goes, O(waiting classes that are infeasible or counted); a
// class that begins to wait, its choices, or O(nodes) where it is counted. Thread-safety: none.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "scheduler/scheduling_class.h"
#include "scheduler/selector_index.h"

namespace muster::sched {

class Feasibility {
 public:
  // Both must outlive it.
  Feasibility(const SelectorIndex& index, const std::vector<Node*>& nodes)
      : index_(index), nodes_(nodes) {}

  void Watch(SchedulingClass& of);    // It waits now.
  void Unwatch(SchedulingClass& of);  // It waits no longer.
  void Forget(SchedulingClass& of);   // It is about to go. REQUIRES: it does not wait.

  void Came(Node& node);   // In the index, with these labels.
  void Going(Node& node);  // About to leave the index, or to change.
  void Gone(Node& node);   // Out of the index; or it has changed there, and Came() follows.

  // Whether there is a node that could hold a bundle by that choice. REQUIRES: `of` waits.
  bool IsPossible(const SchedulingClass& of, int choice) const;

  // Classes that wait for which something may have changed since this was asked the last time.
  std::vector<SchedulingClass*> TakeChanged();
  // Those that wait and are counted, in order of class.
  const absl::btree_map<uint64_t, SchedulingClass*>& counted() const { return counted_; }

  void CheckInvariants(const SchedulingClass& of) const;  // REQUIRES: it waits.

 private:
  static bool IsCounted(const SchedulingClass& of);
  static bool CouldHold(const SchedulingClass& of, int choice, const Node& node);
  void FindWitnesses(SchedulingClass& of);
  void SetWitness(SchedulingClass& of, int choice, Node* node);
  void Note(SchedulingClass& of);

  const SelectorIndex& index_;
  const std::vector<Node*>& nodes_;
  absl::btree_map<uint64_t, SchedulingClass*> counted_;
  absl::btree_map<uint64_t, SchedulingClass*> uncounted_;  // SchedulingClass::counted() is false.
  absl::btree_map<uint64_t, SchedulingClass*> lacking_;    // Plain ones for which new nodes matter.
  absl::flat_hash_map<const Node*, std::vector<SchedulingClass*>> stands_for_;  // Some no longer.
  std::vector<SchedulingClass*> changed_;
};

}  // namespace muster::sched
