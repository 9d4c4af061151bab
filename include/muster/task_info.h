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
      std::nullopt;  // When the node goes away, where that is known.

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
