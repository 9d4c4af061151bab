#include "tests/sim/sim_executor.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace muster::sim {
namespace {

// As in executor.cc.
constexpr absl::Duration kWatchInterval = absl::Milliseconds(10);
constexpr absl::Duration kOpenTimeout = absl::Seconds(30);
constexpr absl::Duration kFlushAfter = absl::Microseconds(500);
constexpr int kResultsPerFlush = 100;

bool Same(const v1::LeaseKey& a, const v1::LeaseKey& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

SimExecutor::SimExecutor(SimClock& clock, uint64_t number, std::string token_seed, Owner owner)
    : clock_(clock),
      number_(number),
      socket_(absl::StrCat("executor/", number)),
      token_seed_(std::move(token_seed)),
      owner_(std::move(owner)) {}

void SimExecutor::OnControl(const v1::WorkerToExecutor& message) {
  if (dead_) return;
  if (message.has_assign()) {
    Assign(message.assign());
  } else if (message.has_release() && connection_ == 0 && held_.has_value() &&
             Same(message.release().lease(), held_->lease())) {
    Release();
  }
}

void SimExecutor::Assign(const v1::AssignLease& assign) {
  held_ = assign;
  told_ = false;
  token_ = absl::StrCat(token_seed_, "/", ++assignments_);
  owner_.lease_changed();
  v1::ExecutorToWorker message;
  *message.mutable_assigned()->mutable_lease() = assign.lease();
  message.mutable_assigned()->set_unix_socket(socket_);
  message.mutable_assigned()->set_token(token_);
  owner_.to_worker(message);
  clock_.After(kOpenTimeout, [self = shared_from_this(), assignment = assignments_] {
    if (self->dead_ || self->assignments_ != assignment) return;
    if (self->held_.has_value() && self->connection_ == 0) self->Release();
  });
}

void SimExecutor::Release() {
  v1::ExecutorToWorker message;
  *message.mutable_released()->mutable_lease() = held_->lease();
  held_.reset();
  token_.clear();
  owner_.lease_changed();
  owner_.to_worker(message);
}

void SimExecutor::OnFrame(uint64_t connection, const v1::ToExecutor& message) {
  if (dead_) return;
  if (message.has_open()) {
    Open(connection, message.open());
    return;
  }
  if (connection != connection_) return;
  switch (message.what_case()) {
    case v1::ToExecutor::kPush:
      for (const v1::PushTask& task : message.push().tasks()) queue_.push_back(task);
      if (!running_.has_value()) StartNext();
      break;
    case v1::ToExecutor::kCancel:
      Cancel(message.cancel());
      break;
    case v1::ToExecutor::kClose:
      clean_close_ = true;
      break;
    case v1::ToExecutor::kDrain:
      told_ = !message.drain().withdrawn();
      if (told_ && running_.has_value()) owner_.told();
      break;
    default:
      break;
  }
}

void SimExecutor::Open(uint64_t connection, const v1::OpenLease& open) {
  const bool right = held_.has_value() && connection_ == 0 && open.token() == token_ &&
                     Same(open.lease(), held_->lease());
  v1::FromExecutor reply;
  reply.mutable_opened();
  if (!right) {
    v1::Status& refused = *reply.mutable_opened()->mutable_refused();
    refused.set_code(static_cast<int>(absl::StatusCode::kPermissionDenied));
    refused.set_message("the executor has no such lease");
  }
  owner_.to_driver(connection, reply);
  if (!right) {
    owner_.close_driver(connection);
    return;
  }
  connection_ = connection;
  clean_close_ = false;
}

void SimExecutor::OnClosed(uint64_t connection) {
  if (dead_ || connection != connection_) return;
  if (!clean_close_ || !queue_.empty() || running_.has_value()) {
    End();
    return;
  }
  connection_ = 0;
  results_.Clear();
  Release();
}

void SimExecutor::Cancel(const v1::CancelTask& cancel) {
  if (running_.has_value() && running_->sequence() == cancel.sequence()) {
    owner_.cancel(cancel.has_abort());
    return;
  }
  for (auto task = queue_.begin(); task != queue_.end(); ++task) {
    if (task->sequence() != cancel.sequence()) continue;
    v1::TaskResult& result = *results_.mutable_results()->add_results();
    result.set_sequence(cancel.sequence());
    result.set_code(static_cast<int>(absl::StatusCode::kCancelled));
    queue_.erase(task);
    if (!running_.has_value()) FlushResults();
    return;
  }
}

void SimExecutor::StartNext() {
  if (queue_.empty()) return;
  running_ = std::move(queue_.front());
  has_left_ = false;
  queue_.pop_front();
  started_ = clock_.now();
  ++runs_;
  if (!watching_) Watch();
  owner_.start(*running_);
}

void SimExecutor::FinishTask(uint64_t sequence, const absl::Status& status, std::string value) {
  if (dead_ || !running_.has_value() || running_->sequence() != sequence) return;
  running_.reset();
  if (has_left_) return StartNext();
  const absl::Duration ran = clock_.now() - started_;
  v1::TaskResult& result = *results_.mutable_results()->add_results();
  result.set_sequence(sequence);
  result.set_run_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(ran)));
  result.set_code(static_cast<int>(status.code()));
  result.set_message(std::string(status.message()));
  result.set_value(std::move(value));
  if (queue_.empty() || results_.results().results_size() >= kResultsPerFlush ||
      ran > kFlushAfter) {
    FlushResults();
  }
  StartNext();
}

void SimExecutor::Leave(bool from_aside) {
  v1::TaskResult& result = *results_.mutable_results()->add_results();
  result.set_sequence(running_->sequence());
  result.set_left(true);
  FlushResults();
  has_left_ = from_aside;
  if (from_aside) return;
  running_.reset();
  StartNext();
}

void SimExecutor::Block() {
  GiveBackQueued();
  FlushResults();
}

void SimExecutor::FlushResults() {
  if (results_.results().results_size() == 0) return;
  if (connection_ != 0) owner_.to_driver(connection_, results_);
  results_.Clear();
}

void SimExecutor::GiveBackQueued() {
  if (queue_.empty() || connection_ == 0) return;
  v1::FromExecutor message;
  for (const v1::PushTask& task : queue_)
    message.mutable_not_started()->add_sequences(task.sequence());
  queue_.clear();
  FlushResults();
  owner_.to_driver(connection_, message);
}

void SimExecutor::Watch() {
  watching_ = true;
  clock_.After(kWatchInterval, [self = shared_from_this(), runs = runs_] {
    self->watching_ = false;
    if (self->dead_ || !self->running_.has_value()) return;
    if (runs == self->runs_) {
      self->FlushResults();
      self->GiveBackQueued();
    }
    self->Watch();
  });
}

void SimExecutor::End() {
  if (dead_) return;
  dead_ = true;
  owner_.end();
}

}  // namespace muster::sim
