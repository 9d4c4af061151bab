// AdamW moves parameters against their gradients, each at its own pace, and shrinks them a little.
//
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
//   w -= learning_rate * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon)
//                         + weight_decay * w)
//
// Shapes: all [n]; w, m, v are updated in place. `step` counts from 1. `gradient_scale` multiplies
//   each g on the way in (clipping without a pass of its own).
// Accuracy: float32 within 2e-6 * (|want| + learning_rate) of float64 after one step, for |g| in
//   [1e-6, 1e3] or 0.
// Cost: 28 bytes and about 14 flops per element; bound by bandwidth.
// Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019.
#pragma once

#include <cstdint>
#include <span>

namespace muster::kernels {

struct AdamWConfig {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double gradient_scale = 1;
  int64_t step = 1;
};

namespace ref {
void AdamWStep(const AdamWConfig& config, std::span<const double> g, std::span<double> w,
               std::span<double> m, std::span<double> v);
}  // namespace ref

namespace cpu {
void AdamWStep(const AdamWConfig& config, std::span<const float> g, std::span<float> w,
               std::span<float> m, std::span<float> v);
}  // namespace cpu

}  // namespace muster::kernels
