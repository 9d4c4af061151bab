#include "kernels/adamw.h"

#include <cmath>

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

TEST(AdamWTest, TheFirstStepIsTheLearningRateAgainstTheGradientsSign) {
  std::vector<double> w = {1, 1, 1};
  std::vector<double> m(3);
  std::vector<double> v(3);
  ref::AdamWStep({.learning_rate = 0.1, .epsilon = 0}, std::vector<double>{4, -1e-3, 2}, w, m, v);
  EXPECT_NEAR(w[0], 0.9, 1e-12);
  EXPECT_NEAR(w[1], 1.1, 1e-12);
  EXPECT_NEAR(m[0], 0.4, 1e-12);
  EXPECT_NEAR(v[0], 0.16, 1e-12);
}

TEST(AdamWTest, SecondStepByHand) {
  std::vector<double> w = {0};
  std::vector<double> m = {0.1};  // As after one gradient of 1.
  std::vector<double> v = {0.01};
  ref::AdamWStep({.learning_rate = 1, .epsilon = 0, .step = 2}, std::vector<double>{0}, w, m, v);
  // m = 0.09 / (1 - 0.81), v = 0.0099 / (1 - 0.9801).
  EXPECT_NEAR(w[0], -(0.09 / 0.19) / std::sqrt(0.0099 / 0.0199), 1e-12);
}

TEST(AdamWTest, DecayShrinksWhatHasNoGradientAndScaleMultipliesGradients) {
  std::vector<double> w = {2, 0};
  std::vector<double> m(2);
  std::vector<double> v(2);
  ref::AdamWStep({.learning_rate = 0.1, .weight_decay = 0.5, .gradient_scale = 0.5},
                 std::vector<double>{0, 4}, w, m, v);
  EXPECT_NEAR(w[0], 1.9, 1e-12);
  EXPECT_NEAR(m[1], 0.2, 1e-12);
}

TEST(AdamWTest, CpuMatchesReference) {
  for (const size_t n : kSizes) {
    for (const int64_t step : {1, 1000}) {
      SCOPED_TRACE(::testing::Message() << n << " at step " << step);
      TestRandom random(n + 1);
      std::vector<float> w = random.Floats(n, -1, 1);
      std::vector<float> m = random.Floats(n, -1e-2, 1e-2);
      std::vector<float> v = random.Floats(n, 1e-4, 1e-3);
      const std::vector<float> g = random.Floats(n, -1, 1);
      std::vector<double> want_w = Doubles(w);
      std::vector<double> want_m = Doubles(m);
      std::vector<double> want_v = Doubles(v);
      const AdamWConfig config = {
          .learning_rate = 1e-2, .weight_decay = 0.1, .gradient_scale = 0.5, .step = step};
      cpu::AdamWStep(config, g, w, m, v);
      ref::AdamWStep(config, Doubles(g), want_w, want_m, want_v);
      ExpectNear(w, want_w, 2e-6, 1e-2);
      ExpectNear(m, want_m, 2e-6, 1e-2);
      ExpectNear(v, want_v, 2e-6, 1e-2);
    }
  }
}

TEST(AdamWTest, CpuLeavesWeightsWithoutGradientAlone) {
  std::vector<float> w = {3, -3};
  std::vector<float> m(2);
  std::vector<float> v(2);
  cpu::AdamWStep({}, std::vector<float>{0, 0}, w, m, v);
  EXPECT_EQ(w, (std::vector<float>{3, -3}));
}

}  // namespace
}  // namespace muster::kernels
