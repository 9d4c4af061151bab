// How many CPUs and how much memory this process may use: what the machine has, less what cgroups
// (v2 and v1) and the CPU affinity leave of it.
//
// CPUs: the least of the affinity mask, the cpusets and the quotas (cpu.max, cfs_quota_us) of this
// cgroup and
//   all above it. A quota of 2.5 CPUs counts as 2, because a third task would be throttled; one
//   below 1 counts as 1, because a node without a CPU is of no use.
// Memory: the least of MemTotal and the limits (memory.max, limit_in_bytes) of this cgroup and all
// above it. Errors: kUnavailable when /proc cannot be read. A cgroup file that cannot be understood
// sets no limit and
//   leaves a note.
// Thread-safety: free functions, no state.
// Source: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace muster::worker {

struct MachineOptions {
  std::string root{};  // In front of /proc and /sys; tests bring their own.
  std::optional<int> affinity_cpus = std::nullopt;  // Absent: asked of the kernel.
};

struct Machine {
  int cpus = 1;
  int64_t memory_bytes = 0;
  std::vector<std::string> notes;  // For the log, one line each.
};

absl::StatusOr<Machine> DetectMachine(const MachineOptions& options = {});

// "0-3,8" is 5. nullopt where the text is no such list.
std::optional<int> CountCpuList(const std::string& text);

}  // namespace muster::worker
