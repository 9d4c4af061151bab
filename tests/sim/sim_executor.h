// A model of an executor process, written from what runtime/executor/executor.cc does: it takes
// leases from its worker, tasks from its driver, runs one at a time, sends results in batches and
// gives back what a long task holds up. It ends where its driver's connection ends without
// CloseLease, or its worker is gone. What a task does and how long it takes is the owner's matter.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "muster/v1/task.pb.h"
#include "tests/sim/sim_clock.h"

namespace muster::sim {

class SimExecutor : public std::enable_shared_from_this<SimExecutor> {
 public:
  struct Owner {
    std::function<void(const v1::ExecutorToWorker&)> to_worker;
    std::function<void(uint64_t connection, const v1::FromExecutor&)> to_driver;
    std::function<void(uint64_t connection)> close_driver;  // After what was sent.
    std::function<void(const v1::PushTask&)> start;         // Ends by FinishTask().
    std::function<void(bool aborted)> cancel;               // Of the running task.
    std::function<void()> told;                             // The running one is to leave.
    std::function<void()> lease_changed;                    // held() is another one.
    std::function<void()> end;                              // The process ends by itself.
  };

  SimExecutor(SimClock& clock, uint64_t number, std::string token_seed, Owner owner);

  // The worker's order, or a driver's frame.
  void OnControl(const v1::WorkerToExecutor& message);
  void OnFrame(uint64_t connection, const v1::ToExecutor& message);
  void OnClosed(uint64_t connection);  // The driver's side is gone.

  void FinishTask(uint64_t sequence, const absl::Status& status, std::string value);
  // The running task has saved: by itself, or by a call of its from aside, which leaves it running
  // until the driver closes.
  void Leave(bool from_aside);
  bool told() const { return told_; }
  bool has_left() const { return has_left_; }
  void Block();                 // The running task waits for others: what is queued is given back.
  void Die() { dead_ = true; }  // Nothing happens any more.

  uint64_t number() const { return number_; }
  bool dead() const { return dead_; }
  const std::string& socket() const { return socket_; }
  const std::optional<v1::AssignLease>& held() const { return held_; }
  const std::optional<v1::PushTask>& running() const { return running_; }
  uint64_t runs() const { return runs_; }  // Tasks started so far.
  uint64_t driver_connection() const { return connection_; }

 private:
  void Assign(const v1::AssignLease& assign);
  void Release();
  void Open(uint64_t connection, const v1::OpenLease& open);
  void Cancel(const v1::CancelTask& cancel);
  void StartNext();
  void Watch();
  void FlushResults();
  void GiveBackQueued();
  void End();

  SimClock& clock_;
  const uint64_t number_;
  const std::string socket_;
  const std::string token_seed_;
  const Owner owner_;
  bool dead_ = false;
  uint64_t assignments_ = 0;
  std::optional<v1::AssignLease> held_;
  std::string token_;
  uint64_t connection_ = 0;  // Of its driver; 0: none.
  bool clean_close_ = false;
  std::deque<v1::PushTask> queue_;
  std::optional<v1::PushTask> running_;
  absl::Time started_{};
  uint64_t runs_ = 0;
  bool watching_ = false;
  bool told_ = false;      // This lease is to leave.
  bool has_left_ = false;  // The running task, from aside.
  v1::FromExecutor results_;
};

}  // namespace muster::sim
