// The little of YAML that muster's files use: a map of plain values, or a list of such maps below
// one key.
//
// Values are taken as written ("1", "yes" and "0x10" stay text). Refused, with line and key: nested
// values, an
//   empty value without quotes (YAML's null), a key given twice, more than kYamlBytesMax bytes.
// Errors: kInvalidArgument; kNotFound where a file cannot be read.
// Thread-safety: free functions, no state.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace muster::worker {

inline constexpr int kYamlBytesMax = 1 << 20;

using FlatMap = std::vector<std::pair<std::string, std::string>>;  // In the file's order.

// "k: v\nk2: v2". An empty document is an empty map.
absl::StatusOr<FlatMap> ParseYamlMap(const std::string& text);

// "nodes:\n- {k: v}\n- {}" with `key` "nodes". No other key but `beside` may be there.
absl::StatusOr<std::vector<FlatMap>> ParseYamlMaps(const std::string& text, const std::string& key,
                                                   const std::string& beside = "");

// "head: {k: v, k2: [a, b]}" with `key` "head": a pair for each value. Absent: empty. Other keys
// are not looked at.
absl::StatusOr<FlatMap> ParseYamlOptions(const std::string& text, const std::string& key);

absl::StatusOr<std::string> ReadYamlFile(const std::string& path);

}  // namespace muster::worker
