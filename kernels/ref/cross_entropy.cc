#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/require.h"

namespace muster::kernels::ref {

void CrossEntropyForward(const CrossEntropyShape& shape, std::span<const double> logits,
                         std::span<const uint8_t> targets, std::span<double> p,
                         std::span<double> losses) {
  const size_t vocabulary = shape.vocabulary;
  Require(vocabulary > 0 && logits.size() == shape.rows * vocabulary && p.size() == logits.size() &&
              targets.size() == shape.rows && losses.size() == shape.rows,
          "cross entropy: logits and p [rows, vocabulary], targets and losses [rows]");
  for (size_t i = 0; i < shape.rows; ++i) {
    Require(targets[i] < vocabulary, "cross entropy: target < vocabulary");
    const std::span<const double> row = logits.subspan(i * vocabulary, vocabulary);
    const double largest = *std::max_element(row.begin(), row.end());
    const double of_target = row[targets[i]];
    double sum = 0;
    for (const double logit : row) sum += std::exp(logit - largest);
    losses[i] = std::log(sum) - (of_target - largest);
    for (size_t j = 0; j < vocabulary; ++j) {
      p[i * vocabulary + j] = std::exp(row[j] - largest) / sum;
    }
  }
}

void CrossEntropyBackward(const CrossEntropyShape& shape, std::span<const double> p,
                          std::span<const uint8_t> targets, double scale,
                          std::span<double> d_logits) {
  const size_t vocabulary = shape.vocabulary;
  Require(p.size() == shape.rows * vocabulary && d_logits.size() == p.size() &&
              targets.size() == shape.rows,
          "cross entropy: p and d_logits [rows, vocabulary], targets [rows]");
  for (size_t i = 0; i < shape.rows; ++i) {
    for (size_t j = 0; j < vocabulary; ++j) {
      d_logits[i * vocabulary + j] = scale * (p[i * vocabulary + j] - (j == targets[i] ? 1 : 0));
    }
  }
}

}  // namespace muster::kernels::ref
