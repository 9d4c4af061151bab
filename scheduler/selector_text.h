// The text of a label selector, read: the clauses of one key, and the pieces of a command line's
// `key=in(a,b),key2=!v`. What the clauses mean together is decided in label_selector.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::sched {

inline constexpr char kSelectorAllowed[] =
    "allowed: v, !v, in(a,b), !in(a,b), exists(), !exists(), gt(n), lt(n)";

struct SelectorClause {
  enum class Kind { kIn, kNotIn, kExists, kNotExists, kGreaterThan, kLessThan };
  Kind kind = Kind::kIn;
  std::vector<std::string> values{};  // kIn and kNotIn: one or more.
  int64_t bound = 0;                  // kGreaterThan and kLessThan.
};

// `label selector "KEY": "CLAUSE": WHAT; allowed: ...`: long clauses cut, odd characters escaped.
absl::Status SelectorError(absl::string_view key, absl::string_view clause, absl::string_view what);

// All clauses of one key's text, in order. Linear in the length of `text`.
absl::StatusOr<std::vector<SelectorClause>> ParseClauses(absl::string_view key,
                                                         absl::string_view text);

// "k=a,!b,k2=in(c,d)" to {"k": "a,!b", "k2": "in(c,d)"}; nothing inside the clauses is looked at.
absl::StatusOr<std::map<std::string, std::string>> SplitSelectorText(absl::string_view text);

}  // namespace muster::sched
