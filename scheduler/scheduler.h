// The Scheduler decides which request gets which resources of which node. It is pure: events in, actions
// out, time passed in; the same events in the same order give the same actions, byte for byte.
//
// Rules (each has a golden script in tests/golden/):
//   - a request's open choices are tried in order, and the first with room now wins; where none has room it waits;
//   - oldest first across all scheduling classes at equal priority (higher priority before); a younger request
//     passes an older one only where the older could not be placed now;
//   - all bundles of a request are placed, or none;
//   - among nodes with room: best fit (policy kPack), no GPU node for work without GPUs while another has room,
//     ties to the lowest node id.
//
// Thread-safety: none; one thread owns it. Errors: none; input is validated before it gets here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/events.h"
#include "scheduler/explain.h"

namespace muster {

struct SchedulerConfig {
  int64_t waiting_requests_max = 2'000'000;  // Reaching it is Rejected.
  // How long the cluster's nodes are given to come (back) before "infeasible" is said to anyone; counted
  // from `start`. A restarted head uses it.
  absl::Time start = absl::InfinitePast();
  absl::Duration infeasible_grace = absl::ZeroDuration();
};

class Scheduler {
 public:
  explicit Scheduler(SchedulerConfig config = {});
  ~Scheduler();

  // Applies `event` and appends to `actions` what the shell must do now, in this order.
  // REQUIRES: event.at is not before the previous event's. Unknown ids are ignored (messages cross on the wire).
  void Step(const Event& event, std::vector<Action>& actions);

  // When a Tick is due at the latest: the next `after` timer or end of grace; InfiniteFuture() if none.
  absl::Time NextTick() const;

  // Why the request waits, choice by choice, or where it runs. nullopt: unknown id.
  std::optional<Explanation> Explain(RequestId request, absl::Time now) const;

  // One row per class that has waiting requests, oldest class first; for `muster status`.
  std::vector<WaitingClass> Waiting(absl::Time now) const;

  // Nodes in order of id, with what is used; for `muster status`.
  std::vector<NodeView> Nodes() const;
  bool HasWaiting() const;

  // Dies if an invariant is broken. O(cluster): for tests, after each Step().
  void CheckInvariants() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
