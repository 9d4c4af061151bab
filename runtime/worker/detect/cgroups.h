// Where the limits of this process's cgroup stand in the file system.
//
// Thread-safety: free functions, no state.
// Source: cgroups(7) for /proc/self/cgroup, proc(5) for /proc/self/mountinfo.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace muster::worker {

enum class CgroupController { kCpu, kCpuset, kMemory };

struct CgroupHierarchy {
  bool v2 = false;
  // This process's cgroup first, then all above it as far as they are mounted here; `root` in
  // front.
  std::vector<std::string> directories;
};

// The hierarchies that may limit the controller: none where there are no cgroups, two on hybrid
// machines.
std::vector<CgroupHierarchy> FindCgroups(const std::string& root, CgroupController controller);

// The file's text without the line's end; nullopt where there is no such file.
std::optional<std::string> ReadSmallFile(const std::string& path);

}  // namespace muster::worker
