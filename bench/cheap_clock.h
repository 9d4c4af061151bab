// A clock that is cheap enough to time single decisions: the CPU's time-stamp counter where there is
// one, calibrated once against the steady clock; else the steady clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace muster::bench {

class CheapClock {
 public:
  CheapClock() {
    using std::chrono::steady_clock;
    const auto begin = steady_clock::now();
    const uint64_t first = Ticks();
    while (steady_clock::now() - begin < std::chrono::milliseconds(20)) {
    }
    const auto nanoseconds =
        std::chrono::duration<double, std::nano>(steady_clock::now() - begin).count();
    ns_per_tick_ = nanoseconds / static_cast<double>(Ticks() - first);
    uint64_t least = ~uint64_t{0};
    for (int i = 0; i < 1000; ++i) {
      const uint64_t before = Ticks();
      least = std::min(least, Ticks() - before);
    }
    overhead_ns_ = static_cast<double>(least) * ns_per_tick_;
  }

  static uint64_t Ticks() {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
  }

  // Between two readings, what a reading itself takes left out.
  double Nanoseconds(uint64_t from, uint64_t to) const {
    return std::max(0.0, static_cast<double>(to - from) * ns_per_tick_ - overhead_ns_);
  }

 private:
  double ns_per_tick_ = 1;
  double overhead_ns_ = 0;
};

// REQUIRES: 0 <= fraction < 1. 0 where there is nothing.
inline double PercentileOf(std::vector<float>& values, double fraction) {
  if (values.empty()) return 0;
  const auto nth =
      values.begin() + static_cast<int64_t>(fraction * static_cast<double>(values.size()));
  std::nth_element(values.begin(), nth, values.end());
  return static_cast<double>(*nth);
}

}  // namespace muster::bench
