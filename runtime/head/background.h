// A thread for what takes long and is in nobody's way: one job after the other.
//
// Thread-safety: Do() and Stop() by one thread.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "runtime/base/mutex.h"

namespace muster::head {

class Background {
 public:
  ~Background() { Stop(); }

  void Do(std::function<void()> job) {
    {
      MutexLock lock(&mutex_);
      if (stop_) return;
      jobs_.push_back(std::move(job));
      changed_.SignalAll();
    }
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  }

  // Ends the job at hand and drops the others.
  void Stop() {
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      changed_.SignalAll();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> job;
      {
        MutexLock lock(&mutex_);
        while (jobs_.empty() && !stop_) changed_.Wait(&mutex_);
        if (stop_) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
  }

  std::thread thread_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster::head
