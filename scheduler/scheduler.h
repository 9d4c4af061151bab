// The Scheduler decides which request gets which resources of which node. It is pure: events in,
// actions out, time passed in; the same events in the same order give the same actions, byte for
// byte.
//
// Rules (each has a golden script in tests/golden/):
//   - a request's open choices are tried in order, and the first with room now wins; where none has
//   room it waits;
//   - a choice opens `after` the one before it opened, or as soon as every open choice is found to
//   be something
//     that is in its advance_on; once open it stays open;
//   - whose turn it is, who may pass whom, quotas, preemption and recall: sharing.h. With one
//   tenant and the
//     defaults: oldest first across all scheduling classes at equal priority (higher priority
//     before); a younger request passes an older one only where the older could not be placed now;
//   - all bundles of a request are placed, or none. There is room when the nodes, each filled by
//   itself, hold enough
//     bundles: a node is filled with choice s until that has no room, then choice s+1, and so on,
//     by the s that holds the most. The bundles are placed one by one, each as a request of its own
//     would be, where that places them all; else node by node in order of id, each filled as above
//     (the lowest s on ties);
//   - among nodes with room: by the placement policy, see placement_policy.h and packing.h. Best
//   fit takes no GPU node for work without GPUs while another has room, and the node with the
//     least of these, compared in order: GPUs although none are needed; what stays free of the
//     device that a share would go to; free GPUs, then how many of them are whole; free CPUs and
//     free memory, both in steps (free_key.h); node id. On a node: whole
//     GPUs are the lowest empty devices, a share goes to the fullest device that has room (the
//     lowest on ties);
//   - long-lived work returns to an earlier choice once that has room: ReturnToPreferred in
//   choice.h;
//   - node affinity and avoidance of nodes that failed: see placement_constraints.h;
//   - draining and unreachable nodes get nothing new, and count as existing: nothing is infeasible
//   for their absence; devices in quarantine count as not there, since they come back only once
//   they are mended;
//   - what must leave a node or a device is told, and revoked at the deadline: NodeDraining and
//   DeviceHealth in events.h;
//   - a change of labels leaves what runs where it is.
//
// Cost, in plain order (no quotas, holds or preemption in play): a request, its choices times the
// few buckets of free capacity and the blocks of nodes that its selector matches in them (of a
// choice known to have no room, only what has more free since); one of a class that waits already,
// its place in the queue; a finished lease, the waiting classes that its node may serve; a node
// that joins or changes, its labels. See capacity_index.h, waiting_index.h and feasibility.h.
// Groups, and requests with affinity, cost O(nodes); under easy and conservative backfill any step
// in which two or more wait O(leases). Thread-safety: none; one thread owns it. Errors: none; input
// is validated before it gets here (a spec that Validate() refuses is Rejected).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/decisions.h"
#include "scheduler/events.h"
#include "scheduler/explain.h"
#include "scheduler/sharing.h"

namespace muster::sched {

// Region, zone, rack, NVLink domain: {"ray.io/availability-region", ...}.
const std::vector<std::string>& DefaultHierarchy();

struct SchedulerConfig {
  int64_t waiting_requests_max = 2'000'000;    // Reaching it is Rejected.
  int64_t waiting_per_tenant_max = 1'000'000;  // As well.
  // How long the cluster's nodes are given to come (back) before "infeasible" is said to anyone;
  // counted from `start`. A restarted head uses it.
  absl::Time start = absl::InfinitePast();
  absl::Duration infeasible_grace = absl::ZeroDuration();
  // How long a request that was asked for again waits for the rest of its bundles to come back with
  // their nodes.
  absl::Duration adoption_timeout = absl::Seconds(30);
  // The labels that say where nodes lie to each other, from the coarsest to the finest: ranks are
  // numbered along them.
  std::vector<std::string> hierarchy = DefaultHierarchy();
  // The oldest group that could be placed on the nodes there are, but has no room, has nodes set
  // aside for it once so many younger requests have passed it on nodes that it could use, or once
  // it has waited so long; see reservation.h. 0 and infinite: never for that reason.
  int64_t overtaken_max = 64;
  absl::Duration reservation_after = absl::Minutes(1);
  PlacementPolicy placement = PlacementPolicy::kPack;  // Of requests that name none.
  // How long a request waits for room on other nodes than those it avoids, where others could ever
  // hold it.
  absl::Duration avoid_for = absl::Seconds(10);
  // How long the room of an earlier choice is kept, once what is to return there has ended, for
  // what is asked for instead of it.
  absl::Duration return_patience = absl::Seconds(10);
  // From the Notice to the end of what holds a device that came into quarantine.
  absl::Duration quarantine_grace = absl::Seconds(30);
  int lost_nodes_kept = 100;    // In Nodes(), the newest.
  int idle_classes_kept = 256;  // Classes without requests whose matching nodes stay known.
  int decisions_kept = 4096;    // The newest; see decisions.h.
  DecisionDetail decision_detail = DecisionDetail::kOff;
  SharingConfig sharing{};  // Who comes next, and who may be asked to leave for it.
};

struct Snapshot;  // snapshot.h

class Scheduler {
 public:
  explicit Scheduler(SchedulerConfig config = {});
  ~Scheduler();

  // Applies `event` and appends to `actions` what the shell must do now, in this order.
  // REQUIRES: event.at is not before the previous event's. Unknown ids are ignored (messages cross
  // on the wire).
  void Step(const Event& event, std::vector<Action>& actions);

  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // When a Tick is due at the latest: the next time at which something follows from time alone (a
  // choice opens, a Notice's deadline, a lease is late, ...); InfiniteFuture() if none.
  absl::Time NextTick() const;

  // Why the request waits, choice by choice, or where it runs. nullopt: unknown id (an ended one
  // is).
  std::optional<Explanation> Explain(RequestId request, absl::Time now) const;

  // One row per class that has waiting requests, oldest class first; for `muster status`.
  std::vector<WaitingClass> Waiting(absl::Time now) const;

  // Tenants by name, with what they hold and the quotas that they are under; for `muster status`.
  std::vector<TenantView> TenantViews() const;
  std::vector<QuotaView> QuotaViews() const;  // By name.

  // Nodes in order of id, with what is used, lost ones included; for `muster status`.
  std::vector<NodeView> Nodes() const;
  bool HasWaiting() const;

  // How often the last Step() looked for room for a whole group at some time, for easy and
  // conservative backfill: what it cost.
  int64_t searches() const;

  // The last decisions, newest first; one by its number; and the last grant of a request, or what
  // else was decided of it. nullopt: not known (any more).
  std::vector<DecisionView> NewestDecisions(size_t most) const;
  std::optional<DecisionView> FindDecision(uint64_t number) const;
  std::optional<DecisionView> LatestDecision(RequestId request) const;

  // All that it knows. O(cluster).
  Snapshot TakeSnapshot() const;

  // A scheduler that goes on as the one did that the snapshot was taken from. Where the snapshot
  // was edited since, so that something that waits has room now, `actions` gets what follows from
  // that. Errors: kInvalidArgument naming what contradicts the rest.
  static absl::StatusOr<std::unique_ptr<Scheduler>> Load(const Snapshot& snapshot,
                                                         std::vector<Action>& actions);

  // Dies if an invariant is broken. O(cluster): for tests, after each Step().
  void CheckInvariants() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::sched
