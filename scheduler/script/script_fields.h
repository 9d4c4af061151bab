// The text of one golden-script line, taken apart: `join node=1 labels={k=v, k2=v2}` has the verb
// "join" and the fields "node" and "labels". Blanks and commas inside brackets and quotation marks
// part nothing.
//
// Errors: kInvalidArgument, saying what is wrong and what is allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster::sched {

// `text` without its comment: from a "#" outside quotation marks on.
absl::string_view WithoutComment(absl::string_view text);

// `text` at each `separator` outside brackets and quotation marks; pieces trimmed, empty ones left
// out for blanks. Refuses unbalanced brackets.
absl::StatusOr<std::vector<absl::string_view>> SplitOutsideBrackets(absl::string_view text,
                                                                    char separator);

// What stands inside `open` and `close`: "{a}" to "a".
absl::StatusOr<absl::string_view> Inside(absl::string_view text, char open, char close);
// "[a, b c]": "a" and "b c".
absl::StatusOr<std::vector<absl::string_view>> PiecesInside(absl::string_view text, char open,
                                                            char close);

class ScriptFields {
 public:
  // `words`: key=value each.
  static absl::StatusOr<ScriptFields> Parse(const std::vector<absl::string_view>& words);

  // Refuses keys that are not in `allowed`; "resource.*" allows every key of that beginning.
  absl::Status Allow(const std::vector<absl::string_view>& allowed) const;

  bool Has(absl::string_view key) const { return values_.find(key) != values_.end(); }
  absl::string_view Text(absl::string_view key) const;       // "" where it is left out.
  absl::StatusOr<uint64_t> Id(absl::string_view key) const;  // REQUIRED in the text.
  absl::StatusOr<int> Int(absl::string_view key, int otherwise, int min, int max) const;
  absl::StatusOr<bool> YesNo(absl::string_view key, bool otherwise) const;
  absl::StatusOr<absl::Duration> Duration(absl::string_view key, absl::Duration otherwise) const;

  const absl::btree_map<std::string, absl::string_view>& values() const { return values_; }

 private:
  absl::btree_map<std::string, absl::string_view> values_;
};

absl::StatusOr<absl::Duration> ParseScriptDuration(absl::string_view text);

}  // namespace muster::sched
