// What a task may ask of the executor that runs it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/collective.h"
#include "muster/task_info.h"
#include "runtime/base/reactor.h"
#include "runtime/client/client_runtime.h"

namespace muster::executor {

class ExecutorContext {
 public:
  virtual ~ExecutorContext() = default;

  virtual TaskInfo Task() = 0;
  virtual bool Cancelled() = 0;
  virtual GroupInfo Group() = 0;
  virtual absl::Status StoreSet(const std::string& key, const std::string& value) = 0;
  virtual absl::StatusOr<std::string> StoreGet(const std::string& key, absl::Duration timeout) = 0;
  virtual Collectives& TheCollectives() = 0;

  virtual Reactor& TheReactor() = 0;
  // The runtime through which tasks submit tasks; connects at the first use.
  virtual absl::StatusOr<client::ClientRuntime*> Runtime() = 0;
  // See muster/leaving.h.
  virtual uint64_t AddOnLeaving(std::function<bool(const TaskInfo&)> save) = 0;
  virtual void RemoveOnLeaving(uint64_t number) = 0;
  // The task waits for others: its CPUs are lent out, what is queued behind it is given back.
  virtual void Block(bool blocked) = 0;
};

ExecutorContext* TheExecutor();  // Null in a process that is no executor.

// Ends the task that runs with a status; thrown by GetOrDie() in an executor, caught by it.
struct TaskEnds {
  absl::Status status;
};
// Ends the task that runs, which is run again elsewhere; thrown by LeaveNow().
struct TaskLeaves {};

}  // namespace muster::executor
