// CrossEntropy is the loss of a guess over a vocabulary: softmax, then minus the logarithm of what
// the target got, in nats.
//
//   p[i, :] = softmax(logits[i, :]),  losses[i] = -log p[i, targets[i]]
//   backward: d_logits[i, j] = scale * (p[i, j] - [j == targets[i]])
//
// Shapes: logits, p, d_logits [rows, vocabulary]; targets, losses [rows]. p may be logits itself,
//   and d_logits p itself. `scale` is the loss's weight, 1 / rows for a mean.
// REQUIRES: vocabulary > 0; every target < vocabulary.
// Accuracy: the row's maximum is taken off first, so no finite logit overflows; float32 losses
//   within 4e-6 * (1 + |want|), p within 1e-6, of float64 for |logits| <= 50.
// Cost: 8 bytes and about 20 flops per element forward, 8 bytes and 2 flops backward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace muster::kernels {

struct CrossEntropyShape {
  size_t rows = 0;
  size_t vocabulary = 0;
};

namespace ref {
void CrossEntropyForward(const CrossEntropyShape& shape, std::span<const double> logits,
                         std::span<const uint8_t> targets, std::span<double> p,
                         std::span<double> losses);
void CrossEntropyBackward(const CrossEntropyShape& shape, std::span<const double> p,
                          std::span<const uint8_t> targets, double scale,
                          std::span<double> d_logits);
}  // namespace ref

namespace cpu {
void CrossEntropyForward(const CrossEntropyShape& shape, std::span<const float> logits,
                         std::span<const uint8_t> targets, std::span<float> p,
                         std::span<float> losses);
void CrossEntropyBackward(const CrossEntropyShape& shape, std::span<const float> p,
                          std::span<const uint8_t> targets, float scale, std::span<float> d_logits);
}  // namespace cpu

}  // namespace muster::kernels
