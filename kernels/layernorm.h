// LayerNorm gives each row mean 0 and variance 1, then scales and shifts it.
//
//   mean = sum(x) / width,  rstd = 1 / sqrt(sum((x - mean)^2) / width + 1e-5)
//   y = (x - mean) * rstd * gamma + beta
//   backward, with h = (x - mean) * rstd and g = dy * gamma:
//   dx += rstd * (g - mean(g) - h * mean(g * h)),  d_gamma += sum(dy * h),  d_beta += sum(dy)
//
// Shapes: x, y, dx, dy [rows, width]; gamma, beta [width]; mean, rstd [rows], which
//   the forward pass writes for the backward pass.
// All three gradients are added to what is there: dx is a residual stream's gradient, which already
//   holds what flowed past this layer.
// REQUIRES: width > 0; x and y do not overlap.
// Accuracy: float32 within 1e-4 * (1 + |want|) of float64 forward, and for dx, for |x| <= 100 and
//   rows whose deviation is at least a hundredth of that; d_gamma within 1e-3 for |dy| <= 1.
// Cost: 8 bytes and about 8 flops per element forward, 16 bytes and about 14 flops backward.
// Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
#pragma once

#include <cstddef>
#include <span>

namespace muster::kernels {

inline constexpr double kLayerNormEpsilon = 1e-5;

struct LayerNormShape {
  size_t rows = 0;
  size_t width = 0;
};

namespace ref {
void LayerNormForward(const LayerNormShape& shape, std::span<const double> x,
                      std::span<const double> gamma, std::span<const double> beta,
                      std::span<double> mean, std::span<double> rstd, std::span<double> y);
void LayerNormBackward(const LayerNormShape& shape, std::span<const double> x,
                       std::span<const double> gamma, std::span<const double> mean,
                       std::span<const double> rstd, std::span<const double> dy,
                       std::span<double> dx, std::span<double> d_gamma, std::span<double> d_beta);
}  // namespace ref

namespace cpu {
void LayerNormForward(const LayerNormShape& shape, std::span<const float> x,
                      std::span<const float> gamma, std::span<const float> beta,
                      std::span<float> mean, std::span<float> rstd, std::span<float> y);
void LayerNormBackward(const LayerNormShape& shape, std::span<const float> x,
                       std::span<const float> gamma, std::span<const float> mean,
                       std::span<const float> rstd, std::span<const float> dy, std::span<float> dx,
                       std::span<float> d_gamma, std::span<float> d_beta);
}  // namespace cpu

}  // namespace muster::kernels
