// Which nodes each label selector in use matches, so that a decision looks at no label; and what it
// is made from: the nodes' labels, rows and free capacity.
//
// Nodes that come, change and go cost O(their labels) here: what a selector matches is made when it
// is asked for, from the sets of nodes by label, and corrected by the rows that changed since.
//
// Thread-safety: none; const functions bring what they read up to date.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler/capacity_index.h"
#include "scheduler/ids.h"
#include "scheduler/label_selector.h"
#include "scheduler/label_table.h"
#include "scheduler/node.h"
#include "scheduler/node_rows.h"
#include "scheduler/row_set.h"

namespace muster::sched {

// A requirement of a selector in use, by ids.
struct IndexedRequirement {
  LabelKeyId key = 0;
  std::vector<LabelValueId> in{};  // Of `in`, in its order; empty where that is.
};

class SelectorIndex {
 public:
  SelectorIndex() = default;
  SelectorIndex(const SelectorIndex&) = delete;
  SelectorIndex& operator=(const SelectorIndex&) = delete;

  // The number of `selector`, for use until Release().
  int Acquire(const LabelSelector& selector);
  void Release(int number);

  void Add(Node* node, const Labels& labels);
  void Relabel(Node* node, const Labels& labels);
  void Remove(Node* node);

  static bool Selected(const Node& node, int number) {
    return node.index->matched(number).Contains(node.row);
  }
  // Another number after each change of what a selector may match.
  uint64_t version() const { return layout_ + forgotten_ + changes_.size(); }
  const MatchedRows& matched(int number) const {
    Entry& entry = entries_[number];
    if (entry.layout != layout_ || entry.seen != forgotten_ + changes_.size()) {
      BringUpToDate(entry);
    }
    return entry.matched;
  }
  std::vector<Node*> nodes(int number) const;  // In order of id. O(nodes); for reports.
  const LabelSelector& selector(int number) const { return entries_[number].selector; }
  const std::vector<IndexedRequirement>& requirements(int number) const {
    return entries_[number].requirements;
  }

  LabelTable& labels() { return labels_; }
  const LabelTable& labels() const { return labels_; }
  CapacityIndex& capacity() { return capacity_; }
  const CapacityIndex& capacity() const { return capacity_; }

  void CheckInvariants(const std::vector<Node*>& nodes) const;

 private:
  struct Entry {
    LabelSelector selector;
    int users = 0;  // 0: the number is free.
    std::vector<IndexedRequirement> requirements;
    MatchedRows matched;
    uint64_t seen = 0;  // Of the changes.
    uint64_t layout = 0;
  };
  void Build(Entry& entry) const;
  void Correct(Entry& entry) const;
  bool Matches(const Entry& entry, const NodeLabels& labels) const;
  void BringUpToDate(Entry& entry) const;
  void NoteChange(Row row);
  std::vector<uint32_t> Alike(const Node& node) const;
  std::vector<LabelKeyId> ChooseAlikeKeys() const;
  void LayOut(std::vector<LabelKeyId> alike_keys);  // All rows anew.

  LabelTable labels_;
  NodeRows rows_;
  CapacityIndex capacity_{rows_};

  mutable std::vector<Entry> entries_;
  std::vector<int> free_numbers_;
  absl::flat_hash_map<LabelSelector, int> numbers_;

  // Rows whose node came, changed or went, oldest first; what is older is forgotten.
  std::vector<Row> changes_;
  uint64_t forgotten_ = 0;
  uint64_t layout_ = 1;  // How often rows were given anew.

  std::vector<LabelKeyId> alike_keys_;
  std::vector<int64_t> asked_for_;  // By key: how many selectors in use name it.
  uint64_t acquired_ = 0;
  size_t nodes_at_layout_ = 0;
  mutable Words scratch_;
};

// Keeps a vector of nodes in order of id.
void InsertById(std::vector<Node*>& nodes, Node* node);
void EraseById(std::vector<Node*>& nodes, const Node* node);

}  // namespace muster::sched
