#include "kernels/embedding.h"

#include "kernels/require.h"

namespace muster::kernels::ref {

void EmbeddingForward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                      std::span<const double> token_table, std::span<const double> position_table,
                      std::span<double> y) {
  Require(tokens.size() == shape.rows && y.size() == shape.rows * shape.width,
          "embedding: one token and one row of y per row");
  for (size_t i = 0; i < shape.rows; ++i) {
    Require(tokens[i] < shape.vocabulary, "embedding: token < vocabulary");
    for (size_t k = 0; k < shape.width; ++k) {
      y[i * shape.width + k] = token_table[tokens[i] * shape.width + k] +
                               position_table[i % shape.context * shape.width + k];
    }
  }
}

void EmbeddingBackward(const EmbeddingShape& shape, std::span<const uint8_t> tokens,
                       std::span<const double> dy, std::span<double> d_token_table,
                       std::span<double> d_position_table) {
  Require(tokens.size() == shape.rows && dy.size() == shape.rows * shape.width,
          "embedding: one token and one row of dy per row");
  for (size_t i = 0; i < shape.rows; ++i) {
    Require(tokens[i] < shape.vocabulary, "embedding: token < vocabulary");
    for (size_t k = 0; k < shape.width; ++k) {
      d_token_table[tokens[i] * shape.width + k] += dy[i * shape.width + k];
      d_position_table[i % shape.context * shape.width + k] += dy[i * shape.width + k];
    }
  }
}

}  // namespace muster::kernels::ref
