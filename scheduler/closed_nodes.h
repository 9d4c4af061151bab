// Nodes that no search finds while it lives: a quota closes them to a request, or the request
// avoids them.
#pragma once

#include <vector>

#include "scheduler/node.h"

namespace muster::sched {

class ClosedNodes {
 public:
  ClosedNodes() = default;
  explicit ClosedNodes(const std::vector<Node*>& nodes) {
    for (Node* node : nodes) Close(node);
  }
  ~ClosedNodes() { Open(); }
  ClosedNodes(const ClosedNodes&) = delete;
  ClosedNodes& operator=(const ClosedNodes&) = delete;

  void Close(Node* node) {
    ++node->closed;
    nodes_.push_back(node);
  }
  void Open() {
    for (Node* node : nodes_) --node->closed;
    nodes_.clear();
  }

 private:
  std::vector<Node*> nodes_;
};

}  // namespace muster::sched
