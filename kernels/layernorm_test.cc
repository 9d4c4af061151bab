#include "kernels/layernorm.h"

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

template <typename T>
struct Buffers {
  std::vector<T> mean, rstd, y, dx, d_gamma, d_beta;
  explicit Buffers(const LayerNormShape& shape)
      : mean(shape.rows),
        rstd(shape.rows),
        y(shape.rows * shape.width),
        dx(shape.rows * shape.width, T{1}),  // Gradients are added to what is there.
        d_gamma(shape.width, T{2}),
        d_beta(shape.width, T{3}) {}
};

TEST(LayerNormTest, GivesEachRowMeanZeroAndVarianceOne) {
  const LayerNormShape shape = {.rows = 2, .width = 4};
  const std::vector<double> x = {1, 1, 3, 3, -4, 4, -4, 4};
  const std::vector<double> gamma = {1, 1, 2, 1};
  const std::vector<double> beta = {0, 0, 0, 5};
  Buffers<double> out(shape);
  ref::LayerNormForward(shape, x, gamma, beta, out.mean, out.rstd, out.y);
  EXPECT_EQ(out.mean, (std::vector<double>{2, 0}));
  EXPECT_NEAR(out.rstd[1], 0.25, 1e-6);
  const std::vector<double> want = {-1, -1, 2, 6, -1, 1, -2, 6};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(out.y[i], want[i], 2e-5);
}

TEST(LayerNormTest, ReferenceGradientMatchesCentralDifferences) {
  const LayerNormShape shape = {.rows = 3, .width = 7};
  TestRandom random(2);
  std::vector<double> x = Doubles(random.Floats(21, -2, 2));
  std::vector<double> gamma = Doubles(random.Floats(7, 0.5, 1.5));
  std::vector<double> beta = Doubles(random.Floats(7, -1, 1));
  const std::vector<double> dy = Doubles(random.Floats(21, -1, 1));
  Buffers<double> out(shape);
  const auto loss = [&] {
    ref::LayerNormForward(shape, x, gamma, beta, out.mean, out.rstd, out.y);
    return Weighted(out.y, dy);
  };
  loss();
  std::vector<double> dx(21);
  std::vector<double> d_gamma(7);
  std::vector<double> d_beta(7);
  ref::LayerNormBackward(shape, x, gamma, out.mean, out.rstd, dy, dx, d_gamma, d_beta);
  ExpectGradient(loss, x, dx);
  ExpectGradient(loss, gamma, d_gamma);
  ExpectGradient(loss, beta, d_beta);
}

TEST(LayerNormTest, CpuMatchesReference) {
  for (const size_t n : kSizes) {
    // The size as the number of rows, then as the width, where 0 is refused.
    for (const LayerNormShape shape : {LayerNormShape{.rows = n, .width = 3},
                                       LayerNormShape{.rows = 3, .width = n + (n == 0)}}) {
      SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.width);
      TestRandom random(n + 1);
      const size_t elements = shape.rows * shape.width;
      const std::vector<float> x = random.Floats(elements, -100, 100);
      const std::vector<float> gamma = random.Floats(shape.width, -2, 2);
      const std::vector<float> beta = random.Floats(shape.width, -2, 2);
      const std::vector<float> dy = random.Floats(elements, -1, 1);
      Buffers<float> got(shape);
      Buffers<double> want(shape);
      cpu::LayerNormForward(shape, x, gamma, beta, got.mean, got.rstd, got.y);
      ref::LayerNormForward(shape, Doubles(x), Doubles(gamma), Doubles(beta), want.mean, want.rstd,
                            want.y);
      ExpectNear(got.y, want.y, 1e-4);
      cpu::LayerNormBackward(shape, x, gamma, got.mean, got.rstd, dy, got.dx, got.d_gamma,
                             got.d_beta);
      ref::LayerNormBackward(shape, Doubles(x), Doubles(gamma), want.mean, want.rstd, Doubles(dy),
                             want.dx, want.d_gamma, want.d_beta);
      ExpectNear(got.dx, want.dx, 1e-4);
      ExpectNear(got.d_gamma, want.d_gamma, 1e-3);
      ExpectNear(got.d_beta, want.d_beta, 1e-4);
    }
  }
}

}  // namespace
}  // namespace muster::kernels
