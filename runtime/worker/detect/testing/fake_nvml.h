// A driver's management library that says what a test tells it to: a shared library of its own,
// loaded as the real one is.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/worker/detect/nvml_abi.h"

namespace muster::worker {

struct FakeDevice {
  std::string name{};
  std::string uuid{};
  unsigned long long memory_bytes = 0;  // NOLINT(google-runtime-int): as in nvml_abi.h.
  nvml::Return handle_rc = nvml::kSuccess;
  nvml::Return uuid_rc = nvml::kSuccess;
  nvml::Return memory_rc = nvml::kSuccess;
  bool remapping_failed = false;
  bool mig = false;
  nvml::Return mig_count_rc = nvml::kSuccess;
  std::vector<FakeDevice> slots{};  // MIG instances; one without a UUID is an empty slot.
};

struct FakeNvml {
  nvml::Return init_rc = nvml::kSuccess;
  nvml::Return count_rc = nvml::kSuccess;
  std::vector<FakeDevice> gpus{};
  std::vector<std::pair<unsigned, unsigned>> xids{};  // GPU and number, still to be told.
  nvml::Return listen_rc = nvml::kSuccess;
  int open = 0;  // Inits less shutdowns.
  int event_sets = 0;
};

// What the library exports beside NVML's functions: where the test writes.
inline constexpr char kFakeNvmlStateFunction[] = "FakeNvmlState";
using FakeNvmlStateFn = FakeNvml* (*)();

}  // namespace muster::worker
