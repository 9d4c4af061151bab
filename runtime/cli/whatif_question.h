// What `muster whatif` is asked, from its options' texts to the scheduler's values.
//
// Errors: kInvalidArgument naming the option, the part of it and what is allowed.
// Thread-safety: free functions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/events.h"
#include "scheduler/snapshot.h"

namespace muster::cli {

struct RequestTexts {
  std::string resources{};               // "gpus=1,cpus=2,memory=8GiB,resource.license=1"
  std::string selector{};                // As everywhere.
  std::vector<std::string> fallbacks{};  // "SELECTOR gpus=2 after=2m advance_on=busy", "any"
  int bundles = 1;
  int priority = 0;
  std::string placement{};  // "spread"; empty: the cluster's policy.
  std::string node{};       // The only one that will do, or, soft, the first to be tried.
  bool soft = false;
  std::string spec{};  // JSON: other members of a spec, as in a snapshot.
};
absl::StatusOr<sched::RequestSpec> MakeSpec(const RequestTexts& texts);

// The nodes of `--add-node` texts, as `muster up --node` takes them, with ids and names that nobody
// has. Where CPUs or memory are left out, they are those of the node there that is most like it
// (the same number of GPUs first, then the most equal labels).
absl::StatusOr<std::vector<sched::NodeJoined>> NodesToAdd(const std::vector<std::string>& texts,
                                                          const sched::Snapshot& snapshot);
// "new-1, new-2: 8 CPUs, 8 GPUs, accelerator-type=H100"
std::string ToText(const std::vector<sched::NodeJoined>& nodes);

// By name.
absl::StatusOr<std::vector<NodeId>> NodesToRemove(const std::vector<std::string>& names,
                                                  const sched::Snapshot& snapshot);

// The request of a task of the snapshot, or the request of that number. Errors: kNotFound.
absl::StatusOr<RequestId> FindRequest(const std::string& task, const snapshot::SnapshotFile& file);

}  // namespace muster::cli
