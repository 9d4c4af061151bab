// A Snapshot is all that a Scheduler knows, as a plain value: a scheduler loaded from it goes on
// exactly as the one that it was taken from, action for action. `muster status --snapshot` writes
// it as JSON (runtime/snapshot/), and what-if questions and start estimates are answered on a copy.
//
// Invariants: nodes, classes and requests are in order of id, id and arrival. What follows from the
//   rest is not in it: what is free, what matches, queues, timers, what is feasible.
// To add state to the scheduler: a member here, a line in each of TakeSnapshot()
//   (scheduler_snapshot.cc) and Load() (scheduler_load.cc), and one in runtime/snapshot/fields.h.
//   The golden scripts are also run through a snapshot after each statement, and differ where one
//   of these is forgotten.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/choice.h"
#include "scheduler/events.h"
#include "scheduler/explain.h"
#include "scheduler/ids.h"
#include "scheduler/label_selector.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"
#include "scheduler/scheduler.h"

namespace muster::sched {

struct SnapshotNode {
  NodeId node{};
  std::string name{};
  Labels labels{};
  NodeResources total{};
  bool reachable = true;
  bool draining = false;
  std::optional<absl::Time> deadline{};  // Draining.
  std::string drain_reason{};
  bool said_empty = false;
  std::vector<QuarantineView> quarantined{};  // In order of device.
};

// Classes are numbered in the order in which they came up; that order is that of some actions.
struct SnapshotClass {
  uint64_t id = 0;
  SpecHandle spec{};
  uint64_t idle_since = 0;                  // 0: it has requests. Else they rank by it.
  std::vector<absl::Duration> durations{};  // Of its last leases, oldest first.
};

struct SnapshotBundle {
  // Missing: not seen since the head's restart. Closing: of a placement group, given up.
  enum class State { kMissing, kRunning, kClosing, kEnded };
  State state = State::kMissing;
  bool blocked = false;         // Its CPUs are lent out.
  bool may_overcommit = false;  // It took CPUs back, or joined held.
  bool adopted = false;         // It joined held: when it began is not known.
  int inside = -1;              // The bundle of the placement group that it was placed in.
  Placement placement{};
};

struct SnapshotRequest {
  RequestId request{};
  uint64_t of = 0;  // The class.
  uint64_t arrival = 0;
  absl::Time since{};
  absl::Time opened_at{};                          // When the last of the open choices opened.
  int open = 1;                                    // Choices 0 to open - 1 are open.
  absl::Duration waited{};                         // Granted: at since + waited.
  absl::Time avoids_until = absl::InfinitePast();  // Of spec.avoid.
  std::vector<SnapshotBundle> bundles{};           // Empty while it waits.
  std::optional<absl::Time> adopt_by{};
  // Of a placement group, or a request with a strategy; see Request.
  int shape = 0;
  int level = 0;
  bool broken = false;
  bool closing = false;
  bool removed = false;

  bool granted() const { return !bundles.empty(); }
};

struct SnapshotReservation {  // See reservation.h.
  RequestId group{};          // 0: none.
  absl::Time since{};
  int64_t overtaken = 0;
  std::optional<absl::Time> planned_at{};
  std::vector<NodeId> nodes{};
};

struct SnapshotLeaving {  // A lease that was told to leave.
  Notice notice{};
  bool revoked = false;
};

// Room that is kept for a request; see holds.h.
struct SnapshotHoldPart {
  NodeId node{};
  int choice = 0;  // kReturnToPreferred.
  Resources needs{};
  Resources has{};
  GpuShares devices{};
};
struct SnapshotVictim {
  RequestId request{};
  int bundle = 0;
};
struct SnapshotHold {
  uint64_t of = 0;  // The class.
  RequestId request{};
  LeavingReason reason = LeavingReason::kPreempted;
  int level = 0;  // kReturnToPreferred; see Hold.
  absl::Time until = absl::InfiniteFuture();
  std::vector<SnapshotHoldPart> parts{};
  std::vector<SnapshotVictim> victims{};
};

// How often a shape was asked for; see demand.h.
struct SnapshotDemand {
  int64_t gpus = 0;
  int64_t cpus = 0;
  LabelSelector kinds{};
  int64_t count = 0;
  int64_t memory_mib = 0;     // Of all of these together.
  int64_t typical_count = 0;  // As both were when the typical shapes were made.
  int64_t typical_memory_mib = 0;
};

struct Snapshot {
  SchedulerConfig config{};
  absl::Time now{};  // Of the last event.
  uint64_t next_arrival = 1;
  uint64_t next_class = 1;
  uint64_t next_idle = 1;
  std::vector<SnapshotNode> nodes{};
  std::vector<NodeView> lost_nodes{};  // Oldest loss first.
  std::vector<SnapshotClass> classes{};
  std::vector<SnapshotRequest> requests{};  // That wait or hold something.
  std::vector<SnapshotLeaving> leaving{};   // In order of request and bundle.
  std::vector<TenantSet> tenants{};         // With a weight of their own, by name.
  std::vector<Quota> quotas{};              // By name.
  std::vector<SnapshotHold> holds{};        // Oldest first.
  SnapshotReservation reservation{};
  std::vector<SnapshotDemand> demand{};  // By GPUs, CPUs and kinds.
};

}  // namespace muster::sched
