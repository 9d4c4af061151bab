#include "kernels/linear.h"

#include <cblas.h>

#include <algorithm>

#include "kernels/require.h"

namespace muster::kernels::cpu {
namespace {

int Int(size_t n) {
  Require(n < (size_t{1} << 31), "linear: each dimension below 2^31");
  return static_cast<int>(n);
}

}  // namespace

void SetGemmThreads(int threads) { openblas_set_num_threads(threads); }

std::string GemmName() {
  return std::string(openblas_get_config()) + ", kernels for " + openblas_get_corename();
}

void LinearForward(const LinearShape& shape, std::span<const float> x, std::span<const float> w,
                   std::span<const float> b, std::span<float> y) {
  const auto [rows, in, out] = shape;
  Require(in > 0 && out > 0 && x.size() == rows * in && w.size() == out * in &&
              y.size() == rows * out && (b.empty() || b.size() == out),
          "linear: x [rows, in], w [out, in], b [out] or none, y [rows, out]");
  if (rows == 0) return;
  if (!b.empty()) {
    for (size_t i = 0; i < rows; ++i) std::copy(b.begin(), b.end(), y.data() + i * out);
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, Int(rows), Int(out), Int(in), 1.0F, x.data(),
              Int(in), w.data(), Int(in), b.empty() ? 0.0F : 1.0F, y.data(), Int(out));
}

void LinearBackward(const LinearShape& shape, std::span<const float> x, std::span<const float> w,
                    std::span<const float> dy, std::span<float> dx, std::span<float> dw,
                    std::span<float> db) {
  const auto [rows, in, out] = shape;
  Require(in > 0 && out > 0 && x.size() == rows * in && w.size() == out * in &&
              dy.size() == rows * out && dw.size() == w.size() &&
              (dx.empty() || dx.size() == x.size()) && (db.empty() || db.size() == out),
          "linear: x, dx [rows, in], w, dw [out, in], dy [rows, out], db [out] or none");
  if (rows == 0) return;
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, Int(out), Int(in), Int(rows), 1.0F,
              dy.data(), Int(out), x.data(), Int(in), 1.0F, dw.data(), Int(in));
  if (!dx.empty()) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, Int(rows), Int(in), Int(out), 1.0F,
                dy.data(), Int(out), w.data(), Int(in), 0.0F, dx.data(), Int(in));
  }
  if (db.empty()) return;
  float* sum = db.data();
  for (size_t i = 0; i < rows; ++i) {
    const float* d = dy.data() + i * out;
    for (size_t o = 0; o < out; ++o) sum[o] += d[o];
  }
}

}  // namespace muster::kernels::cpu
