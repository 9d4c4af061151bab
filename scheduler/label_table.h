// The labels of all nodes, each key and value kept once, and for each the rows of the nodes that
// have it: so a join costs O(its labels), and what a selector matches comes from whole sets.
//
// Keys and values live while somebody uses them: nodes, and selectors that name them.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "scheduler/labels.h"
#include "scheduler/row_set.h"

namespace muster::sched {

using LabelKeyId = uint32_t;
using LabelValueId = uint32_t;  // Of one key: equal texts of two keys are two values.
inline constexpr LabelValueId kNoLabelValue = ~LabelValueId{0};

struct LabelIds {
  LabelKeyId key = 0;
  LabelValueId value = 0;
};

class LabelTable {
 public:
  LabelTable() = default;
  LabelTable(const LabelTable&) = delete;
  LabelTable& operator=(const LabelTable&) = delete;

  // Each use asks for one release.
  LabelKeyId UseKey(absl::string_view text);
  void ReleaseKey(LabelKeyId key);
  LabelValueId UseValue(LabelKeyId key, absl::string_view text);  // Uses the key too.
  void ReleaseValue(LabelValueId value);

  const LabelKeyId* FindKey(absl::string_view text) const;  // Null: nobody has it.
  const LabelValueId* FindValue(LabelKeyId key, absl::string_view text) const;
  const std::string& key(LabelKeyId key) const { return keys_[key].text; }
  const std::string& value(LabelValueId value) const { return values_[value].text; }
  LabelKeyId key_of(LabelValueId value) const { return values_[value].key; }
  size_t values_of(LabelKeyId key) const { return keys_[key].values.size(); }
  size_t keys() const { return keys_.size(); }      // Ids are below.
  size_t values() const { return values_.size(); }  // Ids are below; some are unused.
  bool InUse(LabelValueId value) const { return values_[value].users > 0; }

  // Who has it.
  const RowSet& having(LabelKeyId key) const { return keys_[key].rows; }
  const RowSet& rows(LabelValueId value) const { return values_[value].rows; }
  void Place(Row row, const std::vector<LabelIds>& labels);
  void Displace(Row row, const std::vector<LabelIds>& labels);
  void DisplaceAll();

 private:
  struct Key {
    std::string text;
    uint32_t users = 0;
    RowSet rows;
    absl::flat_hash_map<absl::string_view, LabelValueId> values;  // The text is the value's.
  };
  struct Value {
    std::string text;
    LabelKeyId key = 0;
    uint32_t users = 0;
    RowSet rows;
  };

  std::deque<Key> keys_;
  std::deque<Value> values_;
  absl::flat_hash_map<absl::string_view, LabelKeyId> key_ids_;  // The text is the key's.
  std::vector<LabelKeyId> free_keys_;
  std::vector<LabelValueId> free_values_;
};

// The labels of one node, aliases added.
class NodeLabels {
 public:
  explicit NodeLabels(LabelTable& table) : table_(table) {}
  NodeLabels(const NodeLabels&) = delete;
  NodeLabels& operator=(const NodeLabels&) = delete;

  void Assign(const Labels& labels);  // Row sets are its caller's to keep.
  void Clear();
  const std::string* Find(absl::string_view key) const;  // Null: it has none.
  LabelValueId ValueOf(LabelKeyId key) const;            // kNoLabelValue: it has none.
  const std::vector<LabelIds>& ids() const { return ids_; }
  operator Labels() const;  // NOLINT(google-explicit-constructor): for reports.

 private:
  LabelTable& table_;
  std::vector<LabelIds> ids_;
};

}  // namespace muster::sched
