// Daemons as `muster up` starts them: this program again, detached, with a pipe on which it says
// that it is ready, or what is wrong. Thread-safety: none; one thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/cli/process.h"

namespace muster::cli {

struct SpawnOptions {
  std::vector<std::string> arguments{};    // "worker", "--address=..."
  std::vector<std::string> environment{};  // "NAME=value", on top of ours.
};

class SpawnedDaemon {
 public:
  // Errors: kUnavailable.
  static absl::StatusOr<SpawnedDaemon> Start(const SpawnOptions& options);
  SpawnedDaemon(SpawnedDaemon&& other) noexcept;
  SpawnedDaemon& operator=(SpawnedDaemon&& other) = delete;
  ~SpawnedDaemon();  // Leaves the process as it is.

  const Process& process() const { return process_; }
  // The address that it says it is ready with. Errors: kFailedPrecondition with what it said
  // instead, kDeadlineExceeded, kCancelled after SIGINT or SIGTERM.
  absl::StatusOr<std::string> AwaitReady(absl::Time deadline);
  // The last lines of its log; "" where there are none.
  std::string LastLines() const;

 private:
  SpawnedDaemon(Process process, int pipe) : process_(process), pipe_(pipe) {}

  Process process_;
  int pipe_ = -1;
};

// SIGINT and SIGTERM wait until Interrupted() asks for them. Before any thread is started.
void DeferInterrupts();
bool Interrupted();  // True from the first one on.

}  // namespace muster::cli
