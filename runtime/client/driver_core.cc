#include "runtime/client/driver_core.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/check.h"
#include "scheduler/choice.h"

namespace muster::client {
namespace {

constexpr absl::Duration kBacklogInterval = absl::Milliseconds(250);
constexpr absl::Duration kPrintInterval = absl::Minutes(1);

// A bijection for a fixed driver, so ids are unique and their first digits differ.
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

DriverCore::DriverCore(DriverConfig config)
    : config_(std::move(config)), now_(config_.start), head_away_since_(config_.start) {}

std::string DriverCore::TaskIdOf(TaskNumber task) const {
  return absl::StrFormat("%016x", Mix(config_.driver + task * 0x9e3779b97f4a7c15ULL));
}

ClassNumber DriverCore::AddClass(v1::RequestSpec spec) {
  const ClassNumber number = classes_.size() + 1;
  auto added = std::make_unique<TaskClass>();
  added->number = number;
  added->spec = std::move(spec);
  classes_.emplace(number, std::move(added));
  return number;
}

void DriverCore::Step(Event event, std::vector<Action>& actions) {
  now_ = std::max(now_, event.at);
  actions_ = &actions;
  std::visit([this](auto& what) { On(what); }, event.what);
  actions_ = nullptr;
}

absl::Time DriverCore::NextTick() const {
  absl::Time next = next_backlog_;
  if (!welcomed_ && !gave_up_on_head_)
    next = std::min(next, head_away_since_ + config_.reconnect_timeout);
  for (const auto& [number, lease] : leases_) {
    next = std::min(next, lease->run_deadline);
    if (lease->state == LeaseState::kBroken)
      next = std::min(next, lease->broken_at + config_.reason_timeout);
    if (lease->state == LeaseState::kOpen && lease->in_flight.empty() && lease->group == 0) {
      next = std::min(next, lease->idle_since + config_.idle_lease);
    }
  }
  for (const auto& [number, task_class] : classes_) {
    if (!task_class->infeasible.empty() && task_class->queued > 0)
      next = std::min(next, task_class->next_print);
  }
  for (const auto& [request, group] : placement_groups_) {
    if (!group.infeasible.empty()) next = std::min(next, group.next_print);
    if (gave_up_on_head_ && group.bundles.empty()) next = std::min(next, now_);
  }
  for (const auto& [number, task_class] : classes_) {
    if (task_class->queued == 0 || !task_class->requests.empty()) continue;
    next = std::min(next, task_class->progress_at + config_.request_more_from);
  }
  for (const auto& [number, group] : groups_) {
    switch (group->state) {
      case GroupState::kNeedsArguments:
        break;
      case GroupState::kLeasing:
        if (gave_up_on_head_) next = std::min(next, now_);
        if (!group->infeasible.empty()) next = std::min(next, group->next_print);
        break;
      case GroupState::kRunning:
        next = std::min(next, group->rank_error_due);
        break;
      case GroupState::kAborting:
        next = std::min(next, group->kill_at);
        break;
    }
  }
  return next;
}

// --- Calls ---

void DriverCore::On(Submit& submit) {
  auto task = std::make_unique<Task>();
  task->number = submit.task;
  task->task_class = submit.task_class;
  task->max_retries = submit.max_retries;
  task->timeout = submit.timeout;
  task->call = std::move(submit.call);
  task->cookie = std::move(submit.cookie);
  Task& added = *task;
  tasks_.emplace(submit.task, std::move(task));
  if (tasks_.size() > config_.queued_tasks_max) {
    Finish(added.number,
           absl::ResourceExhaustedError(absl::StrCat(added.call.name,
                                                     " is not queued: ", config_.queued_tasks_max,
                                                     " tasks wait or run already")),
           nullptr);
    return;
  }
  for (const ArgumentSlot& slot : added.call.arguments) {
    if (slot.value != nullptr) continue;
    const auto producer = tasks_.find(slot.producer);
    if (producer != tasks_.end()) {
      AddDependent(producer->second->dependents, added.number);
    } else if (const auto group = groups_.find(slot.producer); group != groups_.end()) {
      AddDependent(group->second->dependents, added.number);
    } else {
      continue;  // ClientRuntime resolves what is complete before it submits.
    }
    ++added.arguments_missing;
  }
  if (added.arguments_missing > 0) {
    added.state = TaskState::kNeedsArguments;
    return;
  }
  Enqueue(added, /*front=*/false);
  Pump(*classes_.at(added.task_class));
}

// Once, even where it is several arguments.
void DriverCore::AddDependent(std::vector<TaskNumber>& dependents, TaskNumber dependent) {
  if (dependents.empty() || dependents.back() != dependent) dependents.push_back(dependent);
}

void DriverCore::ArgumentReady(TaskNumber dependent, TaskNumber producer,
                               const absl::Status& status, const Value& value) {
  TaskCall* call = nullptr;
  int* missing = nullptr;
  const auto task = tasks_.find(dependent);
  const auto group = groups_.find(dependent);
  if (task != tasks_.end()) {
    call = &task->second->call;
    missing = &task->second->arguments_missing;
  } else if (group != groups_.end()) {
    call = &group->second->call;
    missing = &group->second->arguments_missing;
  } else {
    return;  // Cancelled, or failed by another argument.
  }
  if (!status.ok()) {
    absl::Status failed(status.code(),
                        absl::StrCat(status.message(), " (an argument of ", call->name, ")"));
    if (group != groups_.end()) {
      FinishGroup(dependent, std::move(failed), nullptr);
    } else {
      Finish(dependent, std::move(failed), nullptr);
    }
    return;
  }
  for (ArgumentSlot& slot : call->arguments) {
    if (slot.value == nullptr && slot.producer == producer) {
      slot.value = value;
      --*missing;
    }
  }
  if (*missing > 0) return;
  if (group != groups_.end()) {
    LeaseGroup(*group->second);
    return;
  }
  Enqueue(*task->second, false);
  Pump(*classes_.at(task->second->task_class));
}

void DriverCore::Enqueue(Task& task, bool front) {
  task.state = TaskState::kQueued;
  task.lease = 0;
  if (!front) task.queued_at = now_;
  TaskClass& task_class = *classes_.at(task.task_class);
  if (front) {
    task_class.queue.push_front(task.number);
  } else {
    task_class.queue.push_back(task.number);
  }
  ++task_class.queued;
}

DriverCore::Task* DriverCore::NextQueued(TaskClass& task_class) {
  while (!task_class.queue.empty()) {
    const auto task = tasks_.find(task_class.queue.front());
    task_class.queue.pop_front();
    if (task == tasks_.end() || task->second->state != TaskState::kQueued) continue;
    --task_class.queued;
    return task->second.get();
  }
  return nullptr;
}

void DriverCore::Finish(TaskNumber number, absl::Status status, Value value) {
  const auto found = tasks_.find(number);
  if (found == tasks_.end()) return;
  Task& task = *found->second;
  const bool was_cancelled = task.cancelled;
  if (task.state == TaskState::kQueued && !was_cancelled) {
    TaskClass& task_class = *classes_.at(task.task_class);
    // A task that is finished by Submit() itself was never queued.
    if (task.queued_at != absl::Time{}) --task_class.queued;
  }
  const std::vector<TaskNumber> dependents = std::move(task.dependents);
  if (const auto lease = leases_.find(task.lease);
      task.state == TaskState::kPushed && lease != leases_.end()) {
    ended_.Add({.task = number,
                .task_class = task.task_class,
                .request = lease->second->key.request(),
                .bundle = lease->second->key.bundle(),
                .failed = !status.ok()});
  }
  if (!was_cancelled) actions_->push_back(Complete{std::move(task.cookie), status, value});
  tasks_.erase(found);
  if (!was_cancelled) FinishDependents(dependents, number, status, value);
}

void DriverCore::FinishDependents(const std::vector<TaskNumber>& dependents, TaskNumber producer,
                                  const absl::Status& status, const Value& value) {
  for (TaskNumber dependent : dependents) ArgumentReady(dependent, producer, status, value);
}

void DriverCore::On(const CancelAsked& cancel) {
  if (const auto group = groups_.find(cancel.task); group != groups_.end()) {
    Group& cancelled = *group->second;
    const absl::Status status =
        absl::CancelledError(absl::StrCat(cancelled.call.name, " was cancelled"));
    if (cancelled.state == GroupState::kNeedsArguments) {
      FinishGroup(cancel.task, status, nullptr);
      return;
    }
    if (cancelled.completed) return;
    cancelled.completed = true;
    cancelled.outcome = status;
    actions_->push_back(Complete{std::move(cancelled.cookie), status, nullptr});
    const std::vector<TaskNumber> dependents = std::exchange(cancelled.dependents, {});
    AbortGroup(cancelled, status);
    if (cancel.force) cancelled.kill_at = now_;
    TickGroup(cancelled);  // May be its end.
    FinishDependents(dependents, cancel.task, status, nullptr);
    return;
  }
  const auto found = tasks_.find(cancel.task);
  if (found == tasks_.end()) return;
  Task& task = *found->second;
  const absl::Status status = absl::CancelledError(absl::StrCat(task.call.name, " was cancelled"));
  if (task.state != TaskState::kPushed) {
    const ClassNumber task_class = task.task_class;
    Finish(cancel.task, status, nullptr);
    UpdateRequests(*classes_.at(task_class));
    return;
  }
  const LeaseNumber lease = task.lease;
  if (!task.cancelled) {
    task.cancelled = true;
    actions_->push_back(Complete{std::move(task.cookie), status, nullptr});
    FinishDependents(std::exchange(task.dependents, {}), cancel.task, status, nullptr);
    v1::ToExecutor message;
    message.mutable_cancel()->set_sequence(cancel.task);
    actions_->push_back(ToExecutor{lease, std::move(message)});
  }
  const auto found_lease = leases_.find(lease);
  // A task behind another has not started: its executor drops it.
  if (cancel.force && found_lease != leases_.end() &&
      found_lease->second->in_flight.front() == cancel.task) {
    KillLease(*found_lease->second, absl::StrCat(task.call.name, " was cancelled with force"));
  }
}

void DriverCore::On(const TaskWaits& waits) {
  if (waits.waits) {
    lends_ = waits.lease;
  } else {
    lends_.reset();
  }
  v1::DriverMessage message;
  *message.mutable_blocked()->mutable_lease() = waits.lease;
  message.mutable_blocked()->set_blocked(waits.waits);
  Tell(std::move(message));
}

// --- The head ---

void DriverCore::On(const HeadUp&) {
  v1::DriverMessage message;
  v1::DriverHello& hello = *message.mutable_hello();
  hello = config_.hello;
  hello.set_driver(config_.driver);
  hello.set_resumed(was_welcomed_);
  for (const auto& [number, lease] : leases_) {
    if (lease->state != LeaseState::kBroken) *hello.add_holds() = lease->key;
  }
  for (const auto& [request, group] : placement_groups_) hello.add_waits(request);
  for (const auto& [request, task_class] : request_class_) hello.add_waits(request);
  for (const auto& [request, group] : request_group_) hello.add_waits(request);
  actions_->push_back(ToHead{std::move(message)});
  link_up_ = true;
  // Requests follow the hello on the stream; a head that knows them ignores them. Groups come
  // before what is to run inside them.
  for (const auto& [request, group] : placement_groups_) SendGroup(group);
  for (const auto& [request, task_class] : request_class_) {
    SendRequest(request, task_class, classes_.at(task_class)->spec, "",
                classes_.at(task_class)->failed_on);
  }
  for (const auto& [request, group] : request_group_) {
    SendRequest(request, 0, groups_.at(group)->spec, TaskIdOf(group), groups_.at(group)->failed_on);
  }
  if (lends_.has_value()) On(TaskWaits{true, *lends_});
}

void DriverCore::On(const HeadDown& down) {
  head_away_why_ = down.why;
  link_up_ = false;
  if (!welcomed_) return;
  welcomed_ = false;
  head_away_since_ = now_;
}

void DriverCore::On(FromHead& from) {
  switch (from.message.what_case()) {
    case v1::ToDriver::kWelcome:
      welcomed_ = true;
      was_welcomed_ = true;
      gave_up_on_head_ = false;
      contended_ = false;
      break;
    case v1::ToDriver::kRefused:
      actions_->push_back(Refused{FromProto(from.message.refused().status())});
      break;
    case v1::ToDriver::kGranted:
      OnGranted(from.message.granted());
      break;
    case v1::ToDriver::kLeaseEnded:
      OnLeaseEnded(from.message.lease_ended());
      break;
    case v1::ToDriver::kInfeasible:
      OnInfeasible(from.message.infeasible());
      break;
    case v1::ToDriver::kRejected:
      OnRejected(from.message.rejected());
      break;
    case v1::ToDriver::kContended: {
      contended_ = from.message.contended().contended();
      if (!contended_) break;
      std::vector<LeaseNumber> idle;
      for (const auto& [number, lease] : leases_) {
        if (lease->state == LeaseState::kOpen && lease->in_flight.empty() && lease->group == 0)
          idle.push_back(number);
      }
      for (LeaseNumber number : idle) Close(*leases_.at(number));
      break;
    }
    case v1::ToDriver::kLog:
      actions_->push_back(Output{std::move(*from.message.mutable_log())});
      break;
    case v1::ToDriver::kLogsFlushed:
      actions_->push_back(Flushed{from.message.logs_flushed().sequence()});
      break;
    case v1::ToDriver::kStoreResult:
      actions_->push_back(StoreAnswer{std::move(*from.message.mutable_store_result())});
      break;
    case v1::ToDriver::kFindTasks:
      OnFindTasks(from.message.find_tasks());
      break;
    case v1::ToDriver::kDraining:
      OnDraining(from.message.draining());
      break;
    case v1::ToDriver::kStays:
      OnStays(from.message.stays());
      break;
    case v1::ToDriver::kNeedPackage:
      actions_->push_back(Upload{});
      break;
    default:
      break;  // A newer head's message.
  }
}

void DriverCore::On(const Tick&) {
  if (!welcomed_ && !gave_up_on_head_ && now_ >= head_away_since_ + config_.reconnect_timeout) {
    gave_up_on_head_ = true;
    for (auto& [number, task_class] : classes_) {
      if (task_class->leases.empty()) FailQueued(*task_class, HeadIsGone());
    }
  }
  std::vector<LeaseNumber> numbers;
  for (const auto& [number, lease] : leases_) numbers.push_back(number);
  for (LeaseNumber number : numbers) {
    const auto found = leases_.find(number);
    if (found == leases_.end()) continue;
    Lease& lease = *found->second;
    if (lease.state == LeaseState::kBroken && now_ >= lease.broken_at + config_.reason_timeout) {
      SettleBroken(lease, std::string(lease.broken_why), "");  // A copy: it forgets the lease.
    } else if (lease.state == LeaseState::kOpen && now_ >= lease.run_deadline) {
      if (lease.group != 0) {
        OnRankTimeout(*groups_.at(lease.group), lease);
        continue;
      }
      const TaskNumber late = lease.in_flight.front();
      Task& task = *tasks_.at(late);
      const std::string text = absl::StrCat(task.call.name, " ran longer than its timeout of ",
                                            absl::FormatDuration(task.timeout), " on node ",
                                            lease.node, " (pid ", lease.pid, ")");
      lease.in_flight.pop_front();
      Finish(late, absl::DeadlineExceededError(text), nullptr);
      KillLease(lease, text);
    } else if (lease.state == LeaseState::kOpen && lease.group == 0 && lease.in_flight.empty() &&
               now_ >= lease.idle_since + config_.idle_lease) {
      Close(lease);
    }
  }
  TickPlacementGroups();
  for (auto& [number, task_class] : classes_) {
    if (task_class->queued > 0 && task_class->requests.empty()) UpdateRequests(*task_class);
    if (!task_class->infeasible.empty() && task_class->queued > 0 &&
        now_ >= task_class->next_print) {
      PrintInfeasible(FrontName(*task_class), task_class->infeasible, task_class->next_print);
    }
  }
  std::vector<TaskNumber> group_numbers;
  for (const auto& [number, group] : groups_) group_numbers.push_back(number);
  for (TaskNumber number : group_numbers) {
    const auto group = groups_.find(number);
    if (group != groups_.end()) TickGroup(*group->second);
  }
  if (now_ >= next_backlog_) SendBacklog();
}

void DriverCore::FailQueued(TaskClass& task_class, const absl::Status& status, const char* joint) {
  std::vector<TaskNumber> failed;
  for (TaskNumber number : task_class.queue) {
    const auto task = tasks_.find(number);
    if (task != tasks_.end() && task->second->state == TaskState::kQueued) failed.push_back(number);
  }
  for (TaskNumber number : failed) {
    const auto task = tasks_.find(number);
    if (task == tasks_.end()) continue;
    Finish(
        number,
        absl::Status(status.code(), absl::StrCat(task->second->call.name, joint, status.message())),
        nullptr);
  }
  task_class.queue.clear();
  task_class.queued = 0;
  UpdateRequests(task_class);
}

// --- Pushing ---

size_t DriverCore::DepthOf(const TaskClass& task_class) const {
  if (task_class.run_ns < 0) return 1;
  const double ahead =
      absl::ToDoubleNanoseconds(config_.push_ahead) / std::max(task_class.run_ns, 1000.0);
  return static_cast<size_t>(
      std::clamp(ahead, 1.0, static_cast<double>(config_.tasks_per_push_max)));
}

void DriverCore::Pump(TaskClass& task_class) {
  const size_t depth = DepthOf(task_class);
  if (task_class.queued > 0) {
    // Idle leases first; then those with room, but only whole batches: what is in flight brings a
    // result soon, and that brings the next push.
    std::vector<LeaseNumber> ready(task_class.ready.begin(), task_class.ready.end());
    for (LeaseNumber number : ready) {
      Lease& lease = *leases_.at(number);
      if (!lease.in_flight.empty() || task_class.queued == 0) continue;
      // Shared out evenly, so that two idle leases work at once.
      const size_t share = (task_class.queued + ready.size() - 1) / ready.size();
      PushTo(task_class, lease, std::min(depth, share));
    }
    for (LeaseNumber number : ready) {
      Lease& lease = *leases_.at(number);
      const size_t room = depth > lease.in_flight.size() ? depth - lease.in_flight.size() : 0;
      if (room < 64 || task_class.queued < 64 * ready.size()) continue;
      PushTo(task_class, lease, room);
    }
  }
  UpdateRequests(task_class);
  if (task_class.queued > 0 && next_backlog_ == absl::InfiniteFuture())
    next_backlog_ = now_ + kBacklogInterval;
}

void DriverCore::PushTo(TaskClass& task_class, Lease& lease, size_t most) {
  // A task with a timeout goes alone.
  if (lease.hold || lease.run_deadline != absl::InfiniteFuture()) return;
  v1::ToExecutor message;
  v1::PushTasks& push = *message.mutable_push();
  while (most-- > 0) {
    Task* task = NextQueued(task_class);
    if (task == nullptr) break;
    const bool timed = task->timeout != absl::InfiniteDuration();
    if (timed && !lease.in_flight.empty()) {  // Its clock starts with the push: it goes alone.
      ++task_class.queued;
      task_class.queue.push_front(task->number);
      break;
    }
    task->state = TaskState::kPushed;
    task->lease = lease.number;
    lease.in_flight.push_back(task->number);
    v1::PushTask& out = *push.add_tasks();
    out.set_sequence(task->number);
    out.set_task_id(TaskIdOf(task->number));
    out.set_function(task->call.function);
    if (task->call.name != lease.last_name) {
      lease.last_name = task->call.name;
      out.set_name(task->call.name);
    }
    out.set_attempt(static_cast<uint32_t>(task->attempt));
    for (const ArgumentSlot& slot : task->call.arguments) out.add_arguments(*slot.value);
    if (timed) {
      lease.run_deadline = now_ + task->timeout;
      task_class.ready.erase(lease.number);
      break;
    }
  }
  if (push.tasks_size() == 0) return;
  task_class.progress_at = now_;
  actions_->push_back(ToExecutor{lease.number, std::move(message)});
}

absl::Status DriverCore::HeadIsGone() const {
  return absl::UnavailableError(absl::StrCat(
      head_away_why_.empty() ? absl::StrCat("no muster head at ", config_.address) : head_away_why_,
      " (waited ", absl::FormatDuration(config_.reconnect_timeout), " for it)"));
}

void DriverCore::UpdateRequests(TaskClass& task_class) {
  if (gave_up_on_head_ && task_class.queued > 0 && task_class.leases.empty()) {
    FailQueued(task_class, HeadIsGone());
    return;
  }
  size_t wanted = 0;
  if (task_class.queued > 0) {
    const double leases = static_cast<double>(task_class.leases.size());
    const double wait_ns =
        task_class.run_ns * static_cast<double>(task_class.queued) / std::max(leases, 1.0);
    // Whatever its tasks took so far: what runs now may take long.
    const bool stalls = now_ >= task_class.progress_at + config_.request_more_from;
    if (task_class.leases.empty() || task_class.run_ns < 0 || stalls ||
        wait_ns > absl::ToDoubleNanoseconds(config_.request_more_from)) {
      wanted = std::min(task_class.queued, config_.requests_max);
    }
  }
  while (task_class.requests.size() < wanted) {
    const uint64_t request = ++last_request_;
    task_class.requests.insert(request);
    request_class_[request] = task_class.number;
    SendRequest(request, task_class.number, task_class.spec,
                TaskFor(task_class, task_class.requests.size() - 1), task_class.failed_on);
  }
  // The youngest go first: the oldest have waited longest.
  while (task_class.requests.size() > wanted) {
    const uint64_t request = *task_class.requests.rbegin();
    task_class.requests.erase(request);
    request_class_.erase(request);
    v1::DriverMessage message;
    message.mutable_cancel()->set_request(request);
    Tell(std::move(message));
  }
}

std::string DriverCore::TaskFor(const TaskClass& task_class, size_t place) const {
  if (place >= task_class.queue.size()) return "";
  return TaskIdOf(task_class.queue[place]);
}

std::string DriverCore::FrontName(const TaskClass& task_class) const {
  for (TaskNumber number : task_class.queue) {
    const auto task = tasks_.find(number);
    if (task != tasks_.end() && task->second->state == TaskState::kQueued)
      return task->second->call.name;
  }
  return task_class.spec.name();
}

void DriverCore::PrintInfeasible(const std::string& name, const std::string& reason,
                                 absl::Time& next) {
  next = now_ + kPrintInterval;
  actions_->push_back(
      Print{absl::StrCat(name, " can run nowhere: ", reason, ". Waiting (on_infeasible=kWait).")});
}

void DriverCore::NoteFailure(FailedOn& failed_on, const std::string& node) {
  std::erase_if(failed_on,
                [&](const auto& entry) { return entry.first == node || entry.second <= now_; });
  failed_on.emplace_back(node, now_ + config_.avoid_failed_for);
  if (failed_on.size() > sched::kAvoidedNodesMax) failed_on.pop_front();
}

// In order, as the scheduler wants them.
std::vector<std::string> DriverCore::FailedNodes(const FailedOn& failed_on) const {
  std::vector<std::string> nodes;
  for (const auto& [node, until] : failed_on) {
    if (until > now_) nodes.push_back(node);
  }
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

void DriverCore::SendRequest(uint64_t request, ClassNumber task_class, const v1::RequestSpec& spec,
                             const std::string& task_id, const FailedOn& failed_on,
                             uint64_t instead_of) {
  v1::DriverMessage message;
  message.mutable_request()->set_request(request);
  message.mutable_request()->set_instead_of(instead_of);
  message.mutable_request()->set_task_class(task_class);
  *message.mutable_request()->mutable_spec() = spec;
  message.mutable_request()->set_task_id(task_id);
  for (std::string& node : FailedNodes(failed_on)) {
    message.mutable_request()->mutable_spec()->add_avoid(std::move(node));
  }
  Tell(std::move(message));
}

void DriverCore::Tell(v1::DriverMessage message) {
  if (link_up_) actions_->push_back(ToHead{std::move(message)});
}

TaskNumber DriverCore::GroupOfRequest(uint64_t request) const {
  const auto found = request_group_.find(request);
  return found == request_group_.end() ? 0 : found->second;
}

void DriverCore::CheckInvariants() const {
  for (const auto& [number, task_class] : classes_) {
    size_t queued = 0;
    for (TaskNumber task : task_class->queue) {
      const auto found = tasks_.find(task);
      if (found != tasks_.end() && found->second->state == TaskState::kQueued) ++queued;
    }
    MUSTER_CHECK(queued == task_class->queued);
    for (uint64_t request : task_class->requests)
      MUSTER_CHECK(request_class_.at(request) == number);
    for (LeaseNumber lease : task_class->ready) MUSTER_CHECK(task_class->leases.contains(lease));
  }
  for (const auto& [number, lease] : leases_) {
    MUSTER_CHECK(lease->number == number);
    for (TaskNumber task : lease->in_flight) {
      if (lease->group != 0) continue;
      const auto found = tasks_.find(task);
      MUSTER_CHECK(found != tasks_.end());
      MUSTER_CHECK(found->second->state == TaskState::kPushed);
      MUSTER_CHECK(found->second->lease == number);
    }
  }
}

}  // namespace muster::client
