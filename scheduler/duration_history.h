// How long the last few leases of a class lasted: what a start estimate goes by where the request
// itself gives no expected duration. Eight are kept, so it costs nothing and follows the work.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"

namespace muster::sched {

class DurationHistory {
 public:
  static constexpr int kKept = 8;

  void Add(absl::Duration duration) {
    lasted_[next_ % kKept] = absl::ToInt64Nanoseconds(duration);
    ++next_;
  }

  int size() const { return static_cast<int>(std::min<uint64_t>(next_, kKept)); }

  // The lower of the two in the middle of an even number.
  std::optional<absl::Duration> Median() const {
    if (next_ == 0) return std::nullopt;
    std::vector<absl::Duration> sorted = values();
    std::sort(sorted.begin(), sorted.end());
    return sorted[(sorted.size() - 1) / 2];
  }

  std::vector<absl::Duration> values() const {  // Oldest first.
    std::vector<absl::Duration> all;
    for (uint64_t i = next_ - static_cast<uint64_t>(size()); i < next_; ++i) {
      all.push_back(absl::Nanoseconds(lasted_[i % kKept]));
    }
    return all;
  }

 private:
  std::array<int64_t, kKept> lasted_{};  // Nanoseconds; the oldest is overwritten.
  uint64_t next_ = 0;
};

}  // namespace muster::sched
