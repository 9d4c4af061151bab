// Which of the machine's GPUs this worker may offer: the environment it was started in may hold
// some back.
//
// CUDA_VISIBLE_DEVICES, as CUDA reads it: indexes and UUIDs (a prefix will do), in the order
// wanted; the first
//   entry that names no device ends the list. A GPU in MIG mode stands for all its instances.
//   Empty, or Ray's "NoDevFiles": no GPUs.
// NVIDIA_VISIBLE_DEVICES is addressed to the container runtime, which has acted on it before we
// run: NVML shows
//   only what it let in, newly numbered, so indexes in it mean nothing here, and under CDI it says
//   "void" beside perfectly usable GPUs. Only UUIDs keep their meaning: where all entries are such,
//   the rest is held back (a privileged pod sees every GPU of its machine, and this is what
//   Kubernetes gave it).
//
// Errors: none; what is odd leaves a note. Thread-safety: free functions, no state.
#pragma once

#include <optional>
#include <string>

#include "runtime/worker/detect/gpus.h"

namespace muster::worker {

struct VisibleDevices {
  std::optional<std::string> cuda = std::nullopt;    // CUDA_VISIBLE_DEVICES; absent: not set.
  std::optional<std::string> nvidia = std::nullopt;  // NVIDIA_VISIBLE_DEVICES.
};

Gpus Restrict(Gpus gpus, const VisibleDevices& visible);

}  // namespace muster::worker
