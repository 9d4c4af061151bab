// The CUDA versions of gelu (kernels/gelu.h) and adamw (kernels/adamw.h), which see for what they
// compute. All pointers are to device memory of n floats.
//
// A launcher enqueues on the stream and returns; the caller waits. REQUIRES: n < 2^31 * 256.
// Errors: kInternal with CUDA's own words when the launch was refused; what goes wrong later shows
// at
//   the stream's next synchronization.
// Thread-safety: as CUDA's; the calling thread's current device is used.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "kernels/adamw.h"

// CUDA's stream handle, without CUDA's headers.
struct CUstream_st;

namespace muster::kernels::cuda {

absl::Status GeluForward(size_t n, const float* x, float* y, CUstream_st* stream);
absl::Status GeluBackward(size_t n, const float* x, const float* dy, float* dx,
                          CUstream_st* stream);
absl::Status AdamWStep(const AdamWConfig& config, size_t n, const float* g, float* w, float* m,
                       float* v, CUstream_st* stream);

}  // namespace muster::kernels::cuda
