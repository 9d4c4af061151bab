// What the CPU kernels share: loops the compiler turns into vector code for the machine at hand.
//
// MUSTER_SIMD before a function compiles it for AVX-512, AVX2 and the baseline, and picks at load
// time; so one binary is fast everywhere. g++ only, and not under sanitizers, whose run time is not
// up yet when the choice is made: elsewhere it is the baseline alone. What such a function calls
// must be MUSTER_INLINE. Sums keep 16 partial sums in a fixed order, so they vectorise without
// -ffast-math and round the same way for every vector width.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MUSTER_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MUSTER_SIMD
#endif
#define MUSTER_INLINE inline __attribute__((always_inline))

namespace muster::kernels::cpu {

inline constexpr size_t kLanes = 16;

// Sum of term(i) for i in [0, n).
template <typename Term>
MUSTER_INLINE float LaneSum(size_t n, const Term& term) {
  float lane[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) lane[j] += term(i + j);
  }
  for (size_t j = 0; i + j < n; ++j) lane[j] += term(i + j);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
  }
  return lane[0];
}

// The largest of x[0..n), n > 0. A NaN may be passed over: the exponentials that follow keep it.
MUSTER_INLINE float LaneMax(const float* x, size_t n) {
  float lane[kLanes];
  for (float& value : lane) value = x[0];
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  }
  for (size_t j = 0; i + j < n; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  float largest = lane[0];
  for (const float value : lane) largest = value > largest ? value : largest;
  return largest;
}

// e^x within 2 units in the last place for x in [-87, 88], clamped to that range's ends outside it;
// NaN for NaN. 2^n comes from the exponent bits, e^f from a polynomial on |f| <= ln(2) / 2.
MUSTER_INLINE float Exp(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves n in the low bits.
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float f = (x - n * kLn2High) - n * kLn2Low;
  float poly = 1.9875691500e-4F;
  poly = poly * f + 1.3981999507e-3F;
  poly = poly * f + 8.3334519073e-3F;
  poly = poly * f + 4.1665795894e-2F;
  poly = poly * f + 1.6666665459e-1F;
  poly = poly * f + 5.0000001201e-1F;
  const float exp_f = poly * f * f + f + 1.0F;
  const uint32_t bits = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound);
  return exp_f * std::bit_cast<float>((bits + 127U) << 23U);
}

}  // namespace muster::kernels::cpu
