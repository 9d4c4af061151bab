// The only JSON that the scheduler's texts know: one map of strings to strings, {"k": "v", ...}.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::sched {

// Strict (RFC 8259): no trailing comma, no comment, no key twice, nothing after the map; linear in
// the length of `text`. Errors: kInvalidArgument with what is wrong and at which character.
absl::StatusOr<std::map<std::string, std::string>> ParseJsonMap(absl::string_view text);

// True when `text` begins as a JSON map does, after blanks.
bool LooksLikeJsonMap(absl::string_view text);

}  // namespace muster::sched
