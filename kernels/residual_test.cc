#include "kernels/residual.h"

#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

TEST(ResidualTest, Adds) {
  std::vector<double> y(2);
  ref::ResidualForward(std::vector<double>{1, 2}, std::vector<double>{10, -2}, y);
  EXPECT_EQ(y, (std::vector<double>{11, 0}));
}

TEST(ResidualTest, CpuEqualsReferenceOnIntegersAndRoundsOnceElsewhere) {
  for (const size_t n : kSizes) {
    SCOPED_TRACE(n);
    TestRandom random(n + 1);
    for (const bool integers : {true, false}) {
      std::vector<float> x = integers ? random.Integers(n, -99, 99) : random.Floats(n, -1, 1);
      const std::vector<float> branch =
          integers ? random.Integers(n, -99, 99) : random.Floats(n, -1, 1);
      std::vector<double> want(n);
      ref::ResidualForward(Doubles(x), Doubles(branch), want);
      cpu::ResidualForward(x, branch, x);  // In place.
      for (double& value : want) value = static_cast<float>(value);
      ExpectSame(x, want);
    }
  }
}

}  // namespace
}  // namespace muster::kernels
