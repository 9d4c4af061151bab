// A cgroup of its own for an executor, where the worker may make one (cgroup v2, delegated): what a
// task starts cannot leave it, so everything ends with the executor, daemons that left its process
// group included.
//
// Errors: none; without a cgroup the process group has to do. Thread-safety: none.
// Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (cgroup.procs, cgroup.kill).
#pragma once

#include <sys/types.h>

#include <string>

namespace muster::worker {

class ExecutorCgroup {
 public:
  // A child of this process's own v2 cgroup, named after `pid`, with `pid` in it. `root` stands in
  // front of /proc.
  explicit ExecutorCgroup(pid_t pid, const std::string& root = "");
  ~ExecutorCgroup();  // Removes it, where nothing lives in it any more.
  ExecutorCgroup(const ExecutorCgroup&) = delete;
  ExecutorCgroup& operator=(const ExecutorCgroup&) = delete;

  bool made() const { return !path_.empty(); }
  const std::string& path() const { return path_; }
  void Kill();  // All of it, SIGKILL.

 private:
  std::string path_;
};

// Where this process's v2 cgroup is in the file system; "" where there is none. The texts are those
// of /proc/self/cgroup and /proc/self/mountinfo.
std::string OwnCgroup(const std::string& cgroup_text, const std::string& mountinfo_text);

}  // namespace muster::worker
