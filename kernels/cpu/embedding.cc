#include "kernels/embedding.h"

#include "kernels/require.h"

namespace muster::kernels::cpu {
namespace {

void RequireTokens(const EmbeddingShape& shape, std::span<const uint8_t> tokens) {
  if (shape.vocabulary > 255) return;  // Every byte is a token.
  for (const uint8_t token : tokens)
    Require(token < shape.vocabulary, "embedding: token < vocabulary");
}

}  // namespace

void EmbeddingForward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                      std::span<const float> token_table, std::span<const float> position_table,
                      std::span<float> y) {
  const size_t width = shape.width;
  Require(tokens.size() == shape.rows && y.size() == shape.rows * width &&
              token_table.size() == shape.vocabulary * width &&
              position_table.size() == shape.context * width,
          "embedding: tokens [rows], tables [vocabulary or context, width], y [rows, width]");
  RequireTokens(shape, tokens);
  for (size_t i = 0; i < shape.rows; ++i) {
    const float* token = token_table.data() + tokens[i] * width;
    const float* position = position_table.data() + i % shape.context * width;
    float* out = y.data() + i * width;
    for (size_t k = 0; k < width; ++k) out[k] = token[k] + position[k];
  }
}

void EmbeddingBackward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                       std::span<const float> dy, std::span<float> d_token_table,
                       std::span<float> d_position_table) {
  const size_t width = shape.width;
  Require(tokens.size() == shape.rows && dy.size() == shape.rows * width &&
              d_token_table.size() == shape.vocabulary * width &&
              d_position_table.size() == shape.context * width,
          "embedding: tokens [rows], tables [vocabulary or context, width], dy [rows, width]");
  RequireTokens(shape, tokens);
  for (size_t i = 0; i < shape.rows; ++i) {
    const float* d = dy.data() + i * width;
    float* token = d_token_table.data() + tokens[i] * width;
    float* position = d_position_table.data() + i % shape.context * width;
    for (size_t k = 0; k < width; ++k) token[k] += d[k];
    for (size_t k = 0; k < width; ++k) position[k] += d[k];
  }
}

}  // namespace muster::kernels::cpu
