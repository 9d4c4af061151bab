// Labels are the key=value pairs of a node, in Kubernetes syntax: a key is a name of 1-63 letters,
// digits,
// "-", "_" and ".", beginning and ending with a letter or digit, after an optional DNS prefix of at
// most 253 characters and "/"; a value is empty or as a name.
//
// Errors: kInvalidArgument, naming the key, the value and what is allowed.
#pragma once

#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::sched {

using Labels = absl::btree_map<std::string, std::string>;

inline constexpr int kLabelsMax = 256;                 // On one node.
inline constexpr int kLabelsTextBytesMax = 64 * 1024;  // As typed on a command line.

absl::Status ValidateLabelKey(absl::string_view key);
absl::Status ValidateLabelValue(absl::string_view value);

// Keys, values, their number, and that a key and its alias do not differ.
absl::Status ValidateLabels(const Labels& labels);

// `labels` with each alias (ray.io/accelerator, ray.io/zone, ray.io/region) and the key that it
// stands for both there where one of them is. Where both are there already, they stay as they are.
Labels WithAliases(Labels labels);

// True for the keys that only repeat another one: left out where labels are shown.
bool IsAlias(absl::string_view key);

// "k=v,k2=v2" or a JSON map {"k": "v"}; validated, aliases added. The empty text is no labels.
absl::StatusOr<Labels> ParseLabels(absl::string_view text);

// "accelerator-type" of "ray.io/accelerator-type"; other keys as they are.
absl::string_view ShortKey(absl::string_view key);

// "accelerator-type=L4 market-type=spot": for people, with short keys and without aliases.
std::string ToText(const Labels& labels);

}  // namespace muster::sched
