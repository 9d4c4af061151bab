// A LabelSelector says which nodes may run something: every requirement must hold on the node's
// labels, as in {"ray.io/accelerator-type": "in(H100,A100)", "zone": "!west"}.
//
// One text per key: v, !v, in(a,b), !in(a,b), exists(), !exists(), gt(n), lt(n), or several of
// these joined by commas, all of which must hold. The empty text selects the empty value. A missing
// key satisfies !v, !in() and !exists() and nothing else; gt and lt hold for whole numbers only.
// Blanks are trimmed round the values between parentheses and stand nowhere else.
//
// Invariants: requirements are sorted by key, values within each, and what one key's clauses say
// together
//   is reduced to one normal form, so selectors that mean the same print the same and compare
//   equal. The empty selector matches every node.
// Thread-safety: immutable once parsed; share it freely.
// Errors: the Parse functions return kInvalidArgument naming the key, the clause and what is
// allowed;
//   a selector that no labels can satisfy is refused too. Matches() cannot fail.
// Source: a missing label behaves as in Kubernetes set-based selectors; the text form is Ray's,
// extended.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/labels.h"

namespace muster::sched {

// What must hold for one key, in normal form: `must_be_missing` alone, or `in` alone, or the rest.
struct LabelRequirement {
  std::string key{};
  bool must_be_missing = false;
  bool must_exist = false;            // Unset where a bound implies it.
  std::vector<std::string> in{};      // Sorted; empty: any value.
  std::vector<std::string> not_in{};  // Sorted.
  std::optional<int64_t> greater_than{};
  std::optional<int64_t> less_than{};

  bool Matches(const std::string* value) const;  // Null: the key is missing.
  std::string ToText() const;                    // "in(a,b)": parses to itself.

  friend bool operator==(const LabelRequirement& a, const LabelRequirement& b);
  friend bool operator<(const LabelRequirement& a, const LabelRequirement& b);
  template <typename H>
  friend H AbslHashValue(H h, const LabelRequirement& r) {
    return H::combine(std::move(h), r.key, r.must_be_missing, r.must_exist, r.in, r.not_in,
                      r.greater_than, r.less_than);
  }
};

// "a", "a or b", "a, b or c", and "" for an empty one. REQUIRES: there are some.
std::string Alternatives(const std::vector<std::string>& values);

class LabelSelector {
 public:
  static constexpr int kKeysMax = 64;
  static constexpr int kTextBytesMax = 8 * 1024;        // For one key.
  static constexpr int kWholeTextBytesMax = 64 * 1024;  // For ParseText().

  struct Mismatch {
    std::string key{};
    std::string clause{};  // The requirement's text: "in(a,b)".
    std::optional<std::string> actual{};
    std::string why{};  // `zone is c, not a or b`, `zone is missing, not a or b`
  };

  LabelSelector() = default;

  // Ray's form: one text per key.
  static absl::StatusOr<LabelSelector> Parse(const std::map<std::string, std::string>& text);

  // As typed on a command line: `key=in(a,b),key2=!v`, where commas inside parentheses belong to
  // the value and a piece without "=" is one more clause of the key before it; or the JSON map
  // {"key": "in(a,b)"}.
  static absl::StatusOr<LabelSelector> ParseText(absl::string_view text);

  bool Matches(const Labels& labels) const;
  std::optional<Mismatch> FirstMismatch(const Labels& labels) const;  // In order of key.

  std::string ToString() const;  // Canonical, for ParseText(): equal selectors print the same.
  std::map<std::string, std::string> ToMap()
      const;  // Canonical, for Parse(): as it goes on the wire.

  const std::vector<LabelRequirement>& requirements() const { return requirements_; }
  bool empty() const { return requirements_.empty(); }

  friend bool operator==(const LabelSelector& a, const LabelSelector& b) {
    return a.requirements_ == b.requirements_;
  }
  friend bool operator!=(const LabelSelector& a, const LabelSelector& b) { return !(a == b); }
  friend bool operator<(const LabelSelector& a, const LabelSelector& b) {
    return a.requirements_ < b.requirements_;
  }
  template <typename H>
  friend H AbslHashValue(H h, const LabelSelector& s) {
    return H::combine(std::move(h), s.requirements_);
  }

 private:
  std::vector<LabelRequirement> requirements_;
};

}  // namespace muster::sched
