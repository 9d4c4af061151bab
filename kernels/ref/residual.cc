#include "kernels/residual.h"

#include <cstddef>

#include "kernels/require.h"

namespace muster::kernels::ref {

void ResidualForward(std::span<const double> x, std::span<const double> branch,
                     std::span<double> y) {
  Require(x.size() == branch.size() && x.size() == y.size(),
          "residual: x, branch and y have one length");
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] + branch[i];
}

}  // namespace muster::kernels::ref
