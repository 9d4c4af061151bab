// Amounts of what a node has and a request needs: exact integers in 1/10000 of a unit, so that sums and
// differences never drift.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"

namespace muster {

// 1 CPU is 10000, half a GPU 5000.
struct Amount {
  static constexpr int64_t kUnit = 10000;
  int64_t value = 0;
};

// What a request (a bundle of it) needs. GPUs below 1 are a share of one device; from 1 on they are whole.
struct Resources {
  int64_t cpus = 0;          // 1/10000.
  int64_t gpus = 0;          // 1/10000.
  int64_t memory_bytes = 0;
  absl::btree_map<std::string, int64_t> custom;  // Name to 1/10000; no zero amounts.
};

// What a node has. Every device is one GPU (or one MIG slice).
struct NodeResources {
  int64_t cpus = 0;
  int gpu_devices = 0;
  int64_t memory_bytes = 0;
  absl::btree_map<std::string, int64_t> custom;
};

struct GpuShare {
  int device = 0;
  int64_t amount = 0;  // 1/10000 of the device.
};

}  // namespace muster
