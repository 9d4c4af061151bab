#include "scheduler/node_rows.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace muster::sched {

Row NodeRows::Add(Node* node, NodeId id, const std::vector<uint32_t>& alike) {
  if (size_ > 0 && id < highest_) {
    ordered_ = false;
    ++misplaced_;
  }
  highest_ = std::max(highest_, id);
  Row& next = next_.try_emplace(alike, Row{0}).first->second;
  if (next % kBlock == 0) {  // The block before is full, or there is none.
    next = static_cast<Row>(rows_.size());
    rows_.resize(rows_.size() + kBlock);
    live_.push_back(0);
    first_ids_.push_back(id);
  }
  const Row row = next++;
  rows_[row] = {.node = node, .id = id};
  NodeId& first = first_ids_[row / kBlock];
  first = std::min(first, id);
  live_[row / kBlock] |= uint64_t{1} << (row % kBlock);
  ++size_;
  return row;
}

void NodeRows::Remove(Row row) {
  MUSTER_CHECK(rows_[row].node != nullptr);
  rows_[row].node = nullptr;
  live_[row / kBlock] &= ~(uint64_t{1} << (row % kBlock));
  --size_;
}

void NodeRows::Clear() {
  rows_.clear();
  first_ids_.clear();
  live_.clear();
  next_.clear();
  size_ = 0;
  misplaced_ = 0;
  ordered_ = true;
  highest_ = NodeId{};
}

}  // namespace muster::sched
