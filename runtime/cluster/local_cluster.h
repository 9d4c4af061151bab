// A head and one worker in this process: the cluster on this machine that Init() starts where no
// address is given. It runs in a child process of the program, started from the program's own
// binary.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/options.h"

namespace muster::cluster {

// In the child: reports its address on the pipe, serves until the pipe's other end closes, then
// ends.
[[noreturn]] void RunLocalCluster(int report_fd, int lifeline_fd);
bool IsLocalCluster();  // Whether this process is such a child: Init() asks.

// In the program: the child, running.
class LocalCluster {
 public:
  // Errors: kUnavailable with what the child said.
  static absl::StatusOr<LocalCluster> Start(const InitOptions& options);
  LocalCluster(LocalCluster&& other) noexcept;
  LocalCluster& operator=(LocalCluster&& other) noexcept;
  ~LocalCluster();  // Ends it, and waits until it has (at most 10 s).

  const std::string& address() const { return address_; }

 private:
  LocalCluster(int pid, int lifeline_fd, std::string address)
      : pid_(pid), lifeline_fd_(lifeline_fd), address_(std::move(address)) {}
  void End();

  int pid_ = -1;
  int lifeline_fd_ = -1;
  std::string address_;
};

}  // namespace muster::cluster
