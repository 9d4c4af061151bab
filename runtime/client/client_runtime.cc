#include "runtime/client/client_runtime.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/host_id.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/random.h"
#include "runtime/client/driver_core.h"
#include "runtime/client/function_registry.h"
#include "runtime/client/object.h"
#include "runtime/client/placement_group.h"
#include "runtime/client/request_spec.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/protocol.h"

namespace muster::client {
namespace {

using internal::Object;
using internal::ObjectHandle;

constexpr absl::Duration kTickAtLeast = absl::Milliseconds(10);
constexpr absl::Duration kTickAtMost = absl::Milliseconds(100);
constexpr size_t kClassCacheMax = 64;

// What a Step() wants done once the mutex is free: lines for the user, uploads.
struct Afterwards {
  std::vector<v1::LogLines> output;
  std::vector<std::string> prints;
  bool upload = false;
};

class RunningRuntime final : public ClientRuntime {
 public:
  RunningRuntime(Reactor& reactor, const RuntimeOptions& options)
      : reactor_(reactor), options_(options), host_id_(HostId()) {
    DriverConfig config;
    config.driver = RandomId();
    config.address = options.address;
    config.start = MonotonicNow();
    config.reconnect_timeout = options.reconnect_timeout;
    *config.hello.mutable_protocol() = OurProtocol();
    config.hello.set_name(options.program);
    config.hello.set_pid(getpid());
    config.hello.set_host_id(host_id_);
    config.hello.set_job(options.job == 0 ? config.driver : options.job);
    *config.hello.mutable_binary() = options.binary;
    config.hello.set_tenant(options.tenant);
    config.hello.set_job_name(options.job_name);
    if (options.nested) config.hello.mutable_parent();
    core_ = std::make_unique<DriverCore>(std::move(config));
    const char* transport = getenv("MUSTER_TRANSPORT");
    force_tcp_ = transport != nullptr && std::string(transport) == "tcp";
  }

  ~RunningRuntime() override { Shutdown(); }

  absl::Status Open() {
    DriverLink::Callbacks callbacks;
    callbacks.on_up = [this] { Do(HeadUp{}); };
    callbacks.on_batch = [this](v1::ToDriverBatch batch) { OnBatch(std::move(batch)); };
    callbacks.on_down = [this](const absl::Status& why) {
      {
        MutexLock lock(&mutex_);
        last_down_ = why;
      }
      Do(HeadDown{std::string(why.message())});
    };
    link_ = ConnectDriver(options_.address, std::move(callbacks));
    const absl::Time deadline = MonotonicNow() + options_.connect_timeout;
    reactor_.RunUntil([this] { return welcomed_.load() || refused_.load(); }, deadline);
    MutexLock lock(&mutex_);
    if (welcomed_) return absl::OkStatus();
    if (refused_) return refusal_;
    return absl::UnavailableError(absl::StrCat(
        last_down_.ok() ? absl::StrCat("no muster head at ", options_.address, ": no answer")
                        : last_down_.message(),
        " (tried for ", absl::FormatDuration(options_.connect_timeout),
        "). Start one with: muster head"));
  }

  // --- Tasks ---

  ObjectHandle Submit(internal::Call call, const TaskOptions& options) override {
    const std::optional<uint64_t> function = KeyOf(call.invoker);
    auto object = std::make_shared<Object>();
    object->name = options.name.empty() ? std::move(call.name) : ToUtf8(options.name);
    if (!function.has_value()) {
      return Fail(std::move(object),
                  absl::InternalError("the function is not registered in this program"));
    }
    MutexLock lock(&mutex_);
    if (down_)
      return Fail(std::move(object),
                  absl::FailedPreconditionError("muster::Shutdown() was called before"));
    if (absl::Status group = StatusOf(options.placement_group); !group.ok()) {
      return Fail(std::move(object), group);
    }
    absl::StatusOr<ClassNumber> task_class = ClassOf(options, object->name);
    if (!task_class.ok()) return Fail(std::move(object), task_class.status());
    struct Submit event;
    event.task_class = *task_class;
    event.max_retries = options.max_retries;
    event.timeout = options.timeout;
    if (!FillCall(call, *function, *object, event.call)) return object;
    event.task = object->task = ++last_task_;
    event.cookie = object;
    Step(std::move(event));
    return object;
  }

  ObjectHandle SubmitGroup(internal::Call call, const GroupOptions& options) override {
    const std::optional<uint64_t> function = KeyOf(call.invoker);
    auto object = std::make_shared<Object>();
    object->name = !options.name.empty()            ? options.name
                   : !options.per_rank.name.empty() ? options.per_rank.name
                                                    : std::move(call.name);
    if (!function.has_value()) {
      return Fail(std::move(object),
                  absl::InternalError("the function is not registered in this program"));
    }
    if (options.max_restarts < -1) {
      return Fail(std::move(object), absl::InvalidArgumentError(
                                         absl::StrCat("max_restarts is ", options.max_restarts,
                                                      "; allowed: 0 or more, or -1 for no end")));
    }
    absl::StatusOr<v1::RequestSpec> spec = MakeRequestSpec(
        options.per_rank, options.ranks, options.strategy, options.return_to_preferred);
    if (!spec.ok()) return Fail(std::move(object), spec.status());
    spec->set_name(object->name);
    MutexLock lock(&mutex_);
    if (down_)
      return Fail(std::move(object),
                  absl::FailedPreconditionError("muster::Shutdown() was called before"));
    if (absl::Status group = StatusOf(options.per_rank.placement_group); !group.ok()) {
      return Fail(std::move(object), group);
    }
    struct SubmitGroup event;
    event.spec = *std::move(spec);
    event.max_restarts = options.max_restarts;
    event.timeout = options.per_rank.timeout;
    if (!FillCall(call, *function, *object, event.call)) return object;
    event.task = object->task = ++last_task_;
    event.cookie = object;
    Step(std::move(event));
    return object;
  }

  // --- Placement groups ---

  std::shared_ptr<internal::PlacementGroupState> CreateGroup(
      const PlacementGroupOptions& options) override {
    auto state = std::make_shared<internal::PlacementGroupState>();
    state->name = options.name;
    absl::StatusOr<v1::RequestSpec> spec = MakeGroupSpec(options);
    MutexLock lock(&mutex_);
    if (down_) {
      spec = absl::FailedPreconditionError("muster::Shutdown() was called before");
    }
    if (!spec.ok()) {
      MutexLock state_lock(&state->mutex);
      state->status = absl::Status(
          spec.status().code(),
          absl::StrCat("placement group ", options.name, ": ", spec.status().message()));
      return state;
    }
    state->number = ++last_task_;
    state->request = core_->NewRequest();
    struct CreateGroup event;
    event.group = state->number;
    event.request = state->request;
    event.spec = *std::move(spec);
    event.cookie = state;
    Step(std::move(event));
    return state;
  }

  absl::Status WaitForGroup(internal::PlacementGroupState& group, absl::Duration timeout) override {
    const auto done = [&] {
      MutexLock lock(&group.mutex);
      return group.placed || !group.status.ok();
    };
    const absl::Time deadline =
        timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : MonotonicNow() + timeout;
    if (!reactor_.RunUntil(done, deadline)) {
      return absl::DeadlineExceededError(absl::StrCat("placement group ", group.name,
                                                      " has no room yet after ",
                                                      absl::FormatDuration(timeout)));
    }
    MutexLock lock(&group.mutex);
    return group.status;
  }

  void RemoveGroup(internal::PlacementGroupState& group) override {
    Do(client::RemoveGroup{group.request});
  }

  absl::Status Cancel(const ObjectHandle& object, bool force) override {
    if (object->ready.load(std::memory_order_acquire))
      return absl::OkStatus();  // Too late; nothing to stop.
    Do(CancelAsked{object->task, force});
    return absl::OkStatus();
  }

  std::string TaskIdOf(uint64_t task) override {
    MutexLock lock(&mutex_);
    return core_->TaskIdOf(task);
  }

  void TaskWaits(const v1::LeaseKey& lease, bool waits) override {
    Do(client::TaskWaits{waits, lease});
  }

  // --- The group's store ---

  absl::Status StoreSet(const StorePlace& place, const std::string& key,
                        const std::string& value) override {
    v1::StoreOperation operation;
    operation.set_key(key);
    operation.set_value(value);
    return RunOperation(place, std::move(operation), options_.reconnect_timeout).status();
  }

  absl::StatusOr<std::string> StoreGet(const StorePlace& place, const std::string& key,
                                       absl::Duration timeout) override {
    v1::StoreOperation operation;
    operation.set_key(key);
    absl::StatusOr<std::string> value = RunOperation(place, std::move(operation), timeout);
    if (absl::IsDeadlineExceeded(value.status())) {
      return absl::DeadlineExceededError(absl::StrCat("store key \"", key, "\" was not set within ",
                                                      absl::FormatDuration(timeout)));
    }
    return value;
  }

  void AbortStore(const StorePlace& place, const absl::Status& status) override {
    {
      MutexLock lock(&mutex_);
      aborted_group_ = place.group;
      aborted_generation_ = place.generation;
      aborted_ = status;
      for (auto& [id, pending] : operations_) {
        if (pending.operation.group() != place.group || pending.answer.has_value()) continue;
        pending.answer.emplace();
        *pending.answer->mutable_status() = ToProto(status);
      }
    }
    reactor_.Wake();
  }

  // --- The end ---

  void Shutdown() override {
    uint64_t flush = 0;
    {
      MutexLock lock(&mutex_);
      if (down_) return;
      down_ = true;
      if (link_ != nullptr && had_lease_ && !options_.nested && welcomed_) {
        flush = ++last_flush_;
        v1::DriverMessage message;
        message.mutable_flush_logs()->set_sequence(flush);
        link_->Send(std::move(message));
      }
    }
    if (flush != 0) {
      reactor_.RunUntil([&] { return flushed_.load() >= flush; },
                        MonotonicNow() + absl::Seconds(2));
    }
    {
      MutexLock lock(&mutex_);
      if (timer_ != 0) reactor_.CancelTimer(timer_);
      for (auto& [number, connection] : connections_) connection->Close();
      connections_.clear();
      v1::DriverMessage message;
      message.mutable_goodbye();
      if (link_ != nullptr) link_->Send(std::move(message));
    }
    if (link_ != nullptr) link_->Stop(absl::Seconds(1));
    for (std::thread& uploader : uploaders_) uploader.join();
    uploaders_.clear();
  }

 private:
  // Not OK: the group that something is to run in is over.
  static absl::Status StatusOf(const muster::PlacementGroup& placement_group) {
    if (!placement_group) return absl::OkStatus();
    internal::PlacementGroupState& group = *placement_group.state();
    MutexLock lock(&group.mutex);
    return group.status;
  }

  // Before anyone else knows the object.
  static void SetError(Object& object, absl::Status status) {
    object.status = std::move(status);
    object.ready.store(true, std::memory_order_release);
  }
  static ObjectHandle Fail(std::shared_ptr<Object> object, const absl::Status& status) {
    SetError(*object,
             absl::Status(status.code(), absl::StrCat(object->name, ": ", status.message())));
    return object;
  }

  // Values and results that are there go in as they are; false where one is an error, which is then
  // the object's.
  bool FillCall(internal::Call& call, uint64_t function, Object& object, TaskCall& out)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    out.function = function;
    out.name = object.name;
    out.arguments.reserve(call.arguments.size());
    for (internal::Argument& argument : call.arguments) {
      ArgumentSlot slot;
      if (argument.ref == nullptr) {
        slot.value = std::make_shared<const std::string>(std::move(argument.value));
      } else if (!argument.ref->ready.load(std::memory_order_acquire)) {
        slot.producer = argument.ref->task;
      } else if (argument.ref->status.ok()) {
        slot.value = argument.ref->value;
      } else {
        const absl::Status& status = argument.ref->status;
        SetError(object,
                 absl::Status(status.code(), absl::StrCat(status.message(), " (an argument of ",
                                                          object.name, ")")));
        return false;
      }
      if (slot.value != nullptr && slot.value->size() > kArgumentBytesMax) {
        SetError(object, absl::InvalidArgumentError(
                             absl::StrCat(object.name, ": an argument has ", slot.value->size(),
                                          " bytes; at most ", kArgumentBytesMax, " can be sent")));
        return false;
      }
      out.arguments.push_back(std::move(slot));
    }
    return true;
  }

  absl::StatusOr<ClassNumber> ClassOf(const TaskOptions& options, const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (size_t i = 0; i < class_cache_.size(); ++i) {
      if (!SameClass(class_cache_[i].first, options)) continue;
      // Retries and timeouts are the task's own, but must be checked where they are new.
      if (options.max_retries < -1 || options.timeout <= absl::ZeroDuration()) break;
      if (i > 0) std::swap(class_cache_[i], class_cache_[i - 1]);
      return class_cache_[i > 0 ? i - 1 : 0].second;
    }
    absl::StatusOr<v1::RequestSpec> spec = MakeRequestSpec(options, 1);
    if (!spec.ok()) return spec.status();
    const std::string key = spec->SerializeAsString();
    const auto known = class_of_spec_.find(key);
    ClassNumber number = 0;
    if (known != class_of_spec_.end()) {
      number = known->second;
    } else {
      spec->set_name(name);
      number = core_->AddClass(*std::move(spec));
      class_of_spec_[key] = number;
    }
    if (class_cache_.size() >= kClassCacheMax) class_cache_.pop_back();
    class_cache_.emplace_back(options, number);
    return number;
  }

  // --- Steps ---

  template <typename What>
  void Do(What what) {
    Afterwards afterwards;
    {
      MutexLock lock(&mutex_);
      Step(std::move(what));
      afterwards = std::exchange(afterwards_, {});
    }
    reactor_.Wake();
    Finish(afterwards);
  }

  // On the reactor's polling thread: whoever waits looks again by itself.
  template <typename What>
  void DoFromReactor(What what) {
    Afterwards afterwards;
    {
      MutexLock lock(&mutex_);
      Step(std::move(what));
      afterwards = std::exchange(afterwards_, {});
    }
    Finish(afterwards);
  }

  void OnBatch(v1::ToDriverBatch batch) {
    Afterwards afterwards;
    {
      MutexLock lock(&mutex_);
      for (v1::ToDriver& message : *batch.mutable_messages()) {
        if (message.has_welcome()) OnWelcome();
        Step(FromHead{std::move(message)});
      }
      afterwards = std::exchange(afterwards_, {});
    }
    reactor_.Wake();
    Finish(afterwards);
  }

  void OnWelcome() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    welcomed_ = true;
    // A head that has forgotten gets the store's contents again; what waited asks again.
    for (const auto& [id, pending] : operations_) {
      if (pending.answer.has_value() && !pending.operation.has_value()) continue;
      v1::DriverMessage message;
      *message.mutable_store() = pending.operation;
      link_->Send(std::move(message));
    }
  }

  template <typename What>
  void Step(What what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Event event;
    event.at = MonotonicNow();
    event.what = std::move(what);
    std::vector<Action> actions = std::move(spare_actions_);
    core_->Step(std::move(event), actions);
    for (Action& action : actions) {
      std::visit([this](auto& done) ABSL_NO_THREAD_SAFETY_ANALYSIS { Act(done); }, action);
    }
    actions.clear();
    spare_actions_ = std::move(actions);
    while (!follow_ups_.empty()) {
      LeaseBroke broke = std::move(follow_ups_.front());
      follow_ups_.pop_front();
      Step(std::move(broke));
    }
    if (timer_ == 0 && !down_) ArmTimer();
  }

  void ArmTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Time now = MonotonicNow();
    const absl::Time due = std::clamp(core_->NextTick(), now + kTickAtLeast, now + kTickAtMost);
    timer_ = reactor_.At(due, [this] { OnTimer(); });
  }

  void OnTimer() {
    Afterwards afterwards;
    {
      MutexLock lock(&mutex_);
      if (down_) return;
      timer_ = 0;
      // Nothing to look after: the next Step() arms it again.
      if (core_->NextTick() == absl::InfiniteFuture() && core_->unfinished() == 0) return;
      if (MonotonicNow() >= core_->NextTick()) {
        Step(Tick{});
      } else {
        ArmTimer();
      }
      afterwards = std::exchange(afterwards_, {});
    }
    Finish(afterwards);
  }

  void Finish(const Afterwards& afterwards) {
    for (const std::string& text : afterwards.prints) fprintf(stderr, "muster: %s\n", text.c_str());
    for (const v1::LogLines& log : afterwards.output) {
      for (const v1::LogLines::Line& line : log.lines()) {
        FILE* stream = line.is_stderr() ? stderr : stdout;
        const std::string text =
            absl::StrCat("(", line.task().empty() ? options_.program : line.task(),
                         " pid=", line.pid(), " node=", line.node(), ") ", line.text(), "\n");
        fwrite(text.data(), 1, text.size(), stream);
      }
    }
    if (!afterwards.output.empty()) fflush(stdout);
    if (afterwards.upload) {
      MutexLock lock(&mutex_);
      if (down_) return;
      uploaders_.emplace_back([address = options_.address, binary = options_.binary] {
        const absl::Status uploaded =
            HeadClient(address).UploadPackage(binary.build_id(), "/proc/self/exe");
        if (!uploaded.ok()) {
          fprintf(stderr, "muster: this program cannot be sent to other machines: %s\n",
                  std::string(uploaded.message()).c_str());
        }
      });
    }
  }

  // --- Actions ---

  void Act(GroupChanged& changed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto& group = *static_cast<internal::PlacementGroupState*>(changed.cookie.get());
    MutexLock lock(&group.mutex);
    group.placed = changed.placed;
    group.status = std::move(changed.status);
    group.bundles.clear();
    for (const BundleOfGroup& bundle : changed.bundles) {
      BundlePlace place;
      place.node = bundle.node;
      for (const v1::Entry& label : bundle.labels) place.labels[label.key()] = label.value();
      group.bundles.push_back(std::move(place));
    }
  }
  void Act(ToHead& to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (link_ != nullptr) link_->Send(std::move(to.message));
  }

  void Act(const struct Connect& connect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    had_lease_ = true;
    const v1::Granted& granted = connect.granted;
    const bool near =
        granted.host_id() == host_id_ && !(force_tcp_ && !granted.tcp_address().empty());
    absl::StatusOr<int> fd =
        near ? ConnectUnixAbstract(granted.unix_socket()) : ConnectTcp(granted.tcp_address());
    if (!fd.ok()) {
      follow_ups_.push_back(LeaseBroke{connect.lease, std::string(fd.status().message())});
      return;
    }
    std::shared_ptr<FrameConnection> connection = FrameConnection::Adopt(reactor_, *fd);
    connection->set_frame_bytes_max(kFrameBytesMax);
    connections_[connect.lease] = connection;
    v1::ToExecutor open;
    *open.mutable_open()->mutable_protocol() = OurProtocol();
    *open.mutable_open()->mutable_lease() = granted.lease();
    open.mutable_open()->set_token(granted.token());
    connection->Send(open);
    connection->Start(
        [this, lease = connect.lease](absl::string_view frame) {
          v1::FromExecutor message;
          if (!message.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
            DoFromReactor(LeaseBroke{lease, "its executor sent something that is no message"});
            return;
          }
          DoFromReactor(FromExecutor{lease, std::move(message)});
        },
        [this, lease = connect.lease](const absl::Status& why) {
          DoFromReactor(LeaseBroke{
              lease, why.ok() ? "its executor closed the connection" : std::string(why.message())});
        });
  }

  void Act(const ToExecutor& to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto connection = connections_.find(to.lease);
    if (connection != connections_.end()) connection->second->Send(to.message);
  }

  void Act(const CloseConnection& close) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto connection = connections_.find(close.lease);
    if (connection == connections_.end()) return;
    if (close.clean) {
      connection->second->CloseAfterFlush();
    } else {
      connection->second->Close();
    }
    connections_.erase(connection);
  }

  void Act(Complete& complete) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Object& object = *static_cast<Object*>(complete.cookie.get());
    object.status = std::move(complete.status);
    object.value = std::move(complete.value);
    object.ready.store(true, std::memory_order_release);
  }

  void Act(Print& print) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    afterwards_.prints.push_back(std::move(print.text));
  }
  void Act(Output& output) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    afterwards_.output.push_back(std::move(output.lines));
  }
  void Act(const Upload&) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { afterwards_.upload = true; }
  void Act(const Refused& refused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    refusal_ = refused.status;
    refused_ = true;
    if (welcomed_) afterwards_.prints.push_back(std::string(refused.status.message()));
  }
  void Act(const Flushed& flushed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    flushed_ = flushed.sequence;
  }
  void Act(StoreAnswer& answer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto pending = operations_.find(answer.result.id());
    if (pending != operations_.end() && !pending->second.answer.has_value()) {
      pending->second.answer = std::move(answer.result);
    }
  }

  // --- The store ---

  struct Operation {
    v1::StoreOperation operation;
    std::optional<v1::StoreResult> answer;
  };

  absl::StatusOr<std::string> RunOperation(const StorePlace& place, v1::StoreOperation operation,
                                           absl::Duration timeout) {
    uint64_t id = 0;
    {
      MutexLock lock(&mutex_);
      if (store_place_.group != place.group || store_place_.generation != place.generation) {
        operations_.clear();  // Of a generation that is over.
        store_place_ = place;
      }
      if (!aborted_.ok() && aborted_group_ == place.group &&
          aborted_generation_ == place.generation)
        return aborted_;
      id = ++last_operation_;
      operation.set_id(id);
      operation.set_group(place.group);
      operation.set_generation(place.generation);
      operations_[id].operation = operation;
      v1::DriverMessage message;
      *message.mutable_store() = std::move(operation);
      link_->Send(std::move(message));
    }
    const auto answered = [&] {
      MutexLock lock(&mutex_);
      const auto found = operations_.find(id);
      return found == operations_.end() || found->second.answer.has_value();
    };
    const bool done =
        reactor_.RunUntil(answered, timeout == absl::InfiniteDuration() ? absl::InfiniteFuture()
                                                                        : MonotonicNow() + timeout);
    MutexLock lock(&mutex_);
    const auto found = operations_.find(id);
    if (found == operations_.end())
      return absl::AbortedError("the group has gone on without this rank");
    if (!done) {
      operations_.erase(found);
      return absl::DeadlineExceededError("the head did not answer in time");
    }
    const v1::StoreResult result = std::move(*found->second.answer);
    const absl::Status status = FromProto(result.status());
    // Sets are kept, to be said again to a head that has forgotten them.
    if (!found->second.operation.has_value() || !status.ok()) operations_.erase(found);
    if (!status.ok()) return status;
    return result.value();
  }

  static constexpr size_t kArgumentBytesMax = size_t{1900} * 1000 * 1000;

  Reactor& reactor_;
  const RuntimeOptions options_;
  const std::string host_id_;
  bool force_tcp_ = false;
  std::unique_ptr<DriverLink> link_;
  std::atomic<bool> welcomed_{false};
  std::atomic<bool> refused_{false};
  std::atomic<uint64_t> flushed_{0};
  std::vector<std::thread> uploaders_;

  Mutex mutex_;
  std::unique_ptr<DriverCore> core_ ABSL_PT_GUARDED_BY(mutex_);
  bool down_ ABSL_GUARDED_BY(mutex_) = false;
  bool had_lease_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t timer_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_flush_ ABSL_GUARDED_BY(mutex_) = 0;
  TaskNumber last_task_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_down_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  Afterwards afterwards_ ABSL_GUARDED_BY(mutex_);
  std::vector<Action> spare_actions_ ABSL_GUARDED_BY(mutex_);
  std::deque<LeaseBroke> follow_ups_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<TaskOptions, ClassNumber>> class_cache_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, ClassNumber> class_of_spec_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<LeaseNumber, std::shared_ptr<FrameConnection>> connections_
      ABSL_GUARDED_BY(mutex_);
  StorePlace store_place_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_operation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Operation> operations_ ABSL_GUARDED_BY(mutex_);
  std::string aborted_group_ ABSL_GUARDED_BY(mutex_);
  uint32_t aborted_generation_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status aborted_ ABSL_GUARDED_BY(mutex_);
};

std::atomic<ClientRuntime*> the_runtime{nullptr};

}  // namespace

absl::StatusOr<std::unique_ptr<ClientRuntime>> ClientRuntime::Connect(
    Reactor& reactor, const RuntimeOptions& options) {
  auto runtime = std::make_unique<RunningRuntime>(reactor, options);
  if (absl::Status status = runtime->Open(); !status.ok()) return status;
  return runtime;
}

ClientRuntime* TheRuntime() { return the_runtime.load(std::memory_order_acquire); }
void SetTheRuntime(ClientRuntime* runtime) {
  the_runtime.store(runtime, std::memory_order_release);
}

bool WaitForObjects(Reactor& reactor, std::span<const ObjectHandle> objects, size_t count,
                    absl::Time deadline, absl::Duration patience,
                    const std::function<void(bool)>& on_block) {
  size_t first = 0;  // All before it are ready.
  const auto done = [&] {
    while (first < objects.size() && objects[first]->ready.load(std::memory_order_acquire)) ++first;
    if (first >= count) return true;
    if (count == objects.size()) return false;
    size_t ready = first;
    for (size_t i = first; i < objects.size() && ready < count; ++i) {
      if (objects[i]->ready.load(std::memory_order_acquire)) ++ready;
    }
    return ready >= count;
  };
  if (done()) return true;
  const absl::Time impatient = MonotonicNow() + patience;
  if (!on_block || deadline <= impatient) return reactor.RunUntil(done, deadline, /*spin=*/true);
  if (reactor.RunUntil(done, impatient, true)) return true;
  on_block(true);
  const bool ready = reactor.RunUntil(done, deadline);
  on_block(false);
  return ready;
}

}  // namespace muster::client
