#include "kernels/attention.h"

#include <cblas.h>

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/require.h"

namespace muster::kernels::cpu {
namespace {

// Row i of p holds raw scores and becomes its softmax over [0, i], zero beyond.
MUSTER_SIMD
void CausalSoftmax(size_t context, float* p) {
  for (size_t i = 0; i < context; ++i) {
    float* row = p + i * context;
    const float largest = LaneMax(row, i + 1);
    for (size_t j = 0; j <= i; ++j) row[j] = Exp(row[j] - largest);
    const float inverse = 1.0F / LaneSum(i + 1, [&](size_t j) { return row[j]; });
    for (size_t j = 0; j <= i; ++j) row[j] *= inverse;
    for (size_t j = i + 1; j < context; ++j) row[j] = 0.0F;
  }
}

// dp becomes ds: p * (dp - sum(p * dp)), by row. Where p is zero dp has no meaning and ds is zero.
MUSTER_SIMD
void CausalSoftmaxBackward(size_t context, const float* p, float* dp) {
  for (size_t i = 0; i < context; ++i) {
    const float* probability = p + i * context;
    float* row = dp + i * context;
    const float weighted = LaneSum(i + 1, [&](size_t j) { return probability[j] * row[j]; });
    for (size_t j = 0; j <= i; ++j) row[j] = probability[j] * (row[j] - weighted);
    for (size_t j = i + 1; j < context; ++j) row[j] = 0.0F;
  }
}

}  // namespace

void AttentionForward(const AttentionShape& shape, std::span<const float> qkv, std::span<float> p,
                      std::span<float> y) {
  const size_t width = shape.width();
  Require(width > 0 && qkv.size() == shape.rows() * 3 * width &&
              p.size() == shape.probabilities() && y.size() == shape.rows() * width,
          "attention: qkv [rows, 3 width], p [batch, heads, context, context], y [rows, width]");
  if (shape.context == 0) return;
  const int context = static_cast<int>(shape.context);
  const int head_size = static_cast<int>(shape.head_size);
  const int stride = static_cast<int>(3 * width);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_size));
  for (size_t b = 0; b < shape.batch; ++b) {
    for (size_t h = 0; h < shape.heads; ++h) {
      const float* query = qkv.data() + b * shape.context * 3 * width + h * shape.head_size;
      const float* key = query + width;
      const float* value = key + width;
      float* probability = p.data() + (b * shape.heads + h) * shape.context * shape.context;
      float* out = y.data() + b * shape.context * width + h * shape.head_size;
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, context, context, head_size, scale,
                  query, stride, key, stride, 0.0F, probability, context);
      CausalSoftmax(shape.context, probability);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, context, head_size, context, 1.0F,
                  probability, context, value, stride, 0.0F, out, static_cast<int>(width));
    }
  }
}

void AttentionBackward(const AttentionShape& shape, std::span<const float> qkv,
                       std::span<const float> p, std::span<const float> dy, std::span<float> d_qkv,
                       std::span<float> scratch) {
  const size_t width = shape.width();
  Require(width > 0 && qkv.size() == shape.rows() * 3 * width && d_qkv.size() == qkv.size() &&
              p.size() == shape.probabilities() && dy.size() == shape.rows() * width &&
              scratch.size() >= shape.context * shape.context,
          "attention: qkv, d_qkv [rows, 3 width], p [batch, heads, context, context], dy [rows, "
          "width], scratch [context, context]");
  if (shape.context == 0) return;
  const int context = static_cast<int>(shape.context);
  const int head_size = static_cast<int>(shape.head_size);
  const int stride = static_cast<int>(3 * width);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_size));
  float* ds = scratch.data();
  for (size_t b = 0; b < shape.batch; ++b) {
    for (size_t h = 0; h < shape.heads; ++h) {
      const size_t at = b * shape.context * 3 * width + h * shape.head_size;
      const float* query = qkv.data() + at;
      const float* key = query + width;
      const float* value = key + width;
      float* d_query = d_qkv.data() + at;
      float* d_key = d_query + width;
      float* d_value = d_key + width;
      const float* probability = p.data() + (b * shape.heads + h) * shape.context * shape.context;
      const float* d_out = dy.data() + b * shape.context * width + h * shape.head_size;
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, context, head_size, context, 1.0F,
                  probability, context, d_out, static_cast<int>(width), 0.0F, d_value, stride);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, context, context, head_size, 1.0F, d_out,
                  static_cast<int>(width), value, stride, 0.0F, ds, context);
      CausalSoftmaxBackward(shape.context, probability, ds);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, context, head_size, context, scale, ds,
                  context, key, stride, 0.0F, d_query, stride);
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, context, head_size, context, scale, ds,
                  context, query, stride, 0.0F, d_key, stride);
    }
  }
}

}  // namespace muster::kernels::cpu
