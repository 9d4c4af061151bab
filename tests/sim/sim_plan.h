// What a seed draws before anything runs: cluster, load, limits and faults.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "scheduler/placement_policy.h"
#include "scheduler/sharing.h"
#include "tests/sim/prng.h"

namespace muster::sim {

struct SimPlan {
  std::vector<v1::NodeResources> workers;
  std::vector<std::vector<v1::Entry>> labels;  // By worker.
  bool small =
      false;  // Plain CPU tasks only, that every worker can hold: no help comes at the end.
  bool burst = false;  // A driver's tasks all come at once.
  int drivers = 1;
  int tasks_per_driver = 10;
  absl::Duration load_time{};  // Tasks come, and faults, during this.
  absl::Duration delay_max{};
  absl::Duration node_timeout{};
  absl::Duration idle_lease{};
  absl::Duration reconnect_timeout{};
  size_t requests_max = 256;
  size_t tasks_per_push_max = 512;
  size_t queued_tasks_max = 1'000'000;
  int idle_executors_max = 4;
  bool placement_groups = false;  // Drivers make some, and run tasks inside them.
  int overtaken_max = 64;
  absl::Duration reservation_after = absl::Minutes(1);
  sched::SharingConfig sharing{};
  sched::PlacementPolicy placement = sched::PlacementPolicy::kPack;
  std::vector<std::string> quotas;  // As `muster head --quota` takes them.
  // Faults that this seed has.
  bool link_loss = false;
  bool delay_spikes = false;
  bool data_loss = false;
  bool driver_crash = false;
  bool worker_crash = false;
  bool worker_freeze = false;
  bool worker_drain = false;
  bool operators = false;        // Drain nodes and quarantine GPUs for a while.
  bool gpu_failure = false;      // For good, and told by the worker.
  bool sharing_changes = false;  // Quotas and weights, for a while.
  bool executor_crash = false;
  bool head_crash = false;
  bool start_failure = false;
  absl::Duration fault_interval{};

  bool any_fault() const {
    return link_loss || delay_spikes || data_loss || driver_crash || worker_crash ||
           worker_freeze || worker_drain || operators || gpu_failure || sharing_changes ||
           executor_crash || head_crash || start_failure;
  }
  std::string ToString() const;
};

SimPlan DrawPlan(Prng& prng);

// One that can hold whatever DrawSpec() asks for, except "nowhere".
v1::NodeResources BigWorker();
std::vector<v1::Entry> BigLabels();

struct DrawnSpec {
  v1::RequestSpec spec;
  bool nowhere = false;  // No node will ever do.
};
DrawnSpec DrawSpec(Prng& prng, bool small);
// Of a group that returns to its first choice.
DrawnSpec DrawReturning(Prng& prng);

// A placement group that BigWorker() alone could hold by the last level of each shape.
v1::RequestSpec DrawPlacementGroup(Prng& prng);
// What runs in the bundle of one: half a CPU.
v1::RequestSpec InsideSpec(uint64_t group, int bundle);

}  // namespace muster::sim
