#include "kernels/linear.h"

#include "kernels/require.h"

namespace muster::kernels::ref {

void LinearForward(const LinearShape& shape, std::span<const double> x, std::span<const double> w,
                   std::span<const double> b, std::span<double> y) {
  const auto [rows, in, out] = shape;
  Require(x.size() == rows * in && w.size() == out * in && y.size() == rows * out,
          "linear: x [rows, in], w [out, in], y [rows, out]");
  for (size_t i = 0; i < rows; ++i) {
    for (size_t o = 0; o < out; ++o) {
      double sum = b.empty() ? 0 : b[o];
      for (size_t k = 0; k < in; ++k) sum += x[i * in + k] * w[o * in + k];
      y[i * out + o] = sum;
    }
  }
}

void LinearBackward(const LinearShape& shape, std::span<const double> x, std::span<const double> w,
                    std::span<const double> dy, std::span<double> dx, std::span<double> dw,
                    std::span<double> db) {
  const auto [rows, in, out] = shape;
  Require(x.size() == rows * in && w.size() == out * in && dy.size() == rows * out &&
              dw.size() == w.size(),
          "linear: x [rows, in], w and dw [out, in], dy [rows, out]");
  for (double& value : dx) value = 0;
  for (size_t i = 0; i < rows; ++i) {
    for (size_t o = 0; o < out; ++o) {
      const double d = dy[i * out + o];
      if (!db.empty()) db[o] += d;
      for (size_t k = 0; k < in; ++k) {
        dw[o * in + k] += d * x[i * in + k];
        if (!dx.empty()) dx[i * in + k] += d * w[o * in + k];
      }
    }
  }
}

}  // namespace muster::kernels::ref
