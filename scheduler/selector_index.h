// Which nodes each label selector in use matches, kept up to date as nodes come, change and go, so
// that a decision looks at no label.
//
// Invariant: nodes(s) are in order of id, and hold exactly the nodes whose labels s matches;
// node.selected[s]
//   says the same of one node.
#pragma once

#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "scheduler/ids.h"
#include "scheduler/label_selector.h"
#include "scheduler/node.h"

namespace muster::sched {

class SelectorIndex {
 public:
  // The number of `selector`, for use until Release(); `nodes` are all the nodes there are, in
  // order of id.
  int Acquire(const LabelSelector& selector, const std::vector<Node*>& nodes);
  void Release(int number);

  void Add(Node* node);  // Also after its labels changed, with Remove() before.
  void Remove(Node* node);

  const std::vector<Node*>& nodes(int number) const { return entries_[number].nodes; }
  static bool Selected(const Node& node, int number) {
    return static_cast<size_t>(number) < node.selected.size() && node.selected[number];
  }

  void CheckInvariants(const std::vector<Node*>& nodes) const;

 private:
  struct Entry {
    LabelSelector selector;
    int users = 0;  // 0: the number is free.
    std::vector<Node*> nodes;
  };
  static void Mark(Node& node, int number, bool selected);

  std::vector<Entry> entries_;
  std::vector<int> free_numbers_;
  absl::flat_hash_map<LabelSelector, int> numbers_;
};

// Keeps a vector of nodes in order of id.
void InsertById(std::vector<Node*>& nodes, Node* node);
void EraseById(std::vector<Node*>& nodes, const Node* node);

}  // namespace muster::sched
