#include "kernels/cross_entropy.h"

#include <cmath>

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

TEST(CrossEntropyTest, ChargesTheLogarithmOfTheTargetsShare) {
  const CrossEntropyShape shape = {.rows = 2, .vocabulary = 2};
  const std::vector<double> logits = {0, std::log(3.0), 5, 5};
  const std::vector<uint8_t> targets = {0, 1};
  std::vector<double> p(4);
  std::vector<double> losses(2);
  ref::CrossEntropyForward(shape, logits, targets, p, losses);
  EXPECT_NEAR(p[0], 0.25, 1e-15);
  EXPECT_NEAR(p[1], 0.75, 1e-15);
  EXPECT_NEAR(losses[0], std::log(4.0), 1e-15);
  EXPECT_NEAR(losses[1], std::log(2.0), 1e-15);
}

TEST(CrossEntropyTest, ReferenceGradientMatchesCentralDifferences) {
  const CrossEntropyShape shape = {.rows = 5, .vocabulary = 7};
  TestRandom random(6);
  std::vector<double> logits = Doubles(random.Floats(35, -3, 3));
  const std::vector<uint8_t> targets = random.Tokens(5, 7);
  std::vector<double> p(35);
  std::vector<double> losses(5);
  const auto loss = [&] {
    ref::CrossEntropyForward(shape, logits, targets, p, losses);
    return 0.3 * (losses[0] + losses[1] + losses[2] + losses[3] + losses[4]);
  };
  loss();
  std::vector<double> d_logits(35);
  ref::CrossEntropyBackward(shape, p, targets, 0.3, d_logits);
  ExpectGradient(loss, logits, d_logits);
}

TEST(CrossEntropyTest, CpuMatchesReference) {
  for (const size_t n : kSizes) {
    for (const CrossEntropyShape shape :
         {CrossEntropyShape{.rows = n, .vocabulary = 17},
          CrossEntropyShape{.rows = 3, .vocabulary = n + (n == 0)}}) {
      SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.vocabulary);
      TestRandom random(n + 1);
      const std::vector<float> logits = random.Floats(shape.rows * shape.vocabulary, -50, 50);
      const std::vector<uint8_t> targets =
          random.Tokens(shape.rows, std::min<size_t>(shape.vocabulary, 256));
      std::vector<float> p = logits;  // In place.
      std::vector<float> losses(shape.rows);
      std::vector<double> want_p(p.size());
      std::vector<double> want_losses(shape.rows);
      cpu::CrossEntropyForward(shape, p, targets, p, losses);
      ref::CrossEntropyForward(shape, Doubles(logits), targets, want_p, want_losses);
      ExpectNear(p, want_p, 1e-6);
      ExpectNear(losses, want_losses, 4e-6);
      cpu::CrossEntropyBackward(shape, p, targets, 0.25F, p);
      ref::CrossEntropyBackward(shape, want_p, targets, 0.25, want_p);
      ExpectNear(p, want_p, 1e-6);
    }
  }
}

TEST(CrossEntropyTest, EqualLogitsAreExact) {
  const CrossEntropyShape shape = {.rows = 1, .vocabulary = 256};
  const std::vector<float> logits(256, 1e30F);
  const std::vector<uint8_t> targets = {255};
  std::vector<float> p(256);
  std::vector<float> losses(1);
  cpu::CrossEntropyForward(shape, logits, targets, p, losses);
  EXPECT_EQ(p, std::vector<float>(256, 1.0F / 256));
  EXPECT_FLOAT_EQ(losses[0], std::log(256.0F));
}

TEST(CrossEntropyTest, ANaNComesThrough) {
  const CrossEntropyShape shape = {.rows = 1, .vocabulary = 33};
  std::vector<float> logits(33, 0.0F);
  logits[20] = NAN;
  const std::vector<uint8_t> targets = {3};
  std::vector<float> losses(1);
  cpu::CrossEntropyForward(shape, logits, targets, logits, losses);
  EXPECT_TRUE(std::isnan(losses[0]));
}

}  // namespace
}  // namespace muster::kernels
