#include "scheduler/label_table.h"

#include "scheduler/base/check.h"

namespace muster::sched {

const LabelKeyId* LabelTable::FindKey(absl::string_view text) const {
  const auto found = key_ids_.find(text);
  return found == key_ids_.end() ? nullptr : &found->second;
}

const LabelValueId* LabelTable::FindValue(LabelKeyId key, absl::string_view text) const {
  const auto found = keys_[key].values.find(text);
  return found == keys_[key].values.end() ? nullptr : &found->second;
}

LabelKeyId LabelTable::UseKey(absl::string_view text) {
  if (const LabelKeyId* known = FindKey(text)) {
    ++keys_[*known].users;
    return *known;
  }
  LabelKeyId id = static_cast<LabelKeyId>(keys_.size());
  if (free_keys_.empty()) {
    keys_.emplace_back();
  } else {
    id = free_keys_.back();
    free_keys_.pop_back();
  }
  Key& key = keys_[id];
  key.text = std::string(text);
  key.users = 1;
  key_ids_.emplace(key.text, id);
  return id;
}

void LabelTable::ReleaseKey(LabelKeyId id) {
  Key& key = keys_[id];
  MUSTER_CHECK(key.users > 0);
  if (--key.users > 0) return;
  MUSTER_CHECK(key.values.empty());
  MUSTER_CHECK(key.rows.empty());
  key_ids_.erase(key.text);
  key = Key{};
  free_keys_.push_back(id);
}

LabelValueId LabelTable::UseValue(LabelKeyId key_id, absl::string_view text) {
  Key& key = keys_[key_id];
  if (const auto known = key.values.find(text); known != key.values.end()) {
    ++values_[known->second].users;
    return known->second;
  }
  LabelValueId id = static_cast<LabelValueId>(values_.size());
  if (free_values_.empty()) {
    values_.emplace_back();
  } else {
    id = free_values_.back();
    free_values_.pop_back();
  }
  Value& value = values_[id];
  value.text = std::string(text);
  value.key = key_id;
  value.users = 1;
  key.values.emplace(value.text, id);
  ++key.users;
  return id;
}

void LabelTable::ReleaseValue(LabelValueId id) {
  Value& value = values_[id];
  MUSTER_CHECK(value.users > 0);
  if (--value.users > 0) return;
  MUSTER_CHECK(value.rows.empty());
  const LabelKeyId key = value.key;
  keys_[key].values.erase(value.text);
  value = Value{};
  free_values_.push_back(id);
  ReleaseKey(key);
}

void LabelTable::Place(Row row, const std::vector<LabelIds>& labels) {
  for (const LabelIds label : labels) {
    keys_[label.key].rows.Add(row);
    values_[label.value].rows.Add(row);
  }
}

void LabelTable::Displace(Row row, const std::vector<LabelIds>& labels) {
  for (const LabelIds label : labels) {
    keys_[label.key].rows.Remove(row);
    values_[label.value].rows.Remove(row);
  }
}

void LabelTable::DisplaceAll() {
  for (Key& key : keys_) key.rows = RowSet();
  for (Value& value : values_) value.rows = RowSet();
}

void NodeLabels::Assign(const Labels& labels) {
  std::vector<LabelIds> ids;
  ids.reserve(labels.size());
  for (const auto& [key_text, value_text] : labels) {
    const LabelKeyId key = table_.UseKey(key_text);
    ids.push_back({.key = key, .value = table_.UseValue(key, value_text)});
    table_.ReleaseKey(key);  // The value uses it.
  }
  Clear();
  ids_ = std::move(ids);
}

void NodeLabels::Clear() {
  for (const LabelIds label : ids_) table_.ReleaseValue(label.value);
  ids_.clear();
}

const std::string* NodeLabels::Find(absl::string_view key) const {
  const LabelKeyId* id = table_.FindKey(key);
  if (id == nullptr) return nullptr;
  const LabelValueId value = ValueOf(*id);
  return value == kNoLabelValue ? nullptr : &table_.value(value);
}

LabelValueId NodeLabels::ValueOf(LabelKeyId key) const {
  for (const LabelIds label : ids_) {
    if (label.key == key) return label.value;
  }
  return kNoLabelValue;
}

NodeLabels::operator Labels() const {
  Labels labels;
  for (const LabelIds label : ids_)
    labels.emplace(table_.key(label.key), table_.value(label.value));
  return labels;
}

}  // namespace muster::sched
