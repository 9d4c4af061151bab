#include "kernels/gelu.h"

#include <cstddef>

#include "kernels/cpu/simd.h"
#include "kernels/require.h"

namespace muster::kernels::cpu {
namespace {

constexpr float kCubic = 0.044715F;
constexpr float kScale = 0.797884560802865F;  // sqrt(2 / pi)

// (1 + tanh(u)) / 2 is the logistic function of 2u. With e = exp(-2u) it is 1 / (1 + e), and what
// it lacks to 1 is e / (1 + e): both without cancellation, however large u.
MUSTER_INLINE float ExpMinusTwoU(float x) { return Exp(-2.0F * kScale * (x + kCubic * x * x * x)); }

}  // namespace

MUSTER_SIMD
void GeluForward(std::span<const float> x, std::span<float> y) {
  Require(x.size() == y.size(), "gelu: x and y have one length");
  const float* in = x.data();
  float* out = y.data();
  const size_t n = x.size();
  for (size_t i = 0; i < n; ++i) {
    out[i] = in[i] / (1.0F + ExpMinusTwoU(in[i]));
  }
}

MUSTER_SIMD
void GeluBackward(std::span<const float> x, std::span<const float> dy, std::span<float> dx) {
  Require(x.size() == dy.size() && x.size() == dx.size(), "gelu: x, dy and dx have one length");
  const float* in = x.data();
  const float* d_out = dy.data();
  float* d_in = dx.data();
  const size_t n = x.size();
  for (size_t i = 0; i < n; ++i) {
    const float value = in[i];
    const float e = ExpMinusTwoU(value);
    const float share = 1.0F / (1.0F + e);
    const float slope = 2.0F * kScale * (1.0F + 3.0F * kCubic * value * value);
    d_in[i] = d_out[i] * (share + value * share * (e * share) * slope);
  }
}

}  // namespace muster::kernels::cpu
