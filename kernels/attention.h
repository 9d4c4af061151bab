// Attention is causal multi-head self-attention: each place looks at itself and what came before.
//
//   For each sequence and head, with Q, K, V the head's columns of qkv:
//   p[i, j] = softmax over j <= i of (Q[i] . K[j] / sqrt(head_size)), and 0 for j > i
//   y[i] = sum_j p[i, j] V[j]
//   Backward, with dp[i, j] = dy[i] . V[j]:
//   ds = p * (dp - sum_j p * dp) / sqrt(head_size)
//   dQ = ds K,  dK = ds^T Q,  dV = p^T dy
//
// Shapes, with width = heads * head_size: qkv, d_qkv [batch, context, 3 * width], a row being all
//   heads' Q, then K, then V; y, dy [batch, context, width]; p [batch, heads, context, context],
//   written by the forward pass for the backward pass. scratch: context * context floats, contents
//   of no meaning.
// d_qkv is overwritten.
// REQUIRES: heads, head_size > 0; |scores| small enough for float32; no output overlaps an input.
// Accuracy: float32 within 1e-5 * (1 + |want|) of float64 forward and 1e-4 backward, |qkv| <= 2.
// Cost: 4 * batch * context^2 * width flops forward, 8 backward (the causal half is not skipped: at
//   a context of 64 the products are too small for that to pay).
// Source: Vaswani et al., "Attention Is All You Need", 2017.
#pragma once

#include <cstddef>
#include <span>

namespace muster::kernels {

struct AttentionShape {
  size_t batch = 0;
  size_t context = 0;
  size_t heads = 0;
  size_t head_size = 0;

  size_t width() const { return heads * head_size; }
  size_t rows() const { return batch * context; }
  size_t probabilities() const { return batch * heads * context * context; }
};

namespace ref {
void AttentionForward(const AttentionShape& shape, std::span<const double> qkv, std::span<double> p,
                      std::span<double> y);
void AttentionBackward(const AttentionShape& shape, std::span<const double> qkv,
                       std::span<const double> p, std::span<const double> dy,
                       std::span<double> d_qkv);
}  // namespace ref

namespace cpu {
void AttentionForward(const AttentionShape& shape, std::span<const float> qkv, std::span<float> p,
                      std::span<float> y);
void AttentionBackward(const AttentionShape& shape, std::span<const float> qkv,
                       std::span<const float> p, std::span<const float> dy, std::span<float> d_qkv,
                       std::span<float> scratch);
}  // namespace cpu

}  // namespace muster::kernels
