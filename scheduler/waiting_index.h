// Which waiting classes a node that has more room than before may serve: found by the node's labels
// and what is free of it, without a look at the others.
//
// Each open choice of a class that waits has a bit; for each label value that a selector asks for
// there are the bits of those that accept it, and a node's candidates are what is left of all bits
// after its labels and its free GPUs. What comes out is a superset: of requirements other than
// in(), of CPUs and of memory nothing is known here.
//
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler/node.h"
#include "scheduler/row_set.h"
#include "scheduler/scheduling_class.h"
#include "scheduler/selector_index.h"

namespace muster::sched {

class WaitingIndex {
 public:
  explicit WaitingIndex(const SelectorIndex& index) : index_(index) {}

  // The first `open` choices of `of` are those of its oldest request; 0: it does not wait.
  void Set(SchedulingClass& of, int open);

  // Appends the classes that may have room on `node` now, each once.
  void Candidates(const Node& node, std::vector<SchedulingClass*>& classes);

 private:
  static constexpr int kGpuLevels = 8;

  // Bits, and how many are set.
  struct Bits {
    Words words;
    int count = 0;
  };
  void Add(SchedulingClass& of, int choice);
  void Remove(SchedulingClass& of, int choice);
  void Change(const SchedulingClass& of, int choice, uint32_t bit, bool set);
  static void Change(Bits& bits, uint32_t bit, bool set);

  const SelectorIndex& index_;
  std::vector<SchedulingClass*> class_of_bit_;
  std::vector<uint32_t> free_bits_;
  Bits all_;
  Bits shares_;                    // Need a share of a GPU.
  Bits more_whole_[kGpuLevels];    // By n: need more than n whole GPUs.
  std::vector<Bits> asks_for_;     // By label key: an in() names it.
  std::vector<LabelKeyId> asked_;  // Keys with bits in asks_for_.
  absl::flat_hash_map<LabelValueId, Bits> accepts_;
  Words result_;
};

}  // namespace muster::sched
