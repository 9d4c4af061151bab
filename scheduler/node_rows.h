// Which row of the index each node has. Nodes that are alike in the labels that selectors ask for
// most share blocks, so that most of what a selector matches lies in few blocks rather than in all;
// within a block, and from block to block by their first nodes, rows are in order of id. There are
// few kinds of alike nodes, so a block spans few ids, and who has found a node need not look far
// for a lower id.
//
// Invariant: while ordered(), ids rise within each block, and first_id() from block to block.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler/ids.h"
#include "scheduler/row_set.h"

namespace muster::sched {

struct Node;

class NodeRows {
 public:
  // `alike` says by its values what the node has in common with others.
  Row Add(Node* node, NodeId id, const std::vector<uint32_t>& alike);
  void Remove(Row row);  // Its place stays free until Clear().
  void Clear();

  Node* node(Row row) const { return rows_[row].node; }
  NodeId id(Row row) const { return rows_[row].id; }
  NodeId first_id(size_t block) const { return first_ids_[block]; }  // None in it is lower.
  bool ordered() const { return ordered_; }
  size_t blocks() const { return first_ids_.size(); }
  const Words& live() const { return live_; }  // A bit for each row with a node.
  size_t size() const { return size_; }
  bool Wasteful() const {
    return rows_.size() > 4096 + 8 * size_ || (!ordered_ && misplaced_ > 64 + size_ / 8);
  }

 private:
  struct Entry {
    Node* node = nullptr;
    NodeId id{};
  };
  std::vector<Entry> rows_;        // By row; null where none is.
  std::vector<NodeId> first_ids_;  // By block.
  Words live_;
  absl::flat_hash_map<std::vector<uint32_t>, Row>
      next_;  // Where the next alike goes; a block's end: nowhere yet.
  size_t size_ = 0;
  size_t misplaced_ = 0;  // Came with a lower id than one before.
  bool ordered_ = true;
  NodeId highest_{};
};

}  // namespace muster::sched
