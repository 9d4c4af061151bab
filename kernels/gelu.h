// Gelu is the smooth activation of GPT-2, in its tanh form.
//
//   y = x / 2 * (1 + tanh(u)),  u = sqrt(2 / pi) * (x + 0.044715 x^3)
//   backward: dx = dy * ((1 + tanh(u)) / 2 + x / 2 * (1 - tanh(u)^2) * u'(x))
//
// Shapes: all [n]. dx is overwritten and may be dy itself; y may be x itself.
// Accuracy: float32 within 1e-6 * (1 + |want|) of float64; a NaN stays a NaN.
// Cost: 8 bytes forward, 12 backward, about 25 flops per element; bound by arithmetic in cache, by
//   bandwidth beyond it.
// Source: Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.
#pragma once

#include <span>

namespace muster::kernels {

namespace ref {
void GeluForward(std::span<const double> x, std::span<double> y);
void GeluBackward(std::span<const double> x, std::span<const double> dy, std::span<double> dx);
}  // namespace ref

namespace cpu {
void GeluForward(std::span<const float> x, std::span<float> y);
void GeluBackward(std::span<const float> x, std::span<const float> dy, std::span<float> dx);
}  // namespace cpu

}  // namespace muster::kernels
