// A whole cluster in one thread: the real cores of head, workers and drivers under a simulated
// clock and network. The seed draws everything; the same seed gives the same run, step by step.
//
// Phase 1, safety: load and faults. Phase 2, liveness: all is healed, and within bounded simulated
// time every task must have ended, then nothing may be left anywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::sim {

// A planted fault, that the checker must find.
enum class Plant {
  kNone,
  kExitTooSoon,    // A worker hears that an executor has ended while it still runs.
  kCompleteTwice,  // A result counts again.
  kDropRequest,    // A request is lost without its link being lost.
};

struct SimOptions {
  Plant plant = Plant::kNone;
  bool verbose = false;  // Print every step.
};

struct SimResult {
  std::string plan;
  int submitted = 0;
  int ended_once = 0;  // Of `submitted`; tasks of drivers that crashed are in neither.
  int ended_ok = 0;
  int faults = 0;
  std::string trace;  // Steps and a hash of all they were told and did.
  std::vector<std::string> errors;
};

SimResult Simulate(uint64_t seed, const SimOptions& options = {});

}  // namespace muster::sim
