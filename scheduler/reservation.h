// Backfill without starvation. The oldest group (a placement group, or a request of several
// bundles) that the nodes there are could hold, but that has no room now, is the one that waits;
// others behind it are placed meanwhile. Once SchedulerConfig::overtaken_max younger requests have
// been granted something on nodes that it could use, or it has waited for reservation_after, nodes
// are set aside for it: those of a placement that it would get if they were empty, in the domain
// that costs least. From then on nobody who comes after it in order gets anything there.
//
// Not under `easy` and `conservative` backfill, which have reservations of their own (sharing.h).
//
// So a group is overtaken by at most overtaken_max requests that matter to it; then it waits only
// for the leases that run on its nodes already. It takes any other room that comes sooner. Where
// those leases do not end, the choice of nodes is made anew every reservation_after.
//
// What a placement costs: when its last lease is expected to end (later than all others where that
// is not known of one), then the devices that are in use there (CPUs, for groups without GPUs),
// then the lowest node id.
//
// Invariants: at most one group has nodes set aside, the oldest that could be placed; a node is set
//   aside exactly if it is among them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/ids.h"
#include "scheduler/node.h"

namespace muster::sched {

struct Reservation {
  RequestId group{};                       // 0: no group waits.
  absl::Time since{};                      // When it became the oldest.
  int64_t overtaken = 0;                   // By so many, since then.
  std::optional<absl::Time> planned_at{};  // When the nodes were set aside.
  std::vector<Node*> nodes{};
};

}  // namespace muster::sched
