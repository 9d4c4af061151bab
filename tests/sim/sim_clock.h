// Simulated time, and what is to happen in it: in order of time, and of asking where times are
// equal.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"
#include "tests/sim/prng.h"

namespace muster::sim {

class SimClock {
 public:
  absl::Time now() const { return now_; }
  void At(absl::Time at, std::function<void()> what) {
    events_.emplace(std::make_pair(std::max(at, now_), ++last_), std::move(what));
  }
  void After(absl::Duration delay, std::function<void()> what) {
    At(now_ + delay, std::move(what));
  }

  // Does everything that is due up to `until`, unless `stop` says so after a step.
  template <typename Stop>
  bool RunUntil(absl::Time until, const Stop& stop) {
    while (!events_.empty() && events_.begin()->first.first <= until) {
      const auto next = events_.begin();
      now_ = next->first.first;
      const std::function<void()> what = std::move(next->second);
      events_.erase(next);
      what();
      if (stop()) return true;
    }
    now_ = until;
    return false;
  }

 private:
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  uint64_t last_ = 0;
  absl::btree_map<std::pair<absl::Time, uint64_t>, std::function<void()>> events_;
};

}  // namespace muster::sim
