// Residual adds a branch's output to the stream that went past it: y = x + branch.
//
// Shapes: all [n]; y may be x or branch itself. Backward needs no kernel: both inputs receive dy.
// Accuracy: one rounding, so equal to float64 rounded wherever that is exact.
// Cost: 12 bytes and 1 flop per element; bound by bandwidth.
#pragma once

#include <span>

namespace muster::kernels {

namespace ref {
void ResidualForward(std::span<const double> x, std::span<const double> branch,
                     std::span<double> y);
}  // namespace ref

namespace cpu {
void ResidualForward(std::span<const float> x, std::span<const float> branch, std::span<float> y);
}  // namespace cpu

}  // namespace muster::kernels
