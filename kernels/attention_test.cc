#include "kernels/attention.h"

#include <cmath>

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

TEST(AttentionTest, LooksBackButNeverAhead) {
  // Equal keys: place i averages values 0..i.
  const AttentionShape shape = {.batch = 1, .context = 3, .heads = 1, .head_size = 1};
  const std::vector<double> qkv = {1, 0, 6, 1, 0, 12, 1, 0, 30};
  std::vector<double> p(9);
  std::vector<double> y(3);
  ref::AttentionForward(shape, qkv, p, y);
  const std::vector<double> want_p = {1, 0, 0, 0.5, 0.5, 0, 1. / 3, 1. / 3, 1. / 3};
  for (size_t i = 0; i < 9; ++i) EXPECT_NEAR(p[i], want_p[i], 1e-15);
  EXPECT_NEAR(y[0], 6, 1e-12);
  EXPECT_NEAR(y[1], 9, 1e-12);
  EXPECT_NEAR(y[2], 16, 1e-12);
}

TEST(AttentionTest, WeighsByTheExponentialOfTheScaledProduct) {
  const AttentionShape shape = {.batch = 1, .context = 2, .heads = 1, .head_size = 4};
  // Query 1 meets key 1 with a product of 2 ln 3, halved by sqrt(4): weights 1 to 3.
  const double q = 2 * std::log(3.0);
  const std::vector<double> qkv = {0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4,
                                   q, 0, 0, 0, 1, 0, 0, 0, 8, 0, 8, 0};
  std::vector<double> p(4);
  std::vector<double> y(8);
  ref::AttentionForward(shape, qkv, p, y);
  EXPECT_NEAR(p[2], 0.25, 1e-12);
  EXPECT_NEAR(p[3], 0.75, 1e-12);
  EXPECT_NEAR(y[4], 7, 1e-12);
  EXPECT_NEAR(y[5], 1, 1e-12);
}

TEST(AttentionTest, ReferenceGradientMatchesCentralDifferences) {
  const AttentionShape shape = {.batch = 2, .context = 4, .heads = 2, .head_size = 3};
  TestRandom random(4);
  std::vector<double> qkv = Doubles(random.Floats(shape.rows() * 3 * shape.width(), -1, 1));
  const std::vector<double> dy = Doubles(random.Floats(shape.rows() * shape.width(), -1, 1));
  std::vector<double> p(shape.probabilities());
  std::vector<double> y(dy.size());
  const auto loss = [&] {
    ref::AttentionForward(shape, qkv, p, y);
    return Weighted(y, dy);
  };
  loss();
  const std::vector<double> kept_p = p;
  std::vector<double> d_qkv(qkv.size(), 5);  // Overwritten.
  ref::AttentionBackward(shape, qkv, kept_p, dy, d_qkv);
  ExpectGradient(loss, qkv, d_qkv);
}

TEST(AttentionTest, CpuMatchesReference) {
  for (const AttentionShape& shape : {
           AttentionShape{.batch = 0, .context = 5, .heads = 2, .head_size = 3},
           AttentionShape{.batch = 2, .context = 0, .heads = 2, .head_size = 3},
           AttentionShape{.batch = 2, .context = 1, .heads = 3, .head_size = 5},
           AttentionShape{.batch = 2, .context = 31, .heads = 1, .head_size = 33},
           AttentionShape{.batch = 1, .context = 32, .heads = 4, .head_size = 32},
           AttentionShape{.batch = 3, .context = 33, .heads = 2, .head_size = 1},
           AttentionShape{.batch = 1, .context = 255, .heads = 1, .head_size = 16},
           AttentionShape{.batch = 1, .context = 257, .heads = 2, .head_size = 31},
           AttentionShape{.batch = 16, .context = 64, .heads = 4, .head_size = 32},
       }) {
    SCOPED_TRACE(::testing::Message() << shape.batch << " x " << shape.context << " x "
                                      << shape.heads << " x " << shape.head_size);
    TestRandom random(shape.context + 5);
    const std::vector<float> qkv = random.Floats(shape.rows() * 3 * shape.width(), -2, 2);
    const std::vector<float> dy = random.Floats(shape.rows() * shape.width(), -1, 1);
    std::vector<float> p(shape.probabilities(), NAN);
    std::vector<float> y(dy.size(), NAN);
    std::vector<double> want_p(p.size());
    std::vector<double> want_y(y.size());
    cpu::AttentionForward(shape, qkv, p, y);
    ref::AttentionForward(shape, Doubles(qkv), want_p, want_y);
    ExpectNear(p, want_p, 1e-5);
    ExpectNear(y, want_y, 1e-5);
    std::vector<float> d_qkv(qkv.size(), NAN);
    std::vector<float> scratch(shape.context * shape.context, NAN);
    std::vector<double> want_d(qkv.size());
    cpu::AttentionBackward(shape, qkv, p, dy, d_qkv, scratch);
    ref::AttentionBackward(shape, Doubles(qkv), want_p, Doubles(dy), want_d);
    ExpectNear(d_qkv, want_d, 1e-4);
  }
}

TEST(AttentionTest, LargeScoresDoNotOverflow) {
  const AttentionShape shape = {.batch = 1, .context = 2, .heads = 1, .head_size = 1};
  const std::vector<float> qkv = {1000, 1000, 1, 1000, 900, 2};
  std::vector<float> p(4);
  std::vector<float> y(2);
  cpu::AttentionForward(shape, qkv, p, y);
  EXPECT_EQ(y, (std::vector<float>{1, 1}));
}

}  // namespace
}  // namespace muster::kernels
