#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/require.h"

namespace muster::kernels::ref {
namespace {

// Where things of one sequence and head lie.
struct Head {
  const AttentionShape& shape;
  size_t sequence = 0;
  size_t head = 0;

  size_t Query(size_t i, size_t k) const {
    return (sequence * shape.context + i) * 3 * shape.width() + head * shape.head_size + k;
  }
  size_t Key(size_t i, size_t k) const { return Query(i, k) + shape.width(); }
  size_t Value(size_t i, size_t k) const { return Query(i, k) + 2 * shape.width(); }
  size_t Out(size_t i, size_t k) const {
    return (sequence * shape.context + i) * shape.width() + head * shape.head_size + k;
  }
  size_t Probability(size_t i, size_t j) const {
    return ((sequence * shape.heads + head) * shape.context + i) * shape.context + j;
  }
};

void ForwardHead(const Head& at, std::span<const double> qkv, std::span<double> p,
                 std::span<double> y) {
  const size_t context = at.shape.context;
  const size_t head_size = at.shape.head_size;
  const double scale = 1 / std::sqrt(static_cast<double>(head_size));
  for (size_t i = 0; i < context; ++i) {
    double largest = -std::numeric_limits<double>::infinity();
    for (size_t j = 0; j <= i; ++j) {
      double score = 0;
      for (size_t k = 0; k < head_size; ++k) score += qkv[at.Query(i, k)] * qkv[at.Key(j, k)];
      p[at.Probability(i, j)] = score * scale;
      largest = std::max(largest, score * scale);
    }
    double sum = 0;
    for (size_t j = 0; j <= i; ++j) {
      p[at.Probability(i, j)] = std::exp(p[at.Probability(i, j)] - largest);
      sum += p[at.Probability(i, j)];
    }
    for (size_t j = 0; j < context; ++j) {
      p[at.Probability(i, j)] = j <= i ? p[at.Probability(i, j)] / sum : 0;
    }
    for (size_t k = 0; k < head_size; ++k) {
      double out = 0;
      for (size_t j = 0; j <= i; ++j) out += p[at.Probability(i, j)] * qkv[at.Value(j, k)];
      y[at.Out(i, k)] = out;
    }
  }
}

void BackwardHead(const Head& at, std::span<const double> qkv, std::span<const double> p,
                  std::span<const double> dy, std::span<double> d_qkv) {
  const size_t context = at.shape.context;
  const size_t head_size = at.shape.head_size;
  const double scale = 1 / std::sqrt(static_cast<double>(head_size));
  std::vector<double> dp(context);
  for (size_t i = 0; i < context; ++i) {
    double weighted = 0;
    for (size_t j = 0; j <= i; ++j) {
      dp[j] = 0;
      for (size_t k = 0; k < head_size; ++k) dp[j] += dy[at.Out(i, k)] * qkv[at.Value(j, k)];
      weighted += p[at.Probability(i, j)] * dp[j];
    }
    for (size_t j = 0; j <= i; ++j) {
      const double ds = p[at.Probability(i, j)] * (dp[j] - weighted) * scale;
      for (size_t k = 0; k < head_size; ++k) {
        d_qkv[at.Query(i, k)] += ds * qkv[at.Key(j, k)];
        d_qkv[at.Key(j, k)] += ds * qkv[at.Query(i, k)];
        d_qkv[at.Value(j, k)] += p[at.Probability(i, j)] * dy[at.Out(i, k)];
      }
    }
  }
}

}  // namespace

void AttentionForward(const AttentionShape& shape, std::span<const double> qkv, std::span<double> p,
                      std::span<double> y) {
  Require(qkv.size() == shape.rows() * 3 * shape.width() && p.size() == shape.probabilities() &&
              y.size() == shape.rows() * shape.width(),
          "attention: qkv [rows, 3 width], p [batch, heads, context, context], y [rows, width]");
  for (size_t b = 0; b < shape.batch; ++b) {
    for (size_t h = 0; h < shape.heads; ++h) {
      ForwardHead({.shape = shape, .sequence = b, .head = h}, qkv, p, y);
    }
  }
}

void AttentionBackward(const AttentionShape& shape, std::span<const double> qkv,
                       std::span<const double> p, std::span<const double> dy,
                       std::span<double> d_qkv) {
  Require(qkv.size() == shape.rows() * 3 * shape.width() && p.size() == shape.probabilities() &&
              dy.size() == shape.rows() * shape.width() && d_qkv.size() == qkv.size(),
          "attention: qkv, d_qkv [rows, 3 width], p [batch, heads, context, context], dy [rows, "
          "width]");
  for (double& value : d_qkv) value = 0;
  for (size_t b = 0; b < shape.batch; ++b) {
    for (size_t h = 0; h < shape.heads; ++h) {
      BackwardHead({.shape = shape, .sequence = b, .head = h}, qkv, p, dy, d_qkv);
    }
  }
}

}  // namespace muster::kernels::ref
