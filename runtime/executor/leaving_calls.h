// The calls that a task wants when it is told to leave; see muster/leaving.h.
// Thread-safety: all of it. The calls are made on a thread that lives for them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <thread>

#include "muster/task_info.h"
#include "runtime/base/mutex.h"

namespace muster::executor {

class LeavingCalls {
 public:
  using Call = std::function<bool(const TaskInfo&)>;

  // `leave` is called once every call has said that all is saved, while the task is still to leave.
  explicit LeavingCalls(std::function<void()> leave);
  ~LeavingCalls();  // Waits for a call that runs.
  LeavingCalls(const LeavingCalls&) = delete;
  LeavingCalls& operator=(const LeavingCalls&) = delete;

  uint64_t Add(Call call);
  void Remove(uint64_t number);  // Waits for its call where that runs on another thread.
  void Tell(TaskInfo told);
  void Withdraw();

 private:
  struct Entry {
    Call call;
    uint64_t heard = 0;  // The telling that it was called for last, and what it said.
    bool saved = false;
  };
  void Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void CallOne(uint64_t number, Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::function<void()> leave_;
  Mutex mutex_;
  CondVar called_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  std::optional<TaskInfo> told_ ABSL_GUARDED_BY(mutex_);
  uint64_t telling_ ABSL_GUARDED_BY(mutex_) = 0;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t in_call_ ABSL_GUARDED_BY(mutex_) = 0;
  bool in_leave_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t left_ ABSL_GUARDED_BY(mutex_) = 0;  // The telling that leave_ was called for.
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::executor
