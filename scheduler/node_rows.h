// Which row of the index each node has. Nodes that are alike in the labels that selectors ask for
// most share blocks, so that what a selector matches is few whole blocks rather than a bit in each;
// within a block, and from block to block by their first nodes, rows are in order of id.
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

  Node* node(Row row) const { return nodes_[row]; }
  NodeId id(Row row) const { return ids_[row]; }
  NodeId first_id(size_t block) const { return first_ids_[block]; }  // None in it is lower.
  bool ordered() const { return ordered_; }
  size_t blocks() const { return first_ids_.size(); }
  const Words& live() const { return live_; }  // A bit for each row with a node.
  size_t size() const { return size_; }
  bool Wasteful() const {
    return nodes_.size() > 4096 + 4 * size_ || (!ordered_ && misplaced_ > 64 + size_ / 8);
  }

 private:
  std::vector<Node*> nodes_;  // By row; null where none is.
  std::vector<NodeId> ids_;
  std::vector<NodeId> first_ids_;
  Words live_;
  absl::flat_hash_map<std::vector<uint32_t>, Row>
      next_;  // Where the next alike goes; a block's end: nowhere yet.
  size_t size_ = 0;
  size_t misplaced_ = 0;  // Came with a lower id than one before.
  bool ordered_ = true;
  NodeId highest_{};
};

}  // namespace muster::sched
