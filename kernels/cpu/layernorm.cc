#include "kernels/layernorm.h"

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/require.h"

namespace muster::kernels::cpu {

MUSTER_SIMD
void LayerNormForward(const LayerNormShape& shape, std::span<const float> x,
                      std::span<const float> gamma, std::span<const float> beta,
                      std::span<float> mean, std::span<float> rstd, std::span<float> y) {
  const size_t width = shape.width;
  Require(width > 0 && x.size() == shape.rows * width && y.size() == x.size() &&
              gamma.size() == width && beta.size() == width && mean.size() == shape.rows &&
              rstd.size() == shape.rows,
          "layernorm: x and y [rows, width], gamma and beta [width], mean and rstd [rows]");
  const float* scale = gamma.data();
  const float* shift = beta.data();
  const auto share = 1.0F / static_cast<float>(width);
  for (size_t i = 0; i < shape.rows; ++i) {
    const float* row = x.data() + i * width;
    float* out = y.data() + i * width;
    const float center = LaneSum(width, [&](size_t k) { return row[k]; }) * share;
    const float variance =
        LaneSum(width, [&](size_t k) { return (row[k] - center) * (row[k] - center); }) * share;
    const float inverse = 1.0F / std::sqrt(variance + static_cast<float>(kLayerNormEpsilon));
    for (size_t k = 0; k < width; ++k) out[k] = (row[k] - center) * inverse * scale[k] + shift[k];
    mean[i] = center;
    rstd[i] = inverse;
  }
}

MUSTER_SIMD
void LayerNormBackward(const LayerNormShape& shape, std::span<const float> x,
                       std::span<const float> gamma, std::span<const float> mean,
                       std::span<const float> rstd, std::span<const float> dy, std::span<float> dx,
                       std::span<float> d_gamma, std::span<float> d_beta) {
  const size_t width = shape.width;
  Require(width > 0 && x.size() == shape.rows * width && dy.size() == x.size() &&
              dx.size() == x.size() && gamma.size() == width && d_gamma.size() == width &&
              d_beta.size() == width && mean.size() == shape.rows && rstd.size() == shape.rows,
          "layernorm: x, dy, dx [rows, width], gamma, d_gamma, d_beta [width], mean, rstd [rows]");
  const float* scale = gamma.data();
  float* d_scale = d_gamma.data();
  float* d_shift = d_beta.data();
  const auto share = 1.0F / static_cast<float>(width);
  for (size_t i = 0; i < shape.rows; ++i) {
    const float* row = x.data() + i * width;
    const float* d_out = dy.data() + i * width;
    float* d_in = dx.data() + i * width;
    const float center = mean[i];
    const float inverse = rstd[i];
    const float mean_g = LaneSum(width, [&](size_t k) { return d_out[k] * scale[k]; }) * share;
    const float mean_gh =
        LaneSum(width,
                [&](size_t k) { return d_out[k] * scale[k] * (row[k] - center) * inverse; }) *
        share;
    for (size_t k = 0; k < width; ++k) {
      const float h = (row[k] - center) * inverse;
      d_in[k] += inverse * (d_out[k] * scale[k] - mean_g - h * mean_gh);
      d_scale[k] += d_out[k] * h;
      d_shift[k] += d_out[k];
    }
  }
}

}  // namespace muster::kernels::cpu
