#include "runtime/executor/leaving_calls.h"

#include <utility>

namespace muster::executor {
namespace {

thread_local bool on_calling_thread = false;

}  // namespace

LeavingCalls::LeavingCalls(std::function<void()> leave) : leave_(std::move(leave)) {}

LeavingCalls::~LeavingCalls() {
  Withdraw();
  if (thread_.joinable()) thread_.join();
}

uint64_t LeavingCalls::Add(Call call) {
  MutexLock lock(&mutex_);
  const uint64_t number = next_++;
  entries_.emplace(number, Entry{.call = std::move(call)});
  if (told_.has_value()) Begin();
  return number;
}

void LeavingCalls::Remove(uint64_t number) {
  MutexLock lock(&mutex_);
  // Nor may its task end, and another begin, between what it said and what follows from it.
  while ((in_call_ == number || in_leave_) && !on_calling_thread) called_.Wait(&mutex_);
  entries_.erase(number);
}

void LeavingCalls::Tell(TaskInfo told) {
  MutexLock lock(&mutex_);
  if (!told_.has_value()) ++telling_;  // Else it is the deadline or the reason that is another.
  told_ = std::move(told);
  Begin();
}

void LeavingCalls::Withdraw() {
  MutexLock lock(&mutex_);
  told_.reset();
}

void LeavingCalls::Begin() {
  if (running_ || entries_.empty()) return;
  running_ = true;
  if (thread_.joinable()) thread_.join();  // It has nothing left to do.
  thread_ = std::thread([this] { Run(); });
}

void LeavingCalls::Run() {
  on_calling_thread = true;
  MutexLock lock(&mutex_);
  while (told_.has_value()) {
    auto next = entries_.begin();
    while (next != entries_.end() && next->second.heard == telling_) ++next;
    if (next != entries_.end()) {
      CallOne(next->first, next->second);
      continue;
    }
    bool all_saved = !entries_.empty() && left_ != telling_;
    for (const auto& [number, entry] : entries_) all_saved = all_saved && entry.saved;
    if (!all_saved) break;
    left_ = telling_;
    in_leave_ = true;
    mutex_.Unlock();
    leave_();
    mutex_.Lock();
    in_leave_ = false;
    called_.SignalAll();
  }
  running_ = false;
}

void LeavingCalls::CallOne(uint64_t number, Entry& entry) {
  entry.heard = telling_;
  entry.saved = false;
  const Call call = entry.call;
  const TaskInfo told = *told_;
  in_call_ = number;
  mutex_.Unlock();
  const bool saved = call(told);
  mutex_.Lock();
  in_call_ = 0;
  if (const auto still = entries_.find(number); still != entries_.end()) {
    still->second.saved = saved;
  }
  called_.SignalAll();
}

}  // namespace muster::executor
