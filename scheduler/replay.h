// A Replay plays a recorded stream of events again, under the same or another configuration, and
// measures what comes of it.
//
// What comes from outside comes as it was recorded: nodes, requests, and owners that gave up while
// they waited. What the scheduler's own decisions bring about does not: a lease that is granted at
// another time or place ends when it has lasted as long as it did in the recording. So
//   - a lease that never ended there does not end here;
//   - one that was not granted there lasts its expected duration, else the median of the recorded
//     ones of its class, else for ever;
//   - one that was cut short there (lost, cancelled, told to leave) lasts as long as it did;
//   - one that is revoked here ends a second later, and what its owner would have done then is not
//     known: requests are those of the recording.
// Under the recorded configuration the same decisions come out, each at its time.
//
// Thread-safety: none. Errors: what Scheduler::Load() refuses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/events.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"

namespace muster::sched {

struct Recording {
  Snapshot start{};
  std::vector<Event> events{};  // In order of time.
};

struct ReplayGrant {
  absl::Time at{};
  absl::Duration waited{};
  std::vector<Placement> placements{};
};

struct ReplayResult {
  int64_t requests = 0;  // That came, or waited at the start.
  int64_t granted = 0;
  int64_t waiting = 0;                   // At the end.
  int64_t refused = 0;                   // Rejected, or failed as infeasible.
  int64_t gave_up = 0;                   // Cancelled while they waited.
  int64_t revoked = 0;                   // Leases.
  int64_t lost = 0;                      // Leases, with their nodes.
  std::vector<absl::Duration> delays{};  // Of those granted, shortest first.
  std::vector<int64_t> by_choice{};      // Grants, by the choice of the first bundle.
  double gpu_utilisation = 0;            // Of what was there, over the time.
  double cpu_utilisation = 0;            // The same; lent out CPUs are free.
  absl::Duration lasted{};
  absl::btree_map<RequestId, ReplayGrant> grants{};

  // The delay that `percent` of the granted requests did not exceed; nullopt where none was.
  std::optional<absl::Duration> Delay(double percent) const;
};

// As it was: every event at its time, the leases' ends too.
absl::StatusOr<ReplayResult> ReplayAsRecorded(const Recording& recording);

// As it would have been under `config`.
absl::StatusOr<ReplayResult> ReplayUnder(const Recording& recording, const SchedulerConfig& config);

struct ReplayMoves {
  int64_t both = 0;       // Granted in both.
  int64_t elsewhere = 0;  // Of these: another node, or another choice.
  int64_t earlier = 0;
  int64_t later = 0;
  int64_t only_first = 0;
  int64_t only_second = 0;
};
ReplayMoves CompareGrants(const ReplayResult& first, const ReplayResult& second);

}  // namespace muster::sched
