// Deserialize() is total: any bytes give a value or a status. What was read is written and read
// again: the second writing must give the same bytes as the first, so no value changes on its way.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

#include "muster/serialization.h"

namespace muster {
namespace {

struct Node {
  int8_t small = 0;
  std::string name = {};
  std::vector<Node> children = {};
  std::optional<std::variant<std::monostate, double, std::vector<uint16_t>>> extra = {};
};

template <typename T>
void ReadAndReturn(std::string_view bytes) {
  const absl::StatusOr<T> value = Deserialize<T>(bytes);
  if (!value.ok()) return;
  const std::string first = Serialize(*value);
  const absl::StatusOr<T> again = Deserialize<T>(first);
  if (!again.ok() || Serialize(*again) != first) std::abort();
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using muster::ReadAndReturn;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 0:
      ReadAndReturn<muster::Node>(bytes);
      break;
    case 1:
      ReadAndReturn<std::vector<std::string>>(bytes);
      break;
    case 2:
      ReadAndReturn<std::vector<double>>(bytes);
      break;
    case 3:
      ReadAndReturn<std::map<std::string, std::tuple<int, uint64_t, bool>>>(bytes);
      break;
    case 4:
      ReadAndReturn<std::pair<absl::Duration, absl::Time>>(bytes);
      break;
    case 5:
      ReadAndReturn<std::array<std::pair<float, std::array<int, 2>>, 3>>(bytes);
      break;
    case 6:
      ReadAndReturn<std::string>(bytes);
      break;
    default:
      ReadAndReturn<std::vector<std::map<int, std::vector<bool>>>>(bytes);
      break;
  }
  return 0;
}
