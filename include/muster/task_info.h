// Who and where am I, asked from inside a task.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace muster {

struct TaskInfo;

namespace internal {
TaskInfo CurrentTaskInfo();
bool CurrentTaskCancelled();
}  // namespace internal

// The task that runs, as it was when it started; only cancelled() looks again. Default values in a
// driver. Thread-safety: a plain value.
struct TaskInfo {
  std::string task_id = {};                        // Hex; what `muster explain task` takes.
  std::string node = {};                           // As `muster nodes` shows it.
  std::map<std::string, std::string> labels = {};  // The node's.
  std::vector<std::string> gpu_ids = {};           // As in CUDA_VISIBLE_DEVICES.
  int choice = 0;                                  // Which choice was granted; 0 is the primary.
  int attempt = 0;                                 // 0 is the first.
  std::optional<absl::Time> deadline =
      std::nullopt;  // By when it is to have saved its work and ended, where that is known.
  // Why it is to end before its work is done: "draining", "unhealthy", "preempted", "recalled" or
  // "return_to_preferred", with the reason after ": ". Empty while it may stay.
  std::string leaving_because = {};

  // Whether Cancel() was called; a long task looks at it now and then and returns early.
  bool cancelled() const { return internal::CurrentTaskCancelled(); }
};

// The task of the calling thread, or of its executor where the task started the thread itself.
inline TaskInfo CurrentTask() { return internal::CurrentTaskInfo(); }

// The part of a group that the runtime fills in; see CurrentGroup() in group.h.
struct GroupInfo {
  int rank = 0;
  int size = 1;
  int generation = 0;  // Counts the restarts of the group.
};

}  // namespace muster
