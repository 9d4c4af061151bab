#include "kernels/embedding.h"

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

TEST(EmbeddingTest, AddsTheTokensAndThePlacesRows) {
  const std::vector<uint8_t> tokens = {2, 0, 2};
  const std::vector<double> token_table = {1, 2, 3, 4, 5, 6};
  const std::vector<double> position_table = {10, 20, 30, 40};
  std::vector<double> y(6);
  ref::EmbeddingForward({.rows = 3, .context = 2, .vocabulary = 3, .width = 2}, tokens, token_table,
                        position_table, y);
  EXPECT_EQ(y, (std::vector<double>{15, 26, 31, 42, 15, 26}));
}

TEST(EmbeddingTest, ReferenceGradientMatchesCentralDifferences) {
  const EmbeddingShape shape = {.rows = 6, .context = 3, .vocabulary = 4, .width = 5};
  TestRandom random(1);
  const std::vector<uint8_t> tokens = random.Tokens(shape.rows, shape.vocabulary);
  std::vector<double> token_table = Doubles(random.Floats(20, -1, 1));
  std::vector<double> position_table = Doubles(random.Floats(15, -1, 1));
  const std::vector<double> dy = Doubles(random.Floats(30, -1, 1));
  std::vector<double> y(30);
  const auto loss = [&] {
    ref::EmbeddingForward(shape, tokens, token_table, position_table, y);
    return Weighted(y, dy);
  };
  std::vector<double> d_token(20);
  std::vector<double> d_position(15);
  ref::EmbeddingBackward(shape, tokens, dy, d_token, d_position);
  ExpectGradient(loss, token_table, d_token);
  ExpectGradient(loss, position_table, d_position);
}

TEST(EmbeddingTest, CpuEqualsReferenceOnIntegers) {
  for (const size_t rows : kSizes) {
    for (const size_t width : {size_t{1}, size_t{33}}) {
      SCOPED_TRACE(rows);
      const EmbeddingShape shape = {.rows = rows, .context = 31, .vocabulary = 256, .width = width};
      TestRandom random(rows + 1);
      const std::vector<uint8_t> tokens = random.Tokens(rows, 256);
      const std::vector<float> token_table = random.Integers(256 * width, -50, 50);
      const std::vector<float> position_table = random.Integers(31 * width, -50, 50);
      const std::vector<float> dy = random.Integers(rows * width, -50, 50);
      std::vector<float> y(rows * width);
      std::vector<double> want_y(rows * width);
      cpu::EmbeddingForward(shape, tokens, token_table, position_table, y);
      ref::EmbeddingForward(shape, tokens, Doubles(token_table), Doubles(position_table), want_y);
      ExpectSame(y, want_y);
      std::vector<float> d_token(256 * width, 1);
      std::vector<float> d_position(31 * width, 2);
      std::vector<double> want_token(256 * width, 1);
      std::vector<double> want_position(31 * width, 2);
      cpu::EmbeddingBackward(shape, tokens, dy, d_token, d_position);
      ref::EmbeddingBackward(shape, tokens, Doubles(dy), want_token, want_position);
      ExpectSame(d_token, want_token);
      ExpectSame(d_position, want_position);
    }
  }
}

TEST(EmbeddingTest, CpuMatchesReferenceOnRandomInput) {
  const EmbeddingShape shape = {.rows = 10007, .context = 64, .vocabulary = 256, .width = 7};
  TestRandom random(7);
  const std::vector<uint8_t> tokens = random.Tokens(shape.rows, 256);
  const std::vector<float> dy = random.Floats(shape.rows * 7, -1, 1);
  std::vector<float> d_token(256 * 7);
  std::vector<float> d_position(64 * 7);
  std::vector<double> want_token(256 * 7);
  std::vector<double> want_position(64 * 7);
  cpu::EmbeddingBackward(shape, tokens, dy, d_token, d_position);
  ref::EmbeddingBackward(shape, tokens, Doubles(dy), want_token, want_position);
  ExpectNear(d_token, want_token, 1e-5);
  ExpectNear(d_position, want_position, 1e-4);
}

TEST(EmbeddingDeathTest, RefusesATokenBeyondTheVocabulary) {
  const std::vector<uint8_t> tokens = {3};
  const std::vector<float> table(3);
  std::vector<float> y(1);
  EXPECT_DEATH(cpu::EmbeddingForward({.rows = 1, .context = 3, .vocabulary = 3, .width = 1}, tokens,
                                     table, table, y),
               "token < vocabulary");
}

}  // namespace
}  // namespace muster::kernels
