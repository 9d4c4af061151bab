// What a task does when it is told to leave: its node goes away, its GPU is broken, others need
// what it holds, or a choice that it asked for first has room (GroupOptions::return_to_preferred).
// CurrentTask() says so too: leaving_because, and by when.
//
// A task that does nothing is killed at the deadline, and run again from its start, elsewhere; that
// costs no retry and no restart. One that saves its work can end at once and go on from there:
//
//   float Train(std::string folder) {
//     Model model = Load(folder);
//     while (!model.done()) {
//       model.Step();
//       if (!muster::CurrentTask().leaving_because.empty()) {
//         model.Save(folder);
//         muster::LeaveNow();  // Is run again elsewhere.
//       }
//     }
//     return model.loss();
//   }
//
// Of a group, each rank that is told leaves by itself. The others that are told have until their
// deadline; those that are not are aborted, as where a rank dies.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "muster/internal/runtime.h"
#include "muster/task_info.h"

namespace muster {

// Ends the calling task, which is run again from its start. For a task that was told to leave; of
// one that was not it is an error (kFailedPrecondition). Thrown through the task's frames as an
// exception of the library's own: call it on the task's thread, and let it pass. Outside of a task
// it ends the program.
[[noreturn]] inline void LeaveNow() { internal::LeaveNow(); }

// While it lives, `save` is called once the task is told to leave, on a thread of its own, with
// what CurrentTask() says then: at once where that was so before. True: all is saved, and the task
// is ended where it is (its process is) and run again elsewhere. False: it ends by itself.
// Told to stay and to leave again, `save` is called again. Of several, all are called, the oldest
// first, and all must say true. The destructor waits for a call that runs, so `save` may use what
// outlives this. In a driver it is never called.
class [[nodiscard]] OnLeaving {
 public:
  explicit OnLeaving(std::function<bool(const TaskInfo&)> save)
      : number_(internal::AddOnLeaving(std::move(save))) {}
  ~OnLeaving() { internal::RemoveOnLeaving(number_); }
  OnLeaving(const OnLeaving&) = delete;
  OnLeaving& operator=(const OnLeaving&) = delete;

 private:
  const uint64_t number_;
};

}  // namespace muster
