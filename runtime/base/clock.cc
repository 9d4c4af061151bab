#include "runtime/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace muster {
namespace {

struct Base {
  absl::Time wall = absl::Now();
  std::chrono::steady_clock::time_point steady = std::chrono::steady_clock::now();
};

}  // namespace

absl::Time MonotonicNow() {
  static const Base base;
  return base.wall + absl::FromChrono(std::chrono::steady_clock::now() - base.steady);
}

}  // namespace muster
