#include "runtime/executor/executor.h"

#include <cxxabi.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>
#include <thread>
#include <typeinfo>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "muster/v1/task.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/random.h"
#include "runtime/client/function_registry.h"
#include "runtime/executor/executor_context.h"
#include "runtime/executor/leaving_calls.h"
#include "runtime/executor/store_adapter.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/wire/protocol.h"

namespace muster::executor {
namespace {

constexpr absl::Duration kWatchInterval = absl::Milliseconds(10);
constexpr absl::Duration kOpenTimeout = absl::Seconds(30);
constexpr absl::Duration kFlushAfter = absl::Microseconds(500);
constexpr int kResultsPerFlush = 100;

// Everything of this process group: what tasks have started included.
[[noreturn]] void EndEverything() {
  fflush(stdout);
  kill(0, SIGKILL);
  _exit(1);
}

std::string TypeName(const std::exception& exception) {
  int status = 0;
  char* name = abi::__cxa_demangle(typeid(exception).name(), nullptr, nullptr, &status);
  std::string text = name == nullptr ? typeid(exception).name() : name;
  free(name);
  return text;
}

class RunningExecutor final : public ExecutorContext {
 public:
  explicit RunningExecutor(const ExecutorOptions& options)
      : options_(options),
        reactor_({.background_thread = true, .spin = absl::Microseconds(50)}),
        socket_name_(absl::StrCat("muster/", RandomHex(16))) {}

  [[noreturn]] void Run() {
    // Lines appear as they are written, and at the latest with the end of the task.
    setvbuf(stdout, nullptr, _IOLBF, 0);
    absl::StatusOr<int> listener = ListenUnixAbstract(socket_name_);
    control_ = FrameConnection::Adopt(reactor_, options_.control_fd);
    control_->set_frame_bytes_max(kFrameBytesMax);
    control_->Start([this](absl::string_view frame) { OnControl(frame); },
                    [](const absl::Status&) { EndEverything(); });  // The worker is gone.
    prctl(PR_SET_PDEATHSIG, 0);  // From here on the link above tells; this would spare the group.
    v1::ExecutorToWorker ready;
    if (!listener.ok()) {
      *ready.mutable_failed()->mutable_status() = ToProto(listener.status());
      control_->Send(ready);
    } else {
      reactor_.Add(*listener, EPOLLIN, [this, fd = *listener](uint32_t) { OnAccept(fd); });
      *ready.mutable_ready()->mutable_protocol() = OurProtocol();
      ready.mutable_ready()->set_build_id(client::MainImageBuildId());
      ready.mutable_ready()->set_pid(getpid());
      control_->Send(ready);
    }
    while (true) {
      reactor_.RunUntil([this] { return has_task_.load(std::memory_order_acquire); },
                        absl::InfiniteFuture(),
                        /*spin=*/leased_.load(std::memory_order_relaxed));
      std::optional<v1::PushTask> task = TakeTask();
      if (task.has_value()) RunTask(*task);
    }
  }

  // --- What tasks ask ---

  TaskInfo Task() override {
    MutexLock lock(&mutex_);
    TaskInfo info = info_;
    info.deadline = deadline_;
    info.leaving_because = leaving_because_;
    return info;
  }
  bool Cancelled() override { return cancelled_.load(std::memory_order_relaxed); }
  GroupInfo Group() override {
    MutexLock lock(&mutex_);
    return group_;
  }
  absl::Status StoreSet(const std::string& key, const std::string& value) override {
    absl::StatusOr<client::StorePlace> place = Place();
    if (!place.ok()) return place.status();
    absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
    if (!runtime.ok()) return runtime.status();
    return (*runtime)->StoreSet(*place, key, value);
  }
  absl::StatusOr<std::string> StoreGet(const std::string& key, absl::Duration timeout) override {
    absl::StatusOr<client::StorePlace> place = Place();
    if (!place.ok()) return place.status();
    absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
    if (!runtime.ok()) return runtime.status();
    return (*runtime)->StoreGet(*place, key, timeout);
  }
  uint64_t AddOnLeaving(std::function<bool(const TaskInfo&)> save) override {
    return leaving_calls_.Add(std::move(save));
  }
  void RemoveOnLeaving(uint64_t number) override { leaving_calls_.Remove(number); }
  Collectives& TheCollectives() override { return *collectives_; }
  Reactor& TheReactor() override { return reactor_; }

  absl::StatusOr<client::ClientRuntime*> Runtime() override {
    const std::lock_guard<std::mutex> lock(runtime_mutex_);
    if (runtime_ == nullptr) {
      client::RuntimeOptions runtime;
      runtime.address = options_.head_address;
      runtime.program = options_.program;
      runtime.binary = options_.binary;
      runtime.reconnect_timeout = options_.reconnect_timeout;
      runtime.connect_timeout = options_.reconnect_timeout;
      runtime.nested = true;
      {
        MutexLock state_lock(&mutex_);
        runtime.job = job_;
      }
      absl::StatusOr<std::unique_ptr<client::ClientRuntime>> connected =
          client::ClientRuntime::Connect(reactor_, runtime);
      if (!connected.ok()) return connected.status();
      runtime_ = *std::move(connected);
      client::SetTheRuntime(runtime_.get());
    }
    return runtime_.get();
  }

  void Block(bool blocked) override {
    v1::LeaseKey lease;
    {
      MutexLock lock(&mutex_);
      if (blocked) GiveBackQueued();
      FlushResults();
      lease = lease_;
    }
    const std::lock_guard<std::mutex> lock(runtime_mutex_);
    if (runtime_ != nullptr) runtime_->TaskWaits(lease, blocked);
  }

 private:
  // --- The worker's orders ---

  void OnControl(absl::string_view frame) {
    v1::WorkerToExecutor message;
    if (!message.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) EndEverything();
    MutexLock lock(&mutex_);
    if (message.has_assign()) {
      Assign(message.assign());
    } else if (message.has_release() && driver_ == nullptr &&
               message.release().lease().SerializeAsString() == lease_.SerializeAsString()) {
      ReleaseLease();
    }
  }

  void Assign(const v1::AssignLease& assign) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    lease_ = assign.lease();
    has_lease_ = true;
    token_ = RandomHex(16);
    job_ = assign.job();
    deadline_.reset();
    leaving_because_.clear();
    leaving_calls_.Withdraw();
    info_ = TaskInfo{};
    info_.node = assign.node();
    info_.choice = static_cast<int>(assign.placement().choice());
    for (const v1::Entry& label : assign.labels()) info_.labels[label.key()] = label.value();
    info_.gpu_ids.assign(assign.gpu_ids().begin(), assign.gpu_ids().end());
    // Before any code of a task runs; an executor that gets devices has held none before.
    setenv("CUDA_VISIBLE_DEVICES", absl::StrJoin(assign.gpu_ids(), ",").c_str(), 1);
    v1::ExecutorToWorker message;
    v1::LeaseAssigned& assigned = *message.mutable_assigned();
    *assigned.mutable_lease() = lease_;
    assigned.set_unix_socket(socket_name_);
    assigned.set_token(token_);
    if (assign.listen_tcp() || getenv("MUSTER_EXECUTOR_TCP") != nullptr) {
      absl::Status listening = ListenTcpOnce();
      if (!listening.ok()) {
        v1::ExecutorToWorker failed;
        *failed.mutable_failed()->mutable_status() = ToProto(listening);
        control_->Send(failed);
        return;
      }
      assigned.set_tcp_address(absl::StrCat(assign.host(), ":", tcp_port_));
    }
    control_->Send(message);
    open_timer_ = reactor_.At(MonotonicNow() + kOpenTimeout, [this] {
      MutexLock timer_lock(&mutex_);
      if (has_lease_ && driver_ == nullptr) ReleaseLease();  // Its driver never came.
    });
  }

  absl::Status ListenTcpOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (tcp_port_ != 0) return absl::OkStatus();
    absl::StatusOr<TcpListener> listener = ListenTcp("0.0.0.0", 0);
    if (!listener.ok()) return listener.status();
    tcp_port_ = listener->port;
    reactor_.Add(listener->fd, EPOLLIN, [this, fd = listener->fd](uint32_t) { OnAccept(fd); });
    return absl::OkStatus();
  }

  void ReleaseLease() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    reactor_.CancelTimer(open_timer_);
    v1::ExecutorToWorker message;
    *message.mutable_released()->mutable_lease() = lease_;
    control_->Send(message);
    has_lease_ = false;
    leased_ = false;
    token_.clear();
  }

  // --- The driver ---

  void OnAccept(int listener) {
    while (true) {
      absl::StatusOr<int> fd = AcceptFrom(listener);
      if (absl::IsUnavailable(fd.status())) return;
      if (!fd.ok()) {
        Log(LogLevel::kWarning, "refused a connection: ", fd.status().message());
        continue;
      }
      // Kept alive by its own callbacks until it says who it is.
      std::shared_ptr<FrameConnection> connection = FrameConnection::Adopt(reactor_, *fd);
      MutexLock lock(&mutex_);
      const uint64_t number = ++last_connection_;
      strangers_[number] = connection;
      while (strangers_.size() > 16) strangers_.erase(strangers_.begin());
      connection->Start([this, number](absl::string_view frame) { OnFrame(number, frame); },
                        [this, number](const absl::Status& why) { OnClosed(number, why); });
    }
  }

  void OnFrame(uint64_t number, absl::string_view frame) {
    v1::ToExecutor message;
    const bool parsed = message.ParseFromArray(frame.data(), static_cast<int>(frame.size()));
    MutexLock lock(&mutex_);
    if (const auto stranger = strangers_.find(number); stranger != strangers_.end()) {
      const std::shared_ptr<FrameConnection> connection = stranger->second;
      strangers_.erase(stranger);
      if (parsed && message.has_open()) {
        Open(number, connection, message.open());
      } else {
        Log(LogLevel::kWarning, "closed a connection whose first frame was no greeting");
        connection->Close();
      }
      return;
    }
    if (number != driver_number_) return;
    if (!parsed) {
      Log(LogLevel::kWarning, "the driver sent something that is no message");
      EndEverything();
    }
    switch (message.what_case()) {
      case v1::ToExecutor::kPush:
        for (v1::PushTask& task : *message.mutable_push()->mutable_tasks())
          queue_.push_back(std::move(task));
        has_task_.store(!queue_.empty(), std::memory_order_release);
        break;
      case v1::ToExecutor::kCancel:
        Cancel(message.cancel());
        break;
      case v1::ToExecutor::kClose:
        clean_close_ = true;
        break;
      case v1::ToExecutor::kDrain:
        OnDrain(message.drain());
        break;
      default:
        break;
    }
  }

  void Open(uint64_t number, const std::shared_ptr<FrameConnection>& connection,
            const v1::OpenLease& open) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    absl::Status status = CheckProtocol(open.protocol(), "the executor");
    const bool right = has_lease_ && driver_ == nullptr && open.token() == token_ &&
                       open.lease().SerializeAsString() == lease_.SerializeAsString();
    if (status.ok() && !right)
      status = absl::PermissionDeniedError("the executor has no such lease");
    v1::FromExecutor reply;
    *reply.mutable_opened()->mutable_refused() = ToProto(status);
    connection->Send(reply);
    if (!status.ok()) {
      Log(LogLevel::kWarning, "refused a driver: ", status.message());
      connection->CloseAfterFlush();
      return;
    }
    connection->set_frame_bytes_max(kFrameBytesMax);
    reactor_.CancelTimer(open_timer_);
    driver_ = connection;
    driver_number_ = number;
    clean_close_ = false;
    leased_ = true;
    last_name_.clear();
  }

  void OnClosed(uint64_t number, const absl::Status&) {
    MutexLock lock(&mutex_);
    strangers_.erase(number);
    if (number != driver_number_ || driver_ == nullptr) return;
    if (!clean_close_ || !queue_.empty())
      EndEverything();  // The driver is gone, or gave the lease up.
    driver_ = nullptr;
    driver_number_ = 0;
    if (running_) {
      EndEverything();  // Nobody wants what runs.
    }
    ReleaseLease();
  }

  void OnDrain(const v1::DrainNotice& drain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    deadline_.reset();
    leaving_because_.clear();
    if (drain.withdrawn()) return leaving_calls_.Withdraw();
    if (drain.deadline_in_ns() > 0) {
      deadline_ = absl::Now() + absl::Nanoseconds(drain.deadline_in_ns());
    }
    leaving_because_ = drain.reason().empty() ? "draining" : drain.reason();
    if (!drain.why().empty()) absl::StrAppend(&leaving_because_, ": ", drain.why());
    TaskInfo told = info_;
    told.deadline = deadline_;
    told.leaving_because = leaving_because_;
    leaving_calls_.Tell(std::move(told));
  }

  // Its driver closes the connection then, and what still runs here ends with it.
  void LeaveFromAside() {
    MutexLock lock(&mutex_);
    if (!running_ || has_left_ || driver_ == nullptr) return;
    has_left_ = true;
    v1::TaskResult& result = *results_.mutable_results()->add_results();
    result.set_sequence(running_sequence_);
    result.set_left(true);
    FlushResults();
  }

  void Cancel(const v1::CancelTask& cancel) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (running_ && running_sequence_ == cancel.sequence()) {
      cancelled_ = true;
      if (cancel.has_abort()) AbortRank(FromProto(cancel.abort()));
      return;
    }
    for (auto task = queue_.begin(); task != queue_.end(); ++task) {
      if (task->sequence() != cancel.sequence()) continue;
      v1::TaskResult& result = *results_.mutable_results()->add_results();
      result.set_sequence(cancel.sequence());
      result.set_code(static_cast<int>(absl::StatusCode::kCancelled));
      queue_.erase(task);
      has_task_.store(!queue_.empty(), std::memory_order_release);
      if (!running_) FlushResults();
      return;
    }
  }

  void AbortRank(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    client::ClientRuntime* runtime = client::TheRuntime();
    if (place_.has_value() && runtime != nullptr) runtime->AbortStore(*place_, status);
    // On a thread of its own: it waits for the rank's other threads, which may want our mutex.
    std::thread([collectives = *collectives_, why = std::string(status.message())]() mutable {
      collectives.Abort(why);
    }).detach();
  }

  // --- Tasks ---

  std::optional<v1::PushTask> TakeTask() {
    MutexLock lock(&mutex_);
    if (queue_.empty()) {
      has_task_ = false;
      return std::nullopt;
    }
    v1::PushTask task = std::move(queue_.front());
    queue_.pop_front();
    has_task_.store(!queue_.empty(), std::memory_order_release);
    running_ = true;
    has_left_ = false;
    ++runs_;
    running_sequence_ = task.sequence();
    cancelled_ = false;
    if (task.name().empty()) {
      task.set_name(last_name_);
    } else {
      last_name_ = task.name();
    }
    info_.task_id = task.task_id();
    info_.attempt = static_cast<int>(task.attempt());
    if (task.has_group()) {
      place_ = client::StorePlace{task.group().group(), task.group().generation()};
      group_.rank = static_cast<int>(task.group().rank());
      group_.size = static_cast<int>(task.group().size());
      group_.generation = static_cast<int>(task.group().generation());
      collectives_ = MakeCollectives(*this, group_, info_.node);
    } else {
      place_.reset();
      group_ = GroupInfo{};
      collectives_ = std::make_unique<Collectives>();
    }
    if (!watching_) Watch();
    return task;
  }

  void RunTask(const v1::PushTask& task) {
    MarkOutput(task.name());
    const absl::Time start = MonotonicNow();
    std::string value;
    bool leaves = false;
    absl::Status status = Invoke(task, value, leaves);
    const absl::Duration ran = MonotonicNow() - start;
    if (__fpending(stdout) > 0) fflush(stdout);
    std::cout.flush();
    std::unique_ptr<Collectives> collectives;
    {
      MutexLock lock(&mutex_);
      collectives = std::move(collectives_);
      collectives_ = std::make_unique<Collectives>();
    }
    collectives.reset();  // May wait a little for the other ranks'.
    MutexLock lock(&mutex_);
    running_ = false;
    if (has_left_) return;  // Said already.
    if (leaves && leaving_because_.empty()) {
      leaves = false;
      status = absl::FailedPreconditionError(
          absl::StrCat(task.name(), " called LeaveNow(), but nobody has told it to leave"));
    }
    v1::TaskResult& result = *results_.mutable_results()->add_results();
    result.set_sequence(task.sequence());
    result.set_left(leaves);
    result.set_run_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(ran)));
    if (status.ok()) {
      result.set_value(std::move(value));
    } else {
      result.set_code(static_cast<int>(status.code()));
      result.set_message(ToUtf8(status.message()));
    }
    if (queue_.empty() || results_.results().results_size() >= kResultsPerFlush ||
        ran > kFlushAfter || result.value().size() > 64 * 1024) {
      FlushResults();
    }
  }

  absl::Status Invoke(const v1::PushTask& task, std::string& value, bool& leaves) {
    const std::string& name = task.name();
    absl::StatusOr<internal::Function> function = client::FindFunction(task.function());
    if (!function.ok()) return function.status();
    const std::vector<std::string_view> arguments(task.arguments().begin(), task.arguments().end());
    try {
      return function->invoker(arguments, value);
    } catch (const TaskEnds& ends) {
      return ends.status;
    } catch (const TaskLeaves&) {
      leaves = true;
      return absl::OkStatus();
    } catch (const std::exception& exception) {
      return absl::UnknownError(
          absl::StrCat(name, " threw ", TypeName(exception), ": ", exception.what()));
    } catch (...) {
      return absl::UnknownError(absl::StrCat(name, " threw something that is no std::exception"));
    }
  }

  // The worker splits our output by these; see output_lines.h.
  void MarkOutput(const std::string& name) {
    if (name == marked_name_) return;
    marked_name_ = name;
    fflush(stdout);
    const std::string mark = absl::StrCat("\x1e", name, "\n");
    for (int fd : {1, 2}) {
      if (write(fd, mark.data(), mark.size()) < 0) return;
    }
  }

  void FlushResults() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (results_.results().results_size() == 0) return;
    if (driver_ != nullptr) driver_->Send(results_);
    results_.mutable_results()->clear_results();
  }

  void GiveBackQueued() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (queue_.empty() || driver_ == nullptr) return;
    v1::FromExecutor message;
    for (const v1::PushTask& task : queue_)
      message.mutable_not_started()->add_sequences(task.sequence());
    queue_.clear();
    has_task_ = false;
    FlushResults();  // In the order of the tasks.
    driver_->Send(message);
  }

  // Every few milliseconds while tasks run: one that has run since the last look holds up what is
  // behind it.
  void Watch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    watching_ = true;
    reactor_.At(MonotonicNow() + kWatchInterval, [this, runs = runs_] {
      MutexLock lock(&mutex_);
      watching_ = false;
      if (!running_) return;
      if (runs == runs_) {
        FlushResults();
        GiveBackQueued();
      }
      Watch();
    });
  }

  absl::StatusOr<client::StorePlace> Place() {
    MutexLock lock(&mutex_);
    if (!place_.has_value())
      return absl::FailedPreconditionError(
          "the store is for the ranks of a group: this task is none");
    return *place_;
  }

  const ExecutorOptions options_;
  Reactor reactor_;
  const std::string socket_name_;
  std::shared_ptr<FrameConnection> control_;
  std::string marked_name_;  // The main thread's.
  std::atomic<bool> has_task_{false};
  std::atomic<bool> leased_{false};
  std::atomic<bool> cancelled_{false};

  std::mutex runtime_mutex_;
  std::unique_ptr<client::ClientRuntime> runtime_;

  Mutex mutex_;
  v1::LeaseKey lease_ ABSL_GUARDED_BY(mutex_);
  bool has_lease_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t job_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string token_ ABSL_GUARDED_BY(mutex_);
  uint64_t open_timer_ ABSL_GUARDED_BY(mutex_) = 0;
  int tcp_port_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_connection_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<FrameConnection>> strangers_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<FrameConnection> driver_ ABSL_GUARDED_BY(mutex_);
  uint64_t driver_number_ ABSL_GUARDED_BY(mutex_) = 0;
  bool clean_close_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<v1::PushTask> queue_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool watching_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t runs_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t running_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_name_ ABSL_GUARDED_BY(mutex_);
  TaskInfo info_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Time> deadline_ ABSL_GUARDED_BY(mutex_);
  std::string leaving_because_ ABSL_GUARDED_BY(mutex_);
  bool has_left_ ABSL_GUARDED_BY(mutex_) = false;  // The running task, as its calls said.
  LeavingCalls leaving_calls_{[this] { LeaveFromAside(); }};
  GroupInfo group_ ABSL_GUARDED_BY(mutex_);
  std::optional<client::StorePlace> place_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Collectives> collectives_ ABSL_GUARDED_BY(mutex_) =
      std::make_unique<Collectives>();
  v1::FromExecutor results_ ABSL_GUARDED_BY(mutex_);
};

ExecutorContext* the_executor = nullptr;

}  // namespace

ExecutorContext* TheExecutor() { return the_executor; }

bool IsExecutor() {
  const char* role = getenv("MUSTER_ROLE");
  return role != nullptr && std::string(role) == "executor";
}

void Serve(const ExecutorOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  // What tasks start themselves is no executor.
  unsetenv("MUSTER_ROLE");
  unsetenv("MUSTER_CONTROL_FD");
  auto* executor = new RunningExecutor(options);  // For as long as the process lives.
  the_executor = executor;
  executor->Run();
}

}  // namespace muster::executor
