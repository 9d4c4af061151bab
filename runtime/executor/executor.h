// An executor: this program, started again by a worker to run tasks of its own functions. It
// listens where the driver that holds the lease connects, runs one task at a time on the main
// thread, and answers in batches.
//
// While a task runs long, the reactor's background thread looks after the connections: cancels
// arrive, results that wait are sent, tasks behind it are given back to the driver. It ends, with
// its whole process group, when its worker or the driver of its lease is gone. Thread-safety:
// Serve() on the main thread; what tasks ask (executor_context.h) from any thread.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "muster/v1/common.pb.h"

namespace muster::executor {

struct ExecutorOptions {
  int control_fd = 3;
  std::string head_address;
  v1::Binary binary;  // This program, for the drivers that its tasks become.
  std::string program;
  absl::Duration reconnect_timeout = absl::Seconds(60);
};

[[noreturn]] void Serve(const ExecutorOptions& options);

// Whether this process is an executor: Init() asks.
bool IsExecutor();

}  // namespace muster::executor
