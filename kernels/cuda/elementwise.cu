#include <cuda_runtime.h>

#include <cmath>
#include <string>

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/elementwise.h"

namespace muster::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

unsigned Blocks(size_t n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }

absl::Status Launched(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(std::string(kernel) + ": " + cudaGetErrorString(error));
}

}  // namespace

absl::Status GeluForward(size_t n, const float* x, float* y, CUstream_st* stream) {
  if (n == 0) return absl::OkStatus();  // CUDA refuses empty grids.
  GeluForwardKernel<<<Blocks(n), kThreads, 0, stream>>>(n, x, y);
  return Launched("gelu forward");
}

absl::Status GeluBackward(size_t n, const float* x, const float* dy, float* dx,
                          CUstream_st* stream) {
  if (n == 0) return absl::OkStatus();
  GeluBackwardKernel<<<Blocks(n), kThreads, 0, stream>>>(n, x, dy, dx);
  return Launched("gelu backward");
}

absl::Status AdamWStep(const AdamWConfig& config, size_t n, const float* g, float* w, float* m,
                       float* v, CUstream_st* stream) {
  if (n == 0) return absl::OkStatus();
  const auto step = static_cast<double>(config.step);
  const AdamWConstants constants = {
      .beta1 = static_cast<float>(config.beta1),
      .beta2 = static_cast<float>(config.beta2),
      .rest1 = static_cast<float>(1 - config.beta1),
      .rest2 = static_cast<float>(1 - config.beta2),
      .pace = static_cast<float>(config.learning_rate / (1 - std::pow(config.beta1, step))),
      .correction2 = static_cast<float>(1 / (1 - std::pow(config.beta2, step))),
      .keep = static_cast<float>(1 - config.learning_rate * config.weight_decay),
      .epsilon = static_cast<float>(config.epsilon),
      .gradient_scale = static_cast<float>(config.gradient_scale)};
  AdamWKernel<<<Blocks(n), kThreads, 0, stream>>>(constants, n, g, w, m, v);
  return Launched("adamw");
}

}  // namespace muster::kernels::cuda
