#include "kernels/gelu.h"

#include <cmath>
#include <cstddef>
#include <numbers>

#include "kernels/require.h"

namespace muster::kernels::ref {
namespace {

constexpr double kCubic = 0.044715;
const double kScale = std::sqrt(2 / std::numbers::pi);

}  // namespace

void GeluForward(std::span<const double> x, std::span<double> y) {
  Require(x.size() == y.size(), "gelu: x and y have one length");
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] / 2 * (1 + std::tanh(kScale * (x[i] + kCubic * x[i] * x[i] * x[i])));
  }
}

void GeluBackward(std::span<const double> x, std::span<const double> dy, std::span<double> dx) {
  Require(x.size() == dy.size() && x.size() == dx.size(), "gelu: x, dy and dx have one length");
  for (size_t i = 0; i < x.size(); ++i) {
    const double t = std::tanh(kScale * (x[i] + kCubic * x[i] * x[i] * x[i]));
    const double slope = kScale * (1 + 3 * kCubic * x[i] * x[i]);
    dx[i] = dy[i] * ((1 + t) / 2 + x[i] / 2 * (1 - t * t) * slope);
  }
}

}  // namespace muster::kernels::ref
