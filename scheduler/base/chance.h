// A small source of chance, the same with every library (SplitMix64,
// by Steele, Lea and Flood, 2014). For tests and benchmarks: no
// decision is left to it.
//
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <vector>

namespace muster {

class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  int Below(int n) { return static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  bool OneIn(int n) { return Below(n) == 0; }
  bool Percent(int percent) { return Below(100) < percent; }
  double Unit() { return static_cast<double>(Next() >> 11) / 9007199254740992.0; }  // [0, 1).
  template <typename T>
  const T& Of(const std::vector<T>& values) {
    return values[Below(static_cast<int>(values.size()))];
  }

 private:
  uint64_t state_;
};

}  // namespace muster
