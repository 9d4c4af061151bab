// One executor process as its worker sees it: started in its own process group, its output read
// line by line, its control link, its end.
//
// The child gets MUSTER_ROLE=executor, the control link as descriptor 3, and no GPUs
// (CUDA_VISIBLE_DEVICES="") until a lease says otherwise. It ends itself, with its whole group,
// when the control link breaks. Thread-safety: none; everything happens on the reactor's polling
// thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/v1/task.pb.h"
#include "runtime/base/reactor.h"

namespace muster::worker {

struct OutputLine {
  bool is_stderr = false;
  std::string task;  // The function that wrote it; "" before the first.
  std::string text;
};

class ExecutorProcess {
 public:
  struct Options {
    std::string program;                   // Path of the executable.
    std::vector<std::string> argv;         // The driver's own, argv[0] included.
    std::string working_directory;         // Used where it exists.
    std::vector<std::string> environment;  // "NAME=value", on top of the worker's.
    std::string log_stem;                  // ".out" and ".err" are appended; "": no files.
  };
  struct Callbacks {
    std::function<void(const v1::ExecutorToWorker&)> on_message;
    std::function<void(std::vector<OutputLine>)> on_output;
    // Once, after the last on_output; whatever was left of its process group is dead by then.
    std::function<void(std::string how, std::string last_stderr)> on_exit;
  };

  // Errors: kNotFound, kPermissionDenied, kResourceExhausted, naming program and cause.
  static absl::StatusOr<std::unique_ptr<ExecutorProcess>> Start(Reactor& reactor,
                                                                const Options& options,
                                                                Callbacks callbacks);
  virtual ~ExecutorProcess() = default;  // Kills the group and waits for the process.

  virtual pid_t pid() const = 0;
  virtual void Send(const v1::WorkerToExecutor& message) = 0;
  virtual void Kill() = 0;  // The whole group, SIGKILL; on_exit follows.
  // Hands on what is in the pipes now, a line that is not ended included.
  virtual void FlushOutput() = 0;
};

// "killed by signal 11 (segmentation fault)", "exit status 3", from what waitpid gave.
std::string DescribeExit(int wait_status);

}  // namespace muster::worker
