// Amounts of what a node has and a request needs: exact integers in 1/10000 of a unit, so that sums
// and differences never drift.
//
// Errors: kInvalidArgument, naming the resource and its value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::sched {

// 1 CPU is 10000, half a GPU 5000.
struct Amount {
  static constexpr int64_t kUnit = 10000;
  static constexpr int64_t kMax = 1'000'000'000 * kUnit;
  int64_t value = 0;
};
inline constexpr int64_t kMemoryBytesMax = int64_t{1} << 60;
inline constexpr int kGpuDevicesMax = 4096;     // Of one node.
inline constexpr int kCustomResourcesMax = 64;  // Of one node or request.

// Custom resources: name to 1/10000. Most have none, so a copy of none costs next to nothing.
class CustomAmounts : public absl::btree_map<std::string, int64_t> {
 public:
  using Map = absl::btree_map<std::string, int64_t>;
  using Map::Map;
  CustomAmounts() = default;
  CustomAmounts(const CustomAmounts& other) : Map() {
    if (!other.empty()) Map::operator=(other);
  }
  CustomAmounts& operator=(const CustomAmounts& other) {
    if (!empty() || !other.empty()) Map::operator=(other);
    return *this;
  }
  CustomAmounts(CustomAmounts&&) = default;
  CustomAmounts& operator=(CustomAmounts&&) = default;
};

// What a request (a bundle of it) needs. GPUs below 1 are a share of one device; from 1 on they are
// whole.
struct Resources {
  int64_t cpus = 0;  // 1/10000.
  int64_t gpus = 0;  // 1/10000.
  int64_t memory_bytes = 0;
  CustomAmounts custom{};  // No zero amounts.

  friend bool operator==(const Resources& a, const Resources& b) {
    return std::tie(a.cpus, a.gpus, a.memory_bytes, a.custom) ==
           std::tie(b.cpus, b.gpus, b.memory_bytes, b.custom);
  }
  friend bool operator!=(const Resources& a, const Resources& b) { return !(a == b); }
  template <typename H>
  friend H AbslHashValue(H h, const Resources& r) {
    return H::combine(std::move(h), r.cpus, r.gpus, r.memory_bytes, r.custom);
  }
};

// What a node has. Every device is one GPU (or one MIG slice).
struct NodeResources {
  int64_t cpus = 0;
  int gpu_devices = 0;
  int64_t memory_bytes = 0;
  CustomAmounts custom{};
};

struct GpuShare {
  int device = 0;
  int64_t amount = 0;  // 1/10000 of the device.

  friend bool operator==(GpuShare a, GpuShare b) {
    return a.device == b.device && a.amount == b.amount;
  }
};
using GpuShares = absl::InlinedVector<GpuShare, 4>;

// 0.5 to 5000. Refuses what is negative, not a number, finer than 1/10000 or above Amount::kMax.
// `name` ("cpus") is for the message.
absl::StatusOr<int64_t> AmountFromDouble(absl::string_view name, double value);
absl::StatusOr<int64_t> ParseAmount(absl::string_view name, absl::string_view text);  // "0.5"
std::string AmountToText(int64_t amount);                                             // "0.5"

// "8GiB", "1.5GiB", "512MiB", "64KiB", "1TiB", or bytes.
absl::StatusOr<int64_t> ParseMemory(absl::string_view text);
std::string MemoryToText(int64_t bytes);  // "8 GiB", "512 MiB", "1000 bytes"

// As the API gives them; validated.
absl::StatusOr<Resources> MakeResources(double cpus, double gpus, int64_t memory_bytes,
                                        const std::map<std::string, double>& custom);

// Amounts in their bounds, GPUs below 1 or whole, no zero amount or odd name among the custom ones.
absl::Status Validate(const Resources& resources);
absl::Status Validate(const NodeResources& total);
absl::Status ValidateResourceName(absl::string_view name);

// "1 CPU, 1 GPU, 8 GiB memory, 2 license"; "nothing" where nothing is needed.
std::string ToText(const Resources& resources);
std::string ToText(const NodeResources& total);

}  // namespace muster::sched
