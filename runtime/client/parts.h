// Several serialized values as one: what a group's ranks returned, by rank.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace muster::client {

std::string JoinParts(std::span<const std::string> parts);
absl::StatusOr<std::vector<std::string_view>> SplitParts(std::string_view joined);

}  // namespace muster::client
