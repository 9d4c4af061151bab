// What the kernels' tests share: inputs, comparisons a NaN fails, and central differences.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "gtest/gtest.h"

namespace muster::kernels {

// The lengths at which vector loops and thread blocks begin, end and spill over.
inline constexpr size_t kSizes[] = {0, 1, 31, 32, 33, 255, 257, 10007};

class TestRandom {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed) {}

  uint64_t Next() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  double Uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(Next() >> 11U) * 0x1p-53;
  }
  // Values float32 holds exactly, so both precisions start from the same input.
  std::vector<float> Floats(size_t n, double low, double high) {
    std::vector<float> values(n);
    for (float& value : values) value = static_cast<float>(Uniform(low, high));
    return values;
  }
  std::vector<float> Integers(size_t n, int low, int high) {
    std::vector<float> values(n);
    for (float& value : values) {
      value = static_cast<float>(low +
                                 static_cast<int>(Next() % static_cast<uint64_t>(high - low + 1)));
    }
    return values;
  }
  std::vector<uint8_t> Tokens(size_t n, size_t vocabulary) {
    std::vector<uint8_t> values(n);
    for (uint8_t& value : values) value = static_cast<uint8_t>(Next() % vocabulary);
    return values;
  }

 private:
  uint64_t state_;
};

inline std::vector<double> Doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

inline void ExpectSame(const std::vector<float>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(static_cast<double>(got[i]) == want[i])
        << "at " << i << ": " << got[i] << ", want " << want[i];
  }
}

// |got - want| <= bound * (floor + |want|), and a NaN on either side fails.
inline void ExpectNear(const std::vector<float>& got, const std::vector<double>& want, double bound,
                       double floor = 1) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::abs(static_cast<double>(got[i]) - want[i]) <=
                bound * (floor + std::abs(want[i])))
        << "at " << i << " of " << got.size() << ": " << got[i] << ", want " << want[i];
  }
}

// Checks `gradient` of the scalar `loss` with respect to `x` by moving each x a little both ways.
// `loss` reads x through its own reference. Error of central differences here: about 1e-9.
inline void ExpectGradient(const std::function<double()>& loss, std::vector<double>& x,
                           const std::vector<double>& gradient) {
  ASSERT_EQ(x.size(), gradient.size());
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    x[i] = kept + kStep;
    const double above = loss();
    x[i] = kept - kStep;
    const double below = loss();
    x[i] = kept;
    const double want = (above - below) / (2 * kStep);
    ASSERT_TRUE(std::abs(gradient[i] - want) <= 1e-7 * (1 + std::abs(want)))
        << "at " << i << ": " << gradient[i] << ", central difference " << want;
  }
}

// A scalar that depends on every element of y with a different weight; the weights are its dy.
inline double Weighted(std::span<const double> y, std::span<const double> weights) {
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += y[i] * weights[i];
  return sum;
}

}  // namespace muster::kernels
