// The simulator's only source of chance: the same seed gives the same numbers with every compiler
// and library (std distributions do not).
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "scheduler/base/chance.h"

namespace muster::sim {

class Prng {
 public:
  explicit Prng(uint64_t seed) : chance_(seed) {}

  uint64_t Next() { return chance_.Next(); }
  uint64_t Below(uint64_t bound) { return Next() % bound; }  // REQUIRES: bound > 0.
  // Both ends included. REQUIRES: low <= high.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  absl::Duration Between(absl::Duration low, absl::Duration high) {
    return absl::Nanoseconds(
        Between(absl::ToInt64Nanoseconds(low), absl::ToInt64Nanoseconds(high)));
  }
  bool Percent(int percent) { return chance_.Percent(percent); }

 private:
  Chance chance_;
};

}  // namespace muster::sim
