// Random numbers that are a function of what they are for: the same seed, purpose and index give
// the same number on every machine, in every run, in any order. That is what makes a resumed run
// repeat what the lost one would have done.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>

namespace train_gpt {

inline uint64_t Mix(uint64_t z) {  // splitmix64's finish
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

inline uint64_t RandomBits(std::initializer_list<uint64_t> of) {
  uint64_t state = 0;
  for (const uint64_t part : of) state = Mix(state + part + 0x9e3779b97f4a7c15U);
  return state;
}

// In [0, 1).
inline double RandomUniform(std::initializer_list<uint64_t> of) {
  return static_cast<double>(RandomBits(of) >> 11U) * 0x1p-53;
}

// Mean 0, deviation 1 (Box and Muller).
inline double RandomNormal(uint64_t seed, uint64_t purpose, uint64_t index) {
  const double radius = std::sqrt(-2 * std::log(1 - RandomUniform({seed, purpose, index, 0})));
  return radius * std::cos(2 * std::numbers::pi * RandomUniform({seed, purpose, index, 1}));
}

}  // namespace train_gpt
