// What happened in a run, written down by its ranks as it happens and read when it is over: what an
// aborted generation returns is lost, its history is not. One line an event, in a file in the
// checkpoints' directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace train_gpt {

struct HistoryEvent {
  std::string what;   // "start": a rank began; "step": rank 0 has done so many steps; "resume".
  double time_s = 0;  // Since the epoch.
  int generation = 0;
  int rank = 0;
  std::string node = "-";
  int choice = 0;
  int64_t pid = 0;
  int64_t step = 0;
  double loss = 0;
};

// Lines of several processes do not mix: each is one small append.
absl::Status AppendHistory(const std::string& directory, const HistoryEvent& event);
// In the order of their times. A missing file is an empty history.
absl::StatusOr<std::vector<HistoryEvent>> ReadHistory(const std::string& directory);

struct Generation {
  int number = 0;
  std::vector<HistoryEvent> ranks;  // Where each ran, by rank.
  int64_t first_step = 0;           // It went on from here.
  int64_t last_step = 0;            // It is known to have got this far.
  double seconds_lost =
      0;  // From its last known step until the next generation had done that step too.
};
std::vector<Generation> Generations(const std::vector<HistoryEvent>& history);

}  // namespace train_gpt
