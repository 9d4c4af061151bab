#include "scheduler/selector_index.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace muster::sched {
namespace {

auto Position(std::vector<Node*>& nodes, NodeId id) {
  return std::lower_bound(nodes.begin(), nodes.end(), id,
                          [](const Node* node, NodeId wanted) { return node->id < wanted; });
}

}  // namespace

void InsertById(std::vector<Node*>& nodes, Node* node) {
  const auto position = Position(nodes, node->id);
  if (position != nodes.end() && *position == node) return;
  nodes.insert(position, node);
}

void EraseById(std::vector<Node*>& nodes, const Node* node) {
  const auto position = Position(nodes, node->id);
  if (position != nodes.end() && *position == node) nodes.erase(position);
}

int SelectorIndex::Acquire(const LabelSelector& selector, const std::vector<Node*>& nodes) {
  if (const auto known = numbers_.find(selector); known != numbers_.end()) {
    ++entries_[known->second].users;
    return known->second;
  }
  int number = static_cast<int>(entries_.size());
  if (free_numbers_.empty()) {
    entries_.resize(entries_.size() + 1);
  } else {
    number = free_numbers_.back();
    free_numbers_.pop_back();
  }
  Entry& entry = entries_[number];
  entry.selector = selector;
  entry.users = 1;
  for (Node* node : nodes) {
    if (!selector.Matches(node->labels)) continue;
    entry.nodes.push_back(node);
    Mark(*node, number, true);
  }
  numbers_.emplace(selector, number);
  return number;
}

void SelectorIndex::Release(int number) {
  Entry& entry = entries_[number];
  MUSTER_CHECK(entry.users > 0);
  if (--entry.users > 0) return;
  for (Node* node : entry.nodes) Mark(*node, number, false);
  numbers_.erase(entry.selector);
  entry = Entry{};
  free_numbers_.push_back(number);
}

void SelectorIndex::Add(Node* node) {
  for (size_t number = 0; number < entries_.size(); ++number) {
    Entry& entry = entries_[number];
    if (entry.users == 0 || !entry.selector.Matches(node->labels)) continue;
    InsertById(entry.nodes, node);
    Mark(*node, static_cast<int>(number), true);
  }
}

void SelectorIndex::Remove(Node* node) {
  for (size_t number = 0; number < node->selected.size(); ++number) {
    if (node->selected[number]) EraseById(entries_[number].nodes, node);
  }
  node->selected.clear();
}

void SelectorIndex::Mark(Node& node, int number, bool selected) {
  if (static_cast<size_t>(number) >= node.selected.size()) {
    node.selected.resize(static_cast<size_t>(number) + 1);
  }
  node.selected[number] = selected;
}

void SelectorIndex::CheckInvariants(const std::vector<Node*>& nodes) const {
  for (size_t number = 0; number < entries_.size(); ++number) {
    const Entry& entry = entries_[number];
    std::vector<Node*> expected;
    for (Node* node : nodes) {
      const bool matches = entry.users > 0 && entry.selector.Matches(node->labels);
      MUSTER_CHECK(Selected(*node, static_cast<int>(number)) == matches);
      if (matches) expected.push_back(node);
    }
    MUSTER_CHECK(entry.nodes == expected);
  }
}

}  // namespace muster::sched
