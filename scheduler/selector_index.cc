#include "scheduler/selector_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "scheduler/base/check.h"

namespace muster::sched {
namespace {

constexpr size_t kChangesMax = 8192;
constexpr size_t kAlikeKindsMax = 32;
constexpr size_t kAlikeNodesMin = 256;  // Of each kind.

void Intersect(Words& words, const Words& with) {
  for (size_t i = 0; i < words.size(); ++i) words[i] &= i < with.size() ? with[i] : 0;
}

bool HasBound(const LabelRequirement& r) { return r.greater_than || r.less_than; }

}  // namespace

// --- Selectors ---

int SelectorIndex::Acquire(const LabelSelector& selector) {
  if (const auto known = numbers_.find(selector); known != numbers_.end()) {
    ++entries_[known->second].users;
    return known->second;
  }
  int number = static_cast<int>(entries_.size());
  if (free_numbers_.empty()) {
    entries_.emplace_back();
  } else {
    number = free_numbers_.back();
    free_numbers_.pop_back();
  }
  Entry& entry = entries_[number];
  entry.selector = selector;
  entry.users = 1;
  for (const LabelRequirement& requirement : selector.requirements()) {
    IndexedRequirement indexed{.key = labels_.UseKey(requirement.key)};
    for (const std::string& value : requirement.in) {
      indexed.in.push_back(labels_.UseValue(indexed.key, value));
    }
    if (asked_for_.size() <= indexed.key) asked_for_.resize(indexed.key + 1);
    ++asked_for_[indexed.key];
    entry.requirements.push_back(std::move(indexed));
  }
  numbers_.emplace(selector, number);
  // What selectors ask for shows early; it is looked at again as often as there are twice as many.
  if (std::has_single_bit(++acquired_) && acquired_ >= 4) {
    std::vector<LabelKeyId> keys = ChooseAlikeKeys();
    if (keys != alike_keys_) LayOut(std::move(keys));
  }
  return number;
}

void SelectorIndex::Release(int number) {
  Entry& entry = entries_[number];
  MUSTER_CHECK(entry.users > 0);
  if (--entry.users > 0) return;
  numbers_.erase(entry.selector);
  for (const IndexedRequirement& requirement : entry.requirements) {
    --asked_for_[requirement.key];
    for (const LabelValueId value : requirement.in) labels_.ReleaseValue(value);
    labels_.ReleaseKey(requirement.key);
  }
  entry = Entry{};
  free_numbers_.push_back(number);
}

void SelectorIndex::BringUpToDate(Entry& entry) const {
  const uint64_t changes = forgotten_ + changes_.size();
  // Correcting one row costs about as much as building some blocks.
  const bool build = entry.layout != layout_ || entry.seen < forgotten_ ||
                     changes - entry.seen > 16 + rows_.blocks() / 8;
  if (build) {
    Build(entry);
  } else {
    Correct(entry);
  }
  entry.layout = layout_;
  entry.seen = changes;
}

void SelectorIndex::Build(Entry& entry) const {
  Words matched = rows_.live();
  const auto& requirements = entry.selector.requirements();
  for (size_t i = 0; i < requirements.size(); ++i) {
    const LabelRequirement& r = requirements[i];
    const LabelKeyId key = entry.requirements[i].key;
    if (r.must_be_missing) {
      labels_.having(key).RemoveFrom(matched);
      continue;
    }
    if (!r.in.empty()) {
      scratch_.assign(matched.size(), 0);
      for (const LabelValueId value : entry.requirements[i].in) {
        labels_.rows(value).AddTo(scratch_);
      }
      Intersect(matched, scratch_);
      continue;
    }
    if (r.must_exist || HasBound(r)) {
      scratch_.assign(matched.size(), 0);
      labels_.having(key).AddTo(scratch_);
      Intersect(matched, scratch_);
    }
    if (HasBound(r)) {
      for (LabelValueId value = 0; value < labels_.values(); ++value) {
        if (!labels_.InUse(value) || labels_.key_of(value) != key) continue;
        if (!r.Matches(&labels_.value(value))) labels_.rows(value).RemoveFrom(matched);
      }
      continue;
    }
    for (const std::string& value : r.not_in) {
      if (const LabelValueId* known = labels_.FindValue(key, value)) {
        labels_.rows(*known).RemoveFrom(matched);
      }
    }
  }
  entry.matched.Build(matched);
}

void SelectorIndex::Correct(Entry& entry) const {
  for (uint64_t i = entry.seen - forgotten_; i < changes_.size(); ++i) {
    const Row row = changes_[i];
    const Node* const node = rows_.node(row);
    entry.matched.Set(row, node != nullptr && Matches(entry, node->labels));
  }
}

bool SelectorIndex::Matches(const Entry& entry, const NodeLabels& labels) const {
  const auto& requirements = entry.selector.requirements();
  for (size_t i = 0; i < requirements.size(); ++i) {
    const LabelValueId value = labels.ValueOf(entry.requirements[i].key);
    const std::vector<LabelValueId>& in = entry.requirements[i].in;
    if (!in.empty()) {
      if (std::find(in.begin(), in.end(), value) == in.end()) return false;
    } else if (!requirements[i].Matches(value == kNoLabelValue ? nullptr : &labels_.value(value))) {
      return false;
    }
  }
  return true;
}

std::vector<Node*> SelectorIndex::nodes(int number) const {
  std::vector<Node*> nodes;
  const MatchedRows& rows = matched(number);
  rows.ForEach([&](Row row) { nodes.push_back(rows_.node(row)); });
  std::sort(nodes.begin(), nodes.end(), [](const Node* a, const Node* b) { return a->id < b->id; });
  return nodes;
}

// --- Nodes ---

void SelectorIndex::Add(Node* node, const Labels& labels) {
  node->index = this;
  node->labels.Assign(labels);
  if (rows_.Wasteful()) LayOut(ChooseAlikeKeys());
  node->row = rows_.Add(node, node->id, Alike(*node));
  labels_.Place(node->row, node->labels.ids());
  capacity_.Add(node);
  NoteChange(node->row);
  if (rows_.size() >= 256 && rows_.size() >= 2 * nodes_at_layout_) {
    std::vector<LabelKeyId> keys = ChooseAlikeKeys();
    nodes_at_layout_ = rows_.size();
    if (keys != alike_keys_) LayOut(std::move(keys));
  }
}

void SelectorIndex::Relabel(Node* node, const Labels& labels) {
  labels_.Displace(node->row, node->labels.ids());
  node->labels.Assign(labels);
  labels_.Place(node->row, node->labels.ids());
  capacity_.packing().Relabeled(node);
  NoteChange(node->row);
}

void SelectorIndex::Remove(Node* node) {
  capacity_.Remove(node);
  labels_.Displace(node->row, node->labels.ids());
  node->labels.Clear();
  rows_.Remove(node->row);
  NoteChange(node->row);
}

void SelectorIndex::NoteChange(Row row) {
  changes_.push_back(row);
  if (changes_.size() < kChangesMax) return;
  changes_.erase(changes_.begin(), changes_.begin() + kChangesMax / 2);
  forgotten_ += kChangesMax / 2;
}

std::vector<uint32_t> SelectorIndex::Alike(const Node& node) const {
  std::vector<uint32_t> alike;
  for (const LabelKeyId key : alike_keys_) alike.push_back(node.labels.ValueOf(key));
  return alike;
}

// The keys that selectors name most, as long as there are few combinations of their values and many
// nodes for each.
std::vector<LabelKeyId> SelectorIndex::ChooseAlikeKeys() const {
  std::vector<LabelKeyId> keys;
  for (LabelKeyId key = 0; key < asked_for_.size(); ++key) {
    if (asked_for_[key] > 0 && labels_.values_of(key) > 1) keys.push_back(key);
  }
  std::stable_sort(keys.begin(), keys.end(),
                   [&](LabelKeyId a, LabelKeyId b) { return asked_for_[a] > asked_for_[b]; });
  const size_t kinds_max = std::min(kAlikeKindsMax, rows_.size() / kAlikeNodesMin);
  size_t kinds = 1;
  std::vector<LabelKeyId> chosen;
  for (const LabelKeyId key : keys) {
    if (kinds * labels_.values_of(key) > kinds_max) continue;
    kinds *= labels_.values_of(key);
    chosen.push_back(key);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

void SelectorIndex::LayOut(std::vector<LabelKeyId> alike_keys) {
  std::vector<Node*> nodes;
  for (size_t block = 0; block < rows_.blocks(); ++block) {
    for (uint64_t word = rows_.live()[block]; word != 0; word &= word - 1) {
      nodes.push_back(rows_.node(static_cast<Row>(block * kBlock + LowestBit(word))));
    }
  }
  std::sort(nodes.begin(), nodes.end(), [](const Node* a, const Node* b) { return a->id < b->id; });
  alike_keys_ = std::move(alike_keys);
  ++layout_;
  rows_.Clear();
  labels_.DisplaceAll();
  capacity_.Clear();
  for (Node* node : nodes) {
    node->row = rows_.Add(node, node->id, Alike(*node));
    labels_.Place(node->row, node->labels.ids());
    capacity_.Add(node);
  }
  nodes_at_layout_ = rows_.size();
}

void SelectorIndex::CheckInvariants(const std::vector<Node*>& nodes) const {
  MUSTER_CHECK(rows_.size() == nodes.size());
  capacity_.CheckInvariants(nodes);
  for (size_t number = 0; number < entries_.size(); ++number) {
    const Entry& entry = entries_[number];
    if (entry.users == 0) continue;
    const MatchedRows& rows = matched(static_cast<int>(number));
    std::vector<Node*> expected;
    for (Node* node : nodes) {
      const bool matches = entry.selector.Matches(node->labels);
      MUSTER_CHECK(rows.Contains(node->row) == matches);
      if (matches) expected.push_back(node);
    }
    MUSTER_CHECK(this->nodes(static_cast<int>(number)) == expected);
  }
}

void InsertById(std::vector<Node*>& nodes, Node* node) {
  const auto position = std::lower_bound(nodes.begin(), nodes.end(), node->id,
                                         [](const Node* a, NodeId id) { return a->id < id; });
  if (position != nodes.end() && *position == node) return;
  nodes.insert(position, node);
}

void EraseById(std::vector<Node*>& nodes, const Node* node) {
  const auto position = std::lower_bound(nodes.begin(), nodes.end(), node->id,
                                         [](const Node* a, NodeId id) { return a->id < id; });
  if (position != nodes.end() && *position == node) nodes.erase(position);
}

}  // namespace muster::sched
