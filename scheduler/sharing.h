// How a cluster is shared between tenants and jobs: who comes next, who may pass whom, what anyone
// may hold at most, and when a lease is taken for others.
//
// Order of turns: higher priority first; within a priority by `ordering`:
//   fifo   oldest first;
//   fair   weighted dominant-resource fairness: the tenant with the least share / weight first, the
//          oldest request of it; equal shares: the oldest. A tenant's share is the largest, over
//          CPUs, GPUs, memory and custom resources, of what its leases hold / what the nodes have,
//          in whole 1/10^9. One tenant: as fifo.
// Backfill, where the request whose turn it is finds no room, though nodes could hold it and no
// quota stands in its way:
//   greedy        whoever comes after it may be placed;
//   none          nobody may;
//   easy          it gets a reservation, the earliest start that the expected ends of leases allow,
//                 and whoever comes after may be placed where that does not put it off;
//   conservative  all that wait get such a reservation, the first `reservations_max` in turn.
//   A lease without an expected duration, or past it, is reckoned to last `duration_default`, or
//   twice, four times, ... as long; who waits is looked at again when one is past its time.
// Nothing holds back what a blocked lease waits for: while a lease of a job is blocked (its task
//   waits for others, of the same job), requests of that job may be placed wherever there is room,
//   whoever's turn it is, whatever is reserved (by backfill, or for a group: reservation.h). Else
//   the first in turn could wait for a lease that waits for a request behind it.
// Nor does what is to run inside a placement group hold anybody back, or wait for anybody's turn.
// Taking leases: a request that cannot be placed takes, with `preemption`, what requests of lower
// priority hold (preemption.h says which), and, with a finite `time_slice`, what requests of other
// classes and no higher priority have held that long, from tenants with no smaller share. Only
// `preemptible` ones. Their holders get a Notice and, after the grace, a Revoke; what they give
// back is kept for the request that it was taken for.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/label_selector.h"
#include "scheduler/resources.h"

namespace muster::sched {

enum class Ordering : uint8_t { kFair, kFifo };
enum class Backfill : uint8_t { kGreedy, kNone, kEasy, kConservative };

// "fair", "greedy" and so on. Errors: kInvalidArgument naming what is allowed.
absl::StatusOr<Ordering> ParseOrdering(absl::string_view text);
absl::StatusOr<Backfill> ParseBackfill(absl::string_view text);
std::string ToString(Ordering ordering);
std::string ToString(Backfill backfill);

struct SharingConfig {
  Ordering ordering = Ordering::kFair;
  Backfill backfill = Backfill::kGreedy;
  int reservations_max = 64;
  absl::Duration duration_default = absl::Hours(1);
  bool preemption = false;
  absl::Duration preemption_grace = absl::Seconds(30);
  absl::Duration time_slice = absl::InfiniteDuration();
  // From the Notice of a recall to its Revoke. Infinite: the lease ends with its running task.
  absl::Duration recall_grace = absl::InfiniteDuration();
};

// Weights in 1/1000.
inline constexpr int64_t kWeightUnit = 1000;
inline constexpr int64_t kWeightMax = 1'000'000 * kWeightUnit;
absl::StatusOr<int64_t> ParseWeight(absl::string_view text);  // "2.5"
std::string WeightToText(int64_t weight_milli);

// "At most 8 GPUs with accelerator-type H100 for the tenant research." A request counts with all
// its bundles: where they would not fit together, the nodes that the selector matches are closed to
// it. A limit that is left out limits nothing. The CPUs of a blocked lease do not count: they are
// lent, to what it waits for among others, and taken back whatever the limit. Room that is kept for
// work to return to counts as if it ran there.
struct Quota {
  std::string name{};
  // Whose: of one tenant, or of one job, or, both empty, of everyone together.
  std::string tenant{};
  std::string job{};
  LabelSelector selector{};                        // Empty: all nodes.
  absl::btree_map<std::string, int64_t> limits{};  // "cpus", "gpus", "memory" or a custom name.

  friend bool operator==(const Quota& a, const Quota& b) {
    return a.name == b.name && a.tenant == b.tenant && a.job == b.job && a.selector == b.selector &&
           a.limits == b.limits;
  }
};
absl::Status Validate(const Quota& quota);

// "name=h100 tenant=research limits=gpus=8 selector=ray.io/accelerator-type=H100"
std::string ToText(const Quota& quota);

// As a flag or a file says it: "h100:tenant=research,gpus=8,ray.io/accelerator-type=H100". After
// the name come, in any order, tenant= or job=, limits (cpus=, gpus=, memory=8GiB, resource.NAME=)
// and label requirements (any other key; a value may be in(a,b)). Errors: kInvalidArgument.
absl::StatusOr<Quota> ParseQuota(absl::string_view text);

// What of `resources` the limit `name` counts.
int64_t AmountOf(const Resources& resources, absl::string_view name);
// "8 GPUs", "2 CPUs", "8 GiB memory", "3 license".
std::string LimitText(absl::string_view name, int64_t amount);

}  // namespace muster::sched
