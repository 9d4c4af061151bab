// One direction of a simulated connection: what is sent arrives in order, after a delay that is
// drawn for each message, and is lost where the pipe is cut while it is under way. Pipes reorder
// against each other.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "tests/sim/prng.h"
#include "tests/sim/sim_clock.h"

namespace muster::sim {

class SimNetwork {
 public:
  SimNetwork(SimClock& clock, Prng& prng) : clock_(clock), prng_(prng) {}

  // The usual delay is up to `delay_max`; during a spike every message takes up to `spike` more.
  absl::Duration delay_max = absl::Milliseconds(1);
  absl::Duration spike = absl::ZeroDuration();

  SimClock& clock() { return clock_; }
  absl::Duration DrawDelay() {
    return prng_.Between(absl::Microseconds(10), delay_max) +
           prng_.Between(absl::ZeroDuration(), spike);
  }

 private:
  SimClock& clock_;
  Prng& prng_;
};

class Pipe {
 public:
  explicit Pipe(SimNetwork& network) : network_(&network), cut_(std::make_shared<bool>(false)) {}

  void Send(std::function<void()> arrive) {
    if (*cut_) return;
    last_ = std::max(last_, network_->clock().now() + network_->DrawDelay());
    network_->clock().At(last_, [cut = cut_, arrive = std::move(arrive)] {
      if (!*cut) arrive();
    });
  }
  void Cut() { *cut_ = true; }
  bool is_cut() const { return *cut_; }

 private:
  SimNetwork* network_;
  absl::Time last_{};
  std::shared_ptr<bool> cut_;
};

}  // namespace muster::sim
