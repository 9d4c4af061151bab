#include "runtime/client/parts.h"

#include <cstdint>
#include <cstring>

namespace muster::client {

// The number of parts, then each length and its bytes; lengths are 8 bytes of this machine's order.
std::string JoinParts(std::span<const std::string> parts) {
  std::string joined;
  const auto append = [&joined](uint64_t number) {
    char bytes[sizeof(number)];
    std::memcpy(bytes, &number, sizeof(number));
    joined.append(bytes, sizeof(bytes));
  };
  append(parts.size());
  for (const std::string& part : parts) {
    append(part.size());
    joined += part;
  }
  return joined;
}

absl::StatusOr<std::vector<std::string_view>> SplitParts(std::string_view joined) {
  const auto take = [&joined](uint64_t& number) {
    if (joined.size() < sizeof(number)) return false;
    std::memcpy(&number, joined.data(), sizeof(number));
    joined.remove_prefix(sizeof(number));
    return true;
  };
  const absl::Status broken = absl::DataLossError("the group's result is cut short");
  uint64_t count = 0;
  if (!take(count) || count > joined.size() / sizeof(uint64_t)) return broken;
  std::vector<std::string_view> parts;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t size = 0;
    if (!take(size) || size > joined.size()) return broken;
    parts.push_back(joined.substr(0, size));
    joined.remove_prefix(size);
  }
  if (!joined.empty()) return broken;
  return parts;
}

}  // namespace muster::client
