// Watches a node's GPUs for errors that only a reset or a repair mends, as the NVIDIA driver tells
// them: critical XIDs (those that a program's own mistake causes aside), rows that could not be
// remapped, and GPUs that have fallen off the bus.
//
// Errors: none. A driver that cannot say them (too old, or a device without support) gives notes
// for the log, and nothing is watched there. Thread-safety: one thread at a time; NVML stays loaded
// as long as this lives. Source: NVML API reference guide; NVIDIA's XID catalogue; which XIDs are a
// program's own as in NVIDIA's Kubernetes device plugin.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "runtime/worker/detect/gpus.h"

namespace muster::worker {

struct GpuTrouble {
  int device = 0;        // Index on the node, as in DetectedNode::gpus.
  std::string reason{};  // "xid 79", "rows could not be remapped", "GPU is lost"
};

class GpuHealth {
 public:
  // Null where there is nothing to watch: no device that is real, or no driver.
  static std::unique_ptr<GpuHealth> Open(const std::vector<GpuDevice>& devices,
                                         std::vector<std::string>& notes,
                                         const std::string& library = kNvmlLibrary);
  virtual ~GpuHealth() = default;

  // Waits for an error, at most `longest`, and returns what is wrong with devices that were well
  // before: each is told once. Where a GPU is divided (MIG), all its instances are.
  virtual std::vector<GpuTrouble> Wait(absl::Duration longest) = 0;
};

}  // namespace muster::worker
