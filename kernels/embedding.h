// Embedding turns bytes into vectors: a row for the byte plus a row for its place in the context.
//
//   y[i, :] = token_table[tokens[i], :] + position_table[i mod context, :]
//
// Shapes: tokens [rows], token_table [vocabulary, width], position_table [context, width],
//   y [rows, width], all row-major.
// Backward adds to the tables' gradients (+=); equal tokens add up in the order of their rows.
// REQUIRES: every token < vocabulary.
// Accuracy: forward one rounding; backward the rounding of a plain sum.
// Cost: 12 bytes and 1 flop per element of y forward, 20 bytes and 2 flops backward.
// Source: GPT-2's learned absolute positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace muster::kernels {

struct EmbeddingShape {
  size_t rows = 0;
  size_t context = 0;
  size_t vocabulary = 0;
  size_t width = 0;
};

namespace ref {
void EmbeddingForward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                      std::span<const double> token_table, std::span<const double> position_table,
                      std::span<double> y);
void EmbeddingBackward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                       std::span<const double> dy, std::span<double> d_token_table,
                       std::span<double> d_position_table);
}  // namespace ref

namespace cpu {
void EmbeddingForward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                      std::span<const float> token_table, std::span<const float> position_table,
                      std::span<float> y);
void EmbeddingBackward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                       std::span<const float> dy, std::span<float> d_token_table,
                       std::span<float> d_position_table);
}  // namespace cpu

}  // namespace muster::kernels
