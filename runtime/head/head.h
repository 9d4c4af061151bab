// The head's shell: the one thread that owns the core, fed by the gRPC server's callbacks through a
// mailbox.
//
// Thread-safety: any thread may call any member.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/decisions.h"
#include "scheduler/events.h"
#include "scheduler/sharing.h"

namespace muster::head {

struct HeadOptions {
  std::string host = "127.0.0.1";
  int port = 6379;  // 0: the kernel picks.
  absl::Duration node_timeout = absl::Seconds(10);
  // How long a head that may have forgotten its nodes waits for them before it calls a request
  // infeasible.
  absl::Duration infeasible_grace = absl::Seconds(2);
  // Placement groups; see sched::SchedulerConfig. An empty hierarchy: the default.
  std::vector<std::string> hierarchy;
  int overtaken_max = 64;
  absl::Duration reservation_after = absl::Minutes(1);
  // From the notice to the end of what holds a GPU that came into quarantine.
  absl::Duration quarantine_grace = absl::Seconds(30);
  int64_t waiting_requests_max = 2'000'000;  // What is beyond these is rejected.
  int64_t waiting_per_tenant_max = 1'000'000;
  size_t nodes_max = 200'000;
  std::string package_directory;
  std::string record_events;  // A file; empty: nothing is recorded.
  int64_t record_bytes_max = int64_t{256} << 20;
  sched::PlacementPolicy placement = sched::PlacementPolicy::kPack;
  int decisions_kept = 4096;
  sched::DecisionDetail decision_detail = sched::DecisionDetail::kSampled;
  // How the cluster is shared. Preemption is on: only work with a priority can cause any.
  sched::SharingConfig sharing{.preemption = true};
  std::vector<sched::TenantSet> tenants{};
  std::vector<sched::Quota> quotas{};
  size_t mailbox_max =
      1 << 20;  // Messages; beyond it a connection's batch is refused by closing it.
};

class Head {
 public:
  // Listens; serves until Stop(). Errors: as HeadServer::Start.
  static absl::StatusOr<std::unique_ptr<Head>> Start(const HeadOptions& options);
  virtual ~Head() = default;  // Stops.

  virtual int port() const = 0;
  // Returns when the head was told to end by `muster down` (workers have left, or 5 s are over) or
  // by Stop().
  virtual void WaitUntilStopped() = 0;
  virtual void Stop() = 0;
};

}  // namespace muster::head
