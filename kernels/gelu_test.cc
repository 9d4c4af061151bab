#include "kernels/gelu.h"

#include <cmath>
#include <limits>

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

TEST(GeluTest, IsZeroAtZeroAndTheIdentityFarToTheRight) {
  const std::vector<double> x = {0, 1, -1, 20, -20};
  std::vector<double> y(5);
  ref::GeluForward(x, y);
  EXPECT_EQ(y[0], 0);
  EXPECT_NEAR(y[1], 0.8411919906, 1e-9);  // 1/2 (1 + tanh(0.797885 * 1.044715)), by hand.
  EXPECT_NEAR(y[2], -0.1588080094, 1e-9);
  EXPECT_EQ(y[3], 20);
  EXPECT_EQ(y[4], 0);
}

TEST(GeluTest, ReferenceGradientMatchesCentralDifferences) {
  TestRandom random(5);
  std::vector<double> x = Doubles(random.Floats(100, -5, 5));
  const std::vector<double> dy = Doubles(random.Floats(100, -1, 1));
  std::vector<double> y(100);
  std::vector<double> dx(100);
  ref::GeluBackward(x, dy, dx);
  ExpectGradient(
      [&] {
        ref::GeluForward(x, y);
        return Weighted(y, dy);
      },
      x, dx);
}

TEST(GeluTest, CpuMatchesReference) {
  for (const size_t n : kSizes) {
    SCOPED_TRACE(n);
    TestRandom random(n + 1);
    const std::vector<float> x = random.Floats(n, -12, 12);
    const std::vector<float> dy = random.Floats(n, -1, 1);
    std::vector<float> y(n);
    std::vector<double> want(n);
    cpu::GeluForward(x, y);
    ref::GeluForward(Doubles(x), want);
    ExpectNear(y, want, 1e-6);
    std::vector<float> dx = dy;  // In place.
    cpu::GeluBackward(x, dx, dx);
    ref::GeluBackward(Doubles(x), Doubles(dy), want);
    ExpectNear(dx, want, 1e-6);
  }
}

TEST(GeluTest, CpuKeepsExtremesAndNaN) {
  const float huge = 1e4F;
  const std::vector<float> x = {huge, -huge, 0, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> y(4);
  cpu::GeluForward(x, y);
  EXPECT_EQ(y[0], huge);
  EXPECT_NEAR(y[1], 0, 1e-30);
  EXPECT_EQ(y[2], 0);
  EXPECT_TRUE(std::isnan(y[3]));
}

}  // namespace
}  // namespace muster::kernels
