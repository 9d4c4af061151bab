#include "kernels/layernorm.h"

#include <cmath>

#include "kernels/require.h"

namespace muster::kernels::ref {

void LayerNormForward(const LayerNormShape& shape, std::span<const double> x,
                      std::span<const double> gamma, std::span<const double> beta,
                      std::span<double> mean, std::span<double> rstd, std::span<double> y) {
  const size_t width = shape.width;
  Require(width > 0 && x.size() == shape.rows * width && y.size() == x.size(),
          "layernorm: x and y are [rows, width]");
  for (size_t i = 0; i < shape.rows; ++i) {
    double sum = 0;
    for (size_t k = 0; k < width; ++k) sum += x[i * width + k];
    mean[i] = sum / static_cast<double>(width);
    double squares = 0;
    for (size_t k = 0; k < width; ++k) {
      const double off = x[i * width + k] - mean[i];
      squares += off * off;
    }
    rstd[i] = 1 / std::sqrt(squares / static_cast<double>(width) + kLayerNormEpsilon);
    for (size_t k = 0; k < width; ++k) {
      y[i * width + k] = (x[i * width + k] - mean[i]) * rstd[i] * gamma[k] + beta[k];
    }
  }
}

void LayerNormBackward(const LayerNormShape& shape, std::span<const double> x,
                       std::span<const double> gamma, std::span<const double> mean,
                       std::span<const double> rstd, std::span<const double> dy,
                       std::span<double> dx, std::span<double> d_gamma, std::span<double> d_beta) {
  const size_t width = shape.width;
  Require(
      width > 0 && x.size() == shape.rows * width && dy.size() == x.size() && dx.size() == x.size(),
      "layernorm: x, dy and dx are [rows, width]");
  for (size_t i = 0; i < shape.rows; ++i) {
    double sum_g = 0;
    double sum_gh = 0;
    for (size_t k = 0; k < width; ++k) {
      const double h = (x[i * width + k] - mean[i]) * rstd[i];
      const double g = dy[i * width + k] * gamma[k];
      sum_g += g;
      sum_gh += g * h;
      d_gamma[k] += dy[i * width + k] * h;
      d_beta[k] += dy[i * width + k];
    }
    for (size_t k = 0; k < width; ++k) {
      const double h = (x[i * width + k] - mean[i]) * rstd[i];
      const double g = dy[i * width + k] * gamma[k];
      dx[i * width + k] += rstd[i] * (g - (sum_g + h * sum_gh) / static_cast<double>(width));
    }
  }
}

}  // namespace muster::kernels::ref
