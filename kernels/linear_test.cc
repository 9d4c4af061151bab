#include "kernels/linear.h"

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

std::vector<LinearShape> Shapes() {
  std::vector<LinearShape> shapes;
  for (const size_t n : kSizes) {
    const size_t positive = n == 0 ? 1 : n;  // Only the number of rows may be 0.
    shapes.push_back({.rows = n, .in = 3, .out = 5});
    shapes.push_back({.rows = 3, .in = positive, .out = 5});
    shapes.push_back({.rows = 3, .in = 5, .out = positive});
  }
  shapes.push_back({.rows = 65, .in = 128, .out = 384});
  return shapes;
}

TEST(LinearTest, MultipliesByTheTransposedWeightsAndAddsTheBias) {
  const LinearShape shape = {.rows = 2, .in = 2, .out = 3};
  const std::vector<double> x = {1, 2, 3, 4};
  const std::vector<double> w = {1, 0, 0, 1, 1, 1};
  const std::vector<double> b = {0, 10, 100};
  std::vector<double> y(6);
  ref::LinearForward(shape, x, w, b, y);
  EXPECT_EQ(y, (std::vector<double>{1, 12, 103, 3, 14, 107}));
  ref::LinearForward(shape, x, w, {}, y);
  EXPECT_EQ(y, (std::vector<double>{1, 2, 3, 3, 4, 7}));
}

TEST(LinearTest, ReferenceGradientMatchesCentralDifferences) {
  const LinearShape shape = {.rows = 4, .in = 3, .out = 5};
  TestRandom random(3);
  std::vector<double> x = Doubles(random.Floats(12, -1, 1));
  std::vector<double> w = Doubles(random.Floats(15, -1, 1));
  std::vector<double> b = Doubles(random.Floats(5, -1, 1));
  const std::vector<double> dy = Doubles(random.Floats(20, -1, 1));
  std::vector<double> y(20);
  const auto loss = [&] {
    ref::LinearForward(shape, x, w, b, y);
    return Weighted(y, dy);
  };
  std::vector<double> dx(12, 9);  // Overwritten.
  std::vector<double> dw(15);
  std::vector<double> db(5);
  ref::LinearBackward(shape, x, w, dy, dx, dw, db);
  ExpectGradient(loss, x, dx);
  ExpectGradient(loss, w, dw);
  ExpectGradient(loss, b, db);
}

struct Outputs {
  std::vector<float> y, dx, dw, db;
  std::vector<double> want_y, want_dx, want_dw, want_db;
};

Outputs Both(const LinearShape& shape, const std::vector<float>& x, const std::vector<float>& w,
             const std::vector<float>& b, const std::vector<float>& dy) {
  Outputs out;
  out.y.resize(shape.rows * shape.out);
  out.dx.assign(x.size(), 7);  // Overwritten,
  out.dw.assign(w.size(), 1);  // added to.
  out.db.assign(shape.out, 2);
  out.want_y.resize(out.y.size());
  out.want_dx.resize(x.size());
  out.want_dw.assign(w.size(), 1);
  out.want_db.assign(shape.out, 2);
  cpu::LinearForward(shape, x, w, b, out.y);
  ref::LinearForward(shape, Doubles(x), Doubles(w), Doubles(b), out.want_y);
  cpu::LinearBackward(shape, x, w, dy, out.dx, out.dw, out.db);
  ref::LinearBackward(shape, Doubles(x), Doubles(w), Doubles(dy), out.want_dx, out.want_dw,
                      out.want_db);
  return out;
}

TEST(LinearTest, CpuEqualsReferenceOnIntegers) {
  for (const LinearShape& shape : Shapes()) {
    SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.in << " x " << shape.out);
    TestRandom random(shape.rows * 7 + shape.in);
    const Outputs out =
        Both(shape, random.Integers(shape.rows * shape.in, -8, 8),
             random.Integers(shape.in * shape.out, -8, 8), random.Integers(shape.out, -8, 8),
             random.Integers(shape.rows * shape.out, -8, 8));
    ExpectSame(out.y, out.want_y);
    if (shape.rows > 0) ExpectSame(out.dx, out.want_dx);
    ExpectSame(out.dw, out.want_dw);
    ExpectSame(out.db, out.want_db);
  }
}

TEST(LinearTest, CpuMatchesReferenceOnRandomInput) {
  for (const LinearShape& shape : Shapes()) {
    SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.in << " x " << shape.out);
    TestRandom random(shape.rows * 7 + shape.in + 1);
    const Outputs out =
        Both(shape, random.Floats(shape.rows * shape.in, -1, 1),
             random.Floats(shape.in * shape.out, -1, 1), random.Floats(shape.out, -1, 1),
             random.Floats(shape.rows * shape.out, -1, 1));
    // Sums of n products in [-1, 1]: |x||w| sums to at most n, each rounding costs 2^-24 of it.
    ExpectNear(out.y, out.want_y, 1.2e-7 * static_cast<double>(shape.in), 10);
    ExpectNear(out.dx, out.want_dx, 1.2e-7 * static_cast<double>(shape.out), 10);
    ExpectNear(out.dw, out.want_dw, 1.2e-7 * static_cast<double>(shape.rows + 1), 10);
    ExpectNear(out.db, out.want_db, 1.2e-7 * static_cast<double>(shape.rows + 1), 10);
  }
}

TEST(LinearTest, WithoutBiasAndWithoutInputGradientThoseAreLeftOut) {
  const LinearShape shape = {.rows = 2, .in = 3, .out = 2};
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  const std::vector<float> w = {1, 0, 1, 0, 1, 0};
  std::vector<float> y = {9, 9, 9, 9};
  cpu::LinearForward(shape, x, w, {}, y);
  EXPECT_EQ(y, (std::vector<float>{4, 2, 10, 5}));
  std::vector<float> dw(6);
  cpu::LinearBackward(shape, x, w, y, {}, dw, {});
  EXPECT_EQ(dw, (std::vector<float>{44, 58, 72, 22, 29, 36}));
}

TEST(LinearDeathTest, RefusesAWrongShape) {
  std::vector<float> y(4);
  EXPECT_DEATH(cpu::LinearForward({.rows = 2, .in = 3, .out = 2}, y, y, {}, y), "linear: x");
}

}  // namespace
}  // namespace muster::kernels
