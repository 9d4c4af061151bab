// The device code of gelu and adamw: one thread per element. Formulas and accuracy are in the
// operations' headers; the launchers in elementwise.cu.
#pragma once

#include <cmath>
#include <cstddef>

namespace muster::kernels::cuda {

// Beyond the end of the data there is nothing to do: grids are rounded up to whole blocks.
__device__ inline size_t ElementOfThread() {
  return static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// exp(-2 u(x)): with it, (1 + tanh(u)) / 2 is 1 / (1 + e), without cancellation for large u.
__device__ inline float ExpMinusTwoU(float x) {
  constexpr float kScale = 0.797884560802865F;  // sqrt(2 / pi)
  const float u = kScale * (x + 0.044715F * x * x * x);
  // Clamped as on the CPU: an infinite e would make 0 * infinity in the backward pass.
  return expf(fminf(-2.0F * u, 88.0F)) + (u - u);  // A NaN, which fminf drops, stays.
}

__global__ void GeluForwardKernel(size_t n, const float* x, float* y) {
  const size_t i = ElementOfThread();
  if (i >= n) return;
  y[i] = x[i] / (1.0F + ExpMinusTwoU(x[i]));
}

__global__ void GeluBackwardKernel(size_t n, const float* x, const float* dy, float* dx) {
  const size_t i = ElementOfThread();
  if (i >= n) return;
  const float e = ExpMinusTwoU(x[i]);
  const float share = 1.0F / (1.0F + e);
  const float slope = 2.0F * 0.797884560802865F * (1.0F + 3.0F * 0.044715F * x[i] * x[i]);
  dx[i] = dy[i] * (share + x[i] * share * (e * share) * slope);
}

// What AdamWConfig says, worked out once on the host.
struct AdamWConstants {
  float beta1, beta2, rest1, rest2;
  float pace;         // learning_rate / (1 - beta1^step)
  float correction2;  // 1 / (1 - beta2^step)
  float keep;         // 1 - learning_rate * weight_decay
  float epsilon;
  float gradient_scale;
};

__global__ void AdamWKernel(AdamWConstants c, size_t n, const float* g, float* w, float* m,
                            float* v) {
  const size_t i = ElementOfThread();
  if (i >= n) return;
  const float d = g[i] * c.gradient_scale;
  const float mean = c.beta1 * m[i] + c.rest1 * d;
  const float square = c.beta2 * v[i] + c.rest2 * d * d;
  m[i] = mean;
  v[i] = square;
  w[i] = c.keep * w[i] - c.pace * mean / (sqrtf(square * c.correction2) + c.epsilon);
}

}  // namespace muster::kernels::cuda
