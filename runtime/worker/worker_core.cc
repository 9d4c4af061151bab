#include "runtime/worker/worker_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/wire/protocol.h"
#include "runtime/worker/start_failure.h"
#include "scheduler/base/check.h"

namespace muster::worker {
namespace {

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

bool SameKey(const v1::LeaseKey& a, const v1::LeaseKey& b) {
  return a.driver() == b.driver() && a.request() == b.request() && a.bundle() == b.bundle();
}

}  // namespace

WorkerCore::WorkerCore(WorkerConfig config)
    : config_(std::move(config)), now_(config_.start), next_heartbeat_(config_.start) {
  node_name_ = config_.hello.name();
}

void WorkerCore::Step(const Event& event, std::vector<Action>& actions) {
  MUSTER_CHECK(event.at >= now_);
  now_ = event.at;
  actions_ = &actions;
  std::visit([this](const auto& what) { On(what); }, event.what);
  RejoinIfClean();
  LeaveIfDone();
  actions_ = nullptr;
}

absl::Time WorkerCore::NextTick() const {
  absl::Time next = std::min(next_heartbeat_, drain_deadline_);
  for (const auto& [id, executor] : executors_) {
    if (executor.state == State::kStarting) next = std::min(next, executor.deadline);
    if (executor.state == State::kIdle) {
      next = std::min(next, executor.idle_since + config_.idle_executor_timeout);
    }
  }
  return next;
}

uint64_t WorkerCore::DriverOf(ExecutorId id) const {
  const auto found = executors_.find(id);
  return found == executors_.end() ? 0 : found->second.last_driver;
}

// --- The head ---

void WorkerCore::On(const HeadUp&) {
  said_hello_ = false;
  if (!fenced_) SendHello();
}

void WorkerCore::On(const HeadDown&) {
  said_hello_ = false;
  welcomed_ = false;
}

void WorkerCore::SendHello() {
  v1::WorkerMessage message;
  v1::WorkerHello& hello = *message.mutable_hello();
  hello = config_.hello;
  hello.set_worker(config_.worker);
  hello.set_joined_head(joined_head_);
  *hello.mutable_condition() = condition_;
  *hello.mutable_sharing() = sharing_;
  absl::Time drain_by = condition_deadline_;
  if (draining_) {
    hello.mutable_condition()->set_draining(true);
    drain_by = std::min(drain_by, drain_deadline_);
  }
  hello.mutable_condition()->clear_deadline_in_ns();
  if (drain_by != absl::InfiniteFuture()) {
    hello.mutable_condition()->set_deadline_in_ns(
        std::max(absl::ToInt64Nanoseconds(drain_by - now_), int64_t{1}));
  }
  for (const v1::StartLease& order : reservations_) {  // Before what runs inside them.
    v1::HeldLease& held = *hello.add_held();
    *held.mutable_lease() = order.lease();
    *held.mutable_spec() = order.spec();
    *held.mutable_placement() = order.placement();
    held.set_started(true);
  }
  for (const auto& [id, lease] : leases_) {
    v1::HeldLease& held = *hello.add_held();
    *held.mutable_lease() = lease.key;
    *held.mutable_spec() = lease.order.spec();
    *held.mutable_placement() = lease.order.placement();
    held.set_started(lease.started);
  }
  actions_->push_back(ToHead{std::move(message)});
  said_hello_ = true;
}

void WorkerCore::On(const FromHead& from) {
  switch (from.message.what_case()) {
    case v1::ToWorker::kWelcome:
      OnWelcome(from.message.welcome());
      break;
    case v1::ToWorker::kRefused:
      OnRefused(from.message.refused());
      break;
    case v1::ToWorker::kStart:
      StartLease(from.message.start());
      break;
    case v1::ToWorker::kStop:
      StopLease(from.message.stop());
      break;
    case v1::ToWorker::kDriverStarted:
      OnDriverStarted(from.message.driver_started());
      break;
    case v1::ToWorker::kDriverEnded:
      OnDriverEnded(from.message.driver_ended());
      break;
    case v1::ToWorker::kFlushLogs:
      actions_->push_back(
          Flush{from.message.flush_logs().driver(), from.message.flush_logs().sequence()});
      break;
    case v1::ToWorker::kCondition:
      condition_ = from.message.condition();
      condition_deadline_ = condition_.deadline_in_ns() > 0
                                ? now_ + absl::Nanoseconds(condition_.deadline_in_ns())
                                : absl::InfiniteFuture();
      for (const v1::GpuHealth& known : condition_.unhealthy()) {
        std::erase_if(failed_gpus_,
                      [&](const v1::GpuHealth& failed) { return failed.gpu() == known.gpu(); });
      }
      break;
    case v1::ToWorker::kSharing:
      sharing_ = from.message.sharing();
      break;
    case v1::ToWorker::kShutdown:
      leaving_ = true;
      KillAll("the cluster is shut down");
      break;
    default:
      break;  // A newer head's message.
  }
}

void WorkerCore::OnWelcome(const v1::Welcome& welcome) {
  const bool first = joined_head_ == 0;
  joined_head_ = welcome.head();
  node_name_ = welcome.node_name();
  welcomed_ = true;
  SayLine(absl::StrCat(first ? "joined" : "rejoined", " as node ", node_name_));
  for (const v1::StartLease& order : reservations_) SayReserved(order);
  for (const auto& [id, lease] : leases_) {
    if (!lease.started) continue;
    v1::WorkerMessage message;
    *message.mutable_started() = lease.started_message;
    Tell(std::move(message));
  }
  for (const v1::GpuHealth& failed : failed_gpus_) SayFailed(failed);
  if (draining_) {
    v1::WorkerMessage message;
    message.mutable_draining()->set_deadline_in_ns(
        absl::ToInt64Nanoseconds(drain_deadline_ - now_));
    Tell(std::move(message));
  }
}

void WorkerCore::OnRefused(const v1::Refused& refused) {
  const absl::Status status = FromProto(refused.status());
  if (!refused.fenced()) {
    leaving_ = true;
    ended_ = true;
    KillAll("the head refused this node");
    actions_->push_back(End{status});
    return;
  }
  SayLine(absl::StrCat("fenced: ", status.message(), "; its ", leases_.size(),
                       " leases are over, it joins again as a new node"),
          true);
  fenced_ = true;
  said_hello_ = false;
  welcomed_ = false;
  leases_.clear();  // Others have them by now: nothing of them may be reported.
  reservations_.clear();
  for (auto& [id, executor] : executors_) {
    executor.lease = 0;
    KillExecutor(executor);
  }
  actions_->push_back(DrawIdentity{});
}

void WorkerCore::On(const NewIdentity& identity) {
  config_.worker = identity.worker;
  config_.hello.clear_name();  // Another node may have taken it.
  joined_head_ = 0;
  renamed_ = true;
}

// --- Leases ---

void WorkerCore::StartLease(const v1::StartLease& order) {
  if (order.spec().shapes_size() > 0) return Reserve(order);
  if (FindLease(order.lease()) != 0) return;
  Lease lease;
  lease.key = order.lease();
  lease.order = order;
  const uint64_t id = ++last_lease_;
  Lease& added = leases_.emplace(id, std::move(lease)).first->second;
  if (draining_ || leaving_) {
    EndLease(id, v1::LEASE_END_STOPPED, absl::StrCat("node ", node_name_, " is draining"), "", 0);
    return;
  }
  Executor* executor = FindWarm(order);
  if (executor == nullptr)
    executor = &SpawnFor(order.job(), order.binary(), order.driver_host_id());
  executor->lease = id;
  added.executor = executor->id;
  if (executor->state == State::kIdle) Assign(*executor, added);
}

void WorkerCore::Reserve(const v1::StartLease& order) {
  Unreserve(order.lease());
  if (draining_ || leaving_) {
    v1::WorkerMessage message;
    v1::LeaseEnded& ended = *message.mutable_ended();
    *ended.mutable_lease() = order.lease();
    ended.set_end(v1::LEASE_END_STOPPED);
    ended.set_message(absl::StrCat("node ", node_name_, " is draining"));
    Tell(std::move(message));
    return;
  }
  reservations_.push_back(order);
  SayReserved(order);
}

bool WorkerCore::Unreserve(const v1::LeaseKey& key) {
  return std::erase_if(reservations_, [&](const v1::StartLease& order) {
           return SameKey(order.lease(), key);
         }) > 0;
}

void WorkerCore::SayReserved(const v1::StartLease& order) {
  v1::WorkerMessage message;
  *message.mutable_started()->mutable_lease() = order.lease();
  Tell(std::move(message));
}

WorkerCore::Executor* WorkerCore::FindWarm(const v1::StartLease& order) {
  Executor* starting = nullptr;
  for (auto& [id, executor] : executors_) {
    if (executor.job != order.job() || executor.build_id != order.binary().build_id()) continue;
    if (executor.lease != 0) continue;
    if (executor.state == State::kIdle) return &executor;
    if (executor.state == State::kStarting && starting == nullptr) starting = &executor;
  }
  return starting;
}

WorkerCore::Executor& WorkerCore::SpawnFor(uint64_t job, const v1::Binary& binary,
                                           const std::string& driver_host_id) {
  Executor executor;
  executor.id = ExecutorId{++last_executor_};
  executor.job = job;
  executor.build_id = binary.build_id();
  executor.program = BaseName(binary.path());
  executor.deadline = now_ + config_.executor_start_timeout;
  actions_->push_back(Spawn{executor.id, binary, driver_host_id == config_.hello.host_id()});
  const ExecutorId id = executor.id;
  return executors_.emplace(id, std::move(executor)).first->second;
}

void WorkerCore::Assign(Executor& executor, Lease& lease) {
  executor.state = State::kLeased;
  executor.last_driver = lease.key.driver();
  v1::WorkerToExecutor message;
  v1::AssignLease& assign = *message.mutable_assign();
  *assign.mutable_lease() = lease.key;
  *assign.mutable_placement() = lease.order.placement();
  assign.set_node(node_name_);
  *assign.mutable_labels() = config_.hello.labels();
  v1::Entry& id_label = *assign.add_labels();
  id_label.set_key("ray.io/node-id");
  id_label.set_value(node_name_);
  for (const v1::DeviceShare& share : lease.order.placement().devices()) {
    const int device = static_cast<int>(share.device());
    if (device < config_.hello.resources().gpus_size()) {
      assign.add_gpu_ids(config_.hello.resources().gpus(device).id());
    }
  }
  assign.set_listen_tcp(lease.order.driver_host_id() != config_.hello.host_id());
  assign.set_job(lease.order.job());
  assign.set_host(config_.hello.host());
  actions_->push_back(ToExecutor{executor.id, std::move(message)});
}

void WorkerCore::StopLease(const v1::StopLease& stop) {
  if (Unreserve(stop.lease())) return;
  const uint64_t id = FindLease(stop.lease());
  if (id == 0) return;
  Lease& lease = leases_.at(id);
  Executor& executor = executors_.at(lease.executor);
  if (executor.state == State::kStarting) {  // It has not heard of the lease.
    executor.lease = 0;
    EndLease(id, v1::LEASE_END_STOPPED, stop.why(), "", 0);
    return;
  }
  if (stop.kill()) {
    if (executor.state != State::kDying && !stop.why().empty()) {
      lease.end = v1::LEASE_END_STOPPED;
      lease.end_message = stop.why();
    }
    KillExecutor(executor);
    return;
  }
  v1::WorkerToExecutor message;
  *message.mutable_release()->mutable_lease() = lease.key;
  actions_->push_back(ToExecutor{executor.id, std::move(message)});
}

void WorkerCore::EndLease(uint64_t id, v1::LeaseEnd end, const std::string& text,
                          const std::string& last_stderr, int32_t pid) {
  v1::WorkerMessage message;
  v1::LeaseEnded& ended = *message.mutable_ended();
  *ended.mutable_lease() = leases_.at(id).key;
  ended.set_end(end);
  ended.set_message(text);
  ended.set_last_stderr(last_stderr);
  ended.set_pid(pid);
  leases_.erase(id);
  Tell(std::move(message));
}

void WorkerCore::OnDriverStarted(const v1::DriverStarted& started) {
  if (draining_ || leaving_) return;
  for (uint32_t i = 0; i < std::min<uint32_t>(started.executors(), 4); ++i) {
    // Only where the binary is at hand: nothing is fetched for a driver that may never come here.
    if (started.binary().host_id() != config_.hello.host_id()) return;
    SpawnFor(started.job(), started.binary(), started.binary().host_id());
  }
}

void WorkerCore::OnDriverEnded(const v1::DriverEnded& ended) {
  std::erase_if(reservations_, [&](const v1::StartLease& order) {
    return order.lease().driver() == ended.driver();
  });
  std::vector<uint64_t> waiting;
  for (auto& [id, lease] : leases_) {
    if (lease.key.driver() != ended.driver()) continue;
    Executor& executor = executors_.at(lease.executor);
    if (executor.state == State::kStarting) {
      executor.lease = 0;
      waiting.push_back(id);
    } else {
      if (executor.state != State::kDying) {
        lease.end = v1::LEASE_END_STOPPED;
        lease.end_message = "its driver has ended";
      }
      KillExecutor(executor);
    }
  }
  for (uint64_t id : waiting) EndLease(id, v1::LEASE_END_STOPPED, "its driver has ended", "", 0);
  if (!ended.job_ended()) return;
  for (auto& [id, executor] : executors_) {
    if (executor.job == ended.driver()) KillExecutor(executor);
  }
}

// --- Executors ---

void WorkerCore::On(const FromExecutor& from) {
  const auto found = executors_.find(from.executor);
  if (found == executors_.end() || found->second.state == State::kDying) return;
  Executor& executor = found->second;
  switch (from.message.what_case()) {
    case v1::ExecutorToWorker::kReady:
      OnReady(executor, from.message.ready());
      break;
    case v1::ExecutorToWorker::kAssigned:
      OnAssigned(executor, from.message.assigned());
      break;
    case v1::ExecutorToWorker::kReleased:
      OnReleased(executor, from.message.released());
      break;
    case v1::ExecutorToWorker::kFailed:
      executor.failure = from.message.failed().status().message();
      KillExecutor(executor);
      break;
    default:
      break;
  }
}

void WorkerCore::OnReady(Executor& executor, const v1::ExecutorReady& ready) {
  if (executor.state != State::kStarting) return;
  executor.pid = ready.pid();
  absl::Status status = CheckProtocol(ready.protocol(), "the executor");
  if (status.ok() && ready.build_id() != executor.build_id) {
    status = absl::FailedPreconditionError(absl::StrCat(
        "the program on this node is another build (", ready.build_id(), ") than the driver's (",
        executor.build_id, "): was it built again while the driver ran?"));
  }
  if (!status.ok()) {
    executor.failure = std::string(status.message());
    KillExecutor(executor);
    return;
  }
  executor.state = State::kIdle;
  executor.idle_since = now_;
  if (executor.lease != 0) Assign(executor, leases_.at(executor.lease));
}

void WorkerCore::OnAssigned(Executor& executor, const v1::LeaseAssigned& assigned) {
  if (executor.lease == 0) return;
  Lease& lease = leases_.at(executor.lease);
  if (!SameKey(lease.key, assigned.lease()) || lease.started) return;
  lease.started = true;
  lease.started_message.set_pid(executor.pid);
  *lease.started_message.mutable_lease() = lease.key;
  lease.started_message.set_unix_socket(assigned.unix_socket());
  lease.started_message.set_tcp_address(assigned.tcp_address());
  lease.started_message.set_token(assigned.token());
  v1::WorkerMessage message;
  *message.mutable_started() = lease.started_message;
  Tell(std::move(message));
}

void WorkerCore::OnReleased(Executor& executor, const v1::LeaseReleased& released) {
  if (executor.lease == 0) return;
  Lease& lease = leases_.at(executor.lease);
  if (!SameKey(lease.key, released.lease())) return;
  if (lease.order.placement().devices_size() >
      0) {  // Only its end frees the devices' memory for certain.
    lease.end = v1::LEASE_END_RETURNED;
    KillExecutor(executor);
    return;
  }
  const uint64_t id = executor.lease;
  executor.lease = 0;
  executor.state = State::kIdle;
  executor.idle_since = now_;
  EndLease(id, v1::LEASE_END_RETURNED, "", "", executor.pid);
  TrimIdle(executor.job);
}

void WorkerCore::TrimIdle(uint64_t job) {
  std::vector<Executor*> idle;
  for (auto& [id, executor] : executors_) {
    if (executor.job == job && executor.state == State::kIdle && executor.lease == 0)
      idle.push_back(&executor);
  }
  std::stable_sort(idle.begin(), idle.end(), [](const Executor* a, const Executor* b) {
    return a->idle_since < b->idle_since;
  });
  for (size_t i = 0; i + static_cast<size_t>(config_.idle_executors_max) < idle.size(); ++i) {
    KillExecutor(*idle[i]);
  }
}

void WorkerCore::On(const ExecutorExited& exited) {
  const auto found = executors_.find(exited.executor);
  if (found == executors_.end()) return;
  const Executor executor = std::move(found->second);
  executors_.erase(found);
  if (executor.lease != 0) {
    const Lease& lease = leases_.at(executor.lease);
    const bool was_ready = executor.pid != 0 && executor.failure.empty();
    if (!was_ready && lease.end == v1::LEASE_END_EXECUTOR_DIED) {
      EndLease(executor.lease, v1::LEASE_END_START_FAILED,
               absl::StrCat("node ", node_name_, " cannot start ", executor.program, ": ",
                            ExplainStartFailure(executor.failure, exited.how, exited.last_stderr)),
               exited.last_stderr, executor.pid);
    } else {
      const std::string how =
          lease.end == v1::LEASE_END_EXECUTOR_DIED ? exited.how : lease.end_message;
      EndLease(executor.lease, lease.end, how, exited.last_stderr, executor.pid);
    }
  } else if (executor.state != State::kDying) {
    SayLine(absl::StrCat("an executor of ", executor.program, " ended without a lease: ",
                         ExplainStartFailure(executor.failure, exited.how, exited.last_stderr)),
            executor.pid == 0);
  }
}

void WorkerCore::RejoinIfClean() {
  if (!fenced_ || !renamed_ || !executors_.empty()) return;
  fenced_ = false;
  renamed_ = false;
  actions_->push_back(Reconnect{});
}

void WorkerCore::KillExecutor(Executor& executor) {
  if (executor.state == State::kDying) return;
  executor.state = State::kDying;
  actions_->push_back(Kill{executor.id});
}

void WorkerCore::KillAll(const std::string& why) {
  for (auto& [id, lease] : leases_) {
    if (executors_.at(lease.executor).state == State::kDying) continue;
    lease.end = v1::LEASE_END_STOPPED;
    lease.end_message = why;
  }
  for (auto& [id, executor] : executors_) KillExecutor(executor);
}

// --- The worker's own end ---

void WorkerCore::On(const LabelsRead& read) {
  config_.hello.clear_labels();
  v1::WorkerMessage message;
  for (const v1::Entry& entry : read.labels) {
    *config_.hello.add_labels() = entry;
    *message.mutable_labels()->add_labels() = entry;
  }
  v1::Entry& id_label = *message.mutable_labels()->add_labels();
  id_label.set_key("ray.io/node-id");
  id_label.set_value(node_name_);
  Tell(std::move(message));
}

// Kept until the head says that it has it: it may be away, or its answer be lost.
void WorkerCore::On(const GpuFailed& failed) {
  v1::GpuHealth health;
  health.set_gpu(failed.gpu);
  health.set_reason(failed.reason);
  actions_->push_back(Say{.warning = true,
                          .text = absl::StrCat("GPU ", failed.gpu, " is broken: ", failed.reason,
                                               "; it gets nothing new")});
  failed_gpus_.push_back(health);
  if (welcomed_) SayFailed(health);
}

void WorkerCore::SayFailed(const v1::GpuHealth& failed) {
  v1::WorkerMessage message;
  *message.mutable_health() = failed;
  Tell(std::move(message));
}

void WorkerCore::On(const DrainAsked&) {
  if (draining_) {
    On(EndAsked{});
    return;
  }
  draining_ = true;
  drain_deadline_ = now_ + config_.drain_timeout;
  v1::WorkerMessage message;
  message.mutable_draining()->set_deadline_in_ns(absl::ToInt64Nanoseconds(config_.drain_timeout));
  Tell(std::move(message));
  SayLine(absl::StrCat("draining: ", leases_.size(), " leases may finish within ",
                       absl::FormatDuration(config_.drain_timeout)));
}

void WorkerCore::On(const EndAsked&) {
  leaving_ = true;
  KillAll(absl::StrCat("node ", node_name_, " was stopped"));
}

void WorkerCore::LeaveIfDone() {
  if (ended_) return;
  if (draining_ && !leaving_ && leases_.empty()) {
    leaving_ = true;
    KillAll("");
  }
  if (!leaving_ || !executors_.empty()) return;
  ended_ = true;
  v1::WorkerMessage message;
  message.mutable_leaving();
  Tell(std::move(message));
  actions_->push_back(End{absl::OkStatus()});
}

void WorkerCore::On(const Tick&) {
  if (now_ >= next_heartbeat_) {
    next_heartbeat_ = now_ + config_.heartbeat;
    v1::WorkerMessage message;
    message.mutable_heartbeat();
    Tell(std::move(message));
  }
  if (now_ >= drain_deadline_) {
    drain_deadline_ = absl::InfiniteFuture();
    On(EndAsked{});
  }
  for (auto& [id, executor] : executors_) {
    if (executor.state == State::kIdle &&
        now_ >= executor.idle_since + config_.idle_executor_timeout) {
      KillExecutor(executor);
    }
    if (executor.state != State::kStarting || now_ < executor.deadline) continue;
    executor.failure =
        absl::StrCat("not ready after ", absl::FormatDuration(config_.executor_start_timeout),
                     ": does its main() call muster::Init first?");
    KillExecutor(executor);
  }
}

uint64_t WorkerCore::FindLease(const v1::LeaseKey& key) const {
  for (const auto& [id, lease] : leases_) {
    if (SameKey(lease.key, key)) return id;
  }
  return 0;
}

void WorkerCore::Tell(v1::WorkerMessage message) {
  // What still holds is said in the hello; what changes after it follows it, even before the
  // welcome.
  if (!said_hello_) return;
  actions_->push_back(ToHead{std::move(message)});
}

void WorkerCore::SayLine(std::string text, bool warning) {
  actions_->push_back(Say{warning, std::move(text)});
}

void WorkerCore::CheckInvariants() const {
  for (const auto& [id, lease] : leases_) {
    const auto executor = executors_.find(lease.executor);
    MUSTER_CHECK(executor != executors_.end());
    MUSTER_CHECK(executor->second.lease == id);
    MUSTER_CHECK(!lease.started || executor->second.state != State::kStarting);
  }
  for (const auto& [id, executor] : executors_) {
    MUSTER_CHECK(executor.id == id);
    if (executor.lease != 0) MUSTER_CHECK(leases_.contains(executor.lease));
    if (executor.state == State::kLeased) MUSTER_CHECK(executor.lease != 0);
  }
}

}  // namespace muster::worker
