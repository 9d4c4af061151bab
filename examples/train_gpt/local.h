// A group of ranks as processes of this machine, without a cluster: to try the example, and to test
// it. What a cluster does for a group is done here in the small: rendezvous in a directory, and a
// new generation when a rank dies.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "examples/train_gpt/trainer.h"

namespace train_gpt {

struct LocalOptions {
  int ranks = 2;
  int max_restarts = 3;
  // Kills the last rank of generation 0 with SIGKILL when this step is reported; 0 for never.
  int64_t kill_at_step = 0;
};

// Forks the ranks, so call it before the process has other threads. `progress` is called here, with
// what rank 0 reports. Returns the last generation's reports by rank; the first failed rank's
// error, or kAborted when ranks died more often than max_restarts.
absl::StatusOr<std::vector<RankReport>> TrainLocally(
    const TrainConfig& config, const LocalOptions& options,
    const std::function<void(const Progress&)>& progress);

}  // namespace train_gpt
