// Processes that are not our children, told apart from later ones with the same pid by when they
// started. Thread-safety: free functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace muster::cli {

struct Process {
  pid_t pid = 0;
  uint64_t start = 0;  // Clock ticks since boot; 0: there is no such process (a zombie is none).

  friend bool operator==(const Process& a, const Process& b) {
    return a.pid == b.pid && a.start == b.start;
  }
};

Process FindProcess(pid_t pid);
bool IsAlive(const Process& process);
// Never another process. False where it is gone.
bool Signal(const Process& process, int signal);
// Those that are still there after `longest`.
std::vector<Process> WaitUntilGone(std::vector<Process> processes, absl::Duration longest);
// Ends them: `signal`, and SIGKILL for those that are there after `patience`. Those that even this
// left.
std::vector<Process> End(const std::vector<Process>& processes, int signal,
                         absl::Duration patience);

}  // namespace muster::cli
