#include "kernels/cross_entropy.h"

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/require.h"

namespace muster::kernels::cpu {

MUSTER_SIMD
void CrossEntropyForward(const CrossEntropyShape& shape, std::span<const float> logits,
                         std::span<const uint8_t> targets, std::span<float> p,
                         std::span<float> losses) {
  const size_t vocabulary = shape.vocabulary;
  Require(vocabulary > 0 && logits.size() == shape.rows * vocabulary && p.size() == logits.size() &&
              targets.size() == shape.rows && losses.size() == shape.rows,
          "cross entropy: logits and p [rows, vocabulary], targets and losses [rows]");
  for (size_t i = 0; i < shape.rows; ++i) {
    Require(targets[i] < vocabulary, "cross entropy: target < vocabulary");
    const float* row = logits.data() + i * vocabulary;
    float* out = p.data() + i * vocabulary;
    const float largest = LaneMax(row, vocabulary);
    const float of_target = row[targets[i]] - largest;  // Read before out, which may be row.
    for (size_t j = 0; j < vocabulary; ++j) out[j] = Exp(row[j] - largest);
    const float sum = LaneSum(vocabulary, [&](size_t j) { return out[j]; });
    const float inverse = 1.0F / sum;
    for (size_t j = 0; j < vocabulary; ++j) out[j] *= inverse;
    losses[i] = std::log(sum) - of_target;
  }
}

MUSTER_SIMD
void CrossEntropyBackward(const CrossEntropyShape& shape, std::span<const float> p,
                          std::span<const uint8_t> targets, float scale,
                          std::span<float> d_logits) {
  const size_t vocabulary = shape.vocabulary;
  Require(p.size() == shape.rows * vocabulary && d_logits.size() == p.size() &&
              targets.size() == shape.rows,
          "cross entropy: p and d_logits [rows, vocabulary], targets [rows]");
  const float* in = p.data();
  float* out = d_logits.data();
  const size_t n = p.size();
  for (size_t i = 0; i < n; ++i) out[i] = in[i] * scale;
  for (size_t i = 0; i < shape.rows; ++i) {
    Require(targets[i] < vocabulary, "cross entropy: target < vocabulary");
    out[i * vocabulary + targets[i]] -= scale;
  }
}

}  // namespace muster::kernels::cpu
