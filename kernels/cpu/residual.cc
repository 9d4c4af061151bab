#include "kernels/residual.h"

#include <cstddef>

#include "kernels/cpu/simd.h"
#include "kernels/require.h"

namespace muster::kernels::cpu {

MUSTER_SIMD
void ResidualForward(std::span<const float> x, std::span<const float> branch, std::span<float> y) {
  Require(x.size() == branch.size() && x.size() == y.size(),
          "residual: x, branch and y have one length");
  const float* a = x.data();
  const float* b = branch.data();
  float* out = y.data();
  const size_t n = x.size();
  for (size_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

}  // namespace muster::kernels::cpu
