// Leases: how they come, serve, break and end.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/client/driver_core.h"
#include "runtime/wire/protocol.h"

namespace muster::client {
namespace {

constexpr int kStartFailuresMax = 3;
constexpr size_t kFoundTasksMax = 10;
constexpr size_t kBacklogIdsMax = 100;

std::string WithStderr(std::string text, const std::string& last_stderr) {
  if (!last_stderr.empty()) absl::StrAppend(&text, ". Last lines of its stderr: ", last_stderr);
  return text;
}

}  // namespace

void DriverCore::OnGranted(const v1::Granted& granted) {
  const std::string key = granted.lease().SerializeAsString();
  if (lease_of_key_.contains(key)) return;  // Said again after a reconnect.
  const uint64_t request = granted.lease().request();
  if (const auto placed = placement_groups_.find(request); placed != placement_groups_.end()) {
    return OnBundlePlaced(placed->second, granted);
  }
  if (const TaskNumber group = GroupOfRequest(request); group != 0) {
    OnGroupGranted(*groups_.at(group), granted);
    return;
  }
  const auto wanted = request_class_.find(request);
  if (wanted == request_class_.end()) {
    ReturnLease(granted.lease(), false, "no task waits for it any more");
    return;
  }
  TaskClass& task_class = *classes_.at(wanted->second);
  request_class_.erase(wanted);
  task_class.requests.erase(request);
  task_class.start_failures = 0;
  task_class.progress_at = now_;
  task_class.infeasible.clear();
  auto lease = std::make_unique<Lease>();
  lease->number = ++last_lease_;
  lease->key = granted.lease();
  lease->task_class = task_class.number;
  lease->node = granted.node();
  lease->pid = granted.pid();
  lease->choice = granted.placement().choice();
  lease->idle_since = now_;
  const LeaseNumber number = lease->number;
  leases_.emplace(number, std::move(lease));
  lease_of_key_[key] = number;
  task_class.leases.insert(number);
  task_class.ready.insert(number);
  actions_->push_back(Connect{number, granted});
  Pump(task_class);
  Lease& idle = *leases_.at(number);
  if (contended_ && idle.in_flight.empty() && task_class.queued == 0) Close(idle);
}

void DriverCore::OnLeaseEnded(const v1::LeaseEnded& ended) {
  if (const auto placed = placement_groups_.find(ended.lease().request());
      placed != placement_groups_.end()) {
    return OnBundleLost(placed->second, ended.lease().bundle());
  }
  const auto known = lease_of_key_.find(ended.lease().SerializeAsString());
  // A death on a node that is going away, or one that the head ordered, costs no retry.
  const bool counts =
      ended.end() == v1::LEASE_END_EXECUTOR_DIED || ended.end() == v1::LEASE_END_NODE_LOST;
  if (known != lease_of_key_.end()) {
    const LeaseNumber number = known->second;
    Lease& lease = *leases_.at(number);
    if (lease.state == LeaseState::kOpen)
      BreakLease(lease, ended.message(), counts && !lease.draining);
    const auto broken = leases_.find(number);  // Gone, where its group ended with it.
    if (broken != leases_.end())
      SettleBroken(*broken->second, ended.message(), ended.last_stderr());
    return;
  }
  // It ended before it was granted: its request is used up.
  const uint64_t request = ended.lease().request();
  if (const TaskNumber number = GroupOfRequest(request); number != 0) {
    Group& group = *groups_.at(number);
    if (group.state != GroupState::kLeasing || group.request != request) return;
    if (ended.end() == v1::LEASE_END_START_FAILED && ++group.start_failures > kStartFailuresMax) {
      FinishGroup(number,
                  absl::UnavailableError(absl::StrCat(group.call.name, ": ", ended.message())),
                  nullptr);
      return;
    }
    LeaseGroupAgain(group);
    return;
  }
  const auto wanted = request_class_.find(request);
  if (wanted == request_class_.end()) return;
  TaskClass& task_class = *classes_.at(wanted->second);
  request_class_.erase(wanted);
  task_class.requests.erase(request);
  if (ended.end() == v1::LEASE_END_START_FAILED) OnStartFailed(task_class, ended);
  UpdateRequests(task_class);
}

void DriverCore::OnStartFailed(TaskClass& task_class, const v1::LeaseEnded& ended) {
  if (++task_class.start_failures <= kStartFailuresMax) return;
  task_class.start_failures = 0;
  FailQueued(task_class, absl::UnavailableError(ended.message()));
}

void DriverCore::OnInfeasible(const v1::Infeasible& message) {
  if (const auto placed = placement_groups_.find(message.request());
      placed != placement_groups_.end()) {
    return OnGroupInfeasible(placed->second, message);
  }
  if (const TaskNumber number = GroupOfRequest(message.request()); number != 0) {
    Group& group = *groups_.at(number);
    if (message.failed()) {
      FinishGroup(number,
                  absl::FailedPreconditionError(
                      absl::StrCat(group.call.name, " can run nowhere: ", message.reason())),
                  nullptr);
      return;
    }
    group.infeasible = message.reason();
    PrintInfeasible(group.call.name, message.reason(), group.next_print);
    return;
  }
  const auto wanted = request_class_.find(message.request());
  if (wanted == request_class_.end()) return;
  TaskClass& task_class = *classes_.at(wanted->second);
  if (message.failed()) {
    task_class.requests.erase(message.request());
    request_class_.erase(wanted);
    FailQueued(task_class,
               absl::FailedPreconditionError(absl::StrCat("can run nowhere: ", message.reason())),
               " ");
    return;
  }
  const bool news = task_class.infeasible != message.reason();
  task_class.infeasible = message.reason();
  if (news || now_ >= task_class.next_print) {
    PrintInfeasible(FrontName(task_class), message.reason(), task_class.next_print);
  }
}

void DriverCore::OnRejected(const v1::Rejected& message) {
  const absl::Status status = FromProto(message.status());
  if (const auto placed = placement_groups_.find(message.request());
      placed != placement_groups_.end()) {
    return FailGroup(placed->second, status);
  }
  if (const TaskNumber number = GroupOfRequest(message.request()); number != 0) {
    FinishGroup(number, status, nullptr);
    return;
  }
  const auto wanted = request_class_.find(message.request());
  if (wanted == request_class_.end()) return;
  TaskClass& task_class = *classes_.at(wanted->second);
  task_class.requests.erase(message.request());
  request_class_.erase(wanted);
  FailQueued(task_class, status);
}

// --- What executors say ---

void DriverCore::On(FromExecutor& from) {
  const auto found = leases_.find(from.lease);
  if (found == leases_.end() || found->second->state != LeaseState::kOpen)
    return;  // Too late to count.
  Lease& lease = *found->second;
  switch (from.message.what_case()) {
    case v1::FromExecutor::kResults:
      OnResults(lease, *from.message.mutable_results());
      break;
    case v1::FromExecutor::kNotStarted:
      OnNotStarted(lease, from.message.not_started());
      break;
    case v1::FromExecutor::kOpened: {
      const absl::Status refused = FromProto(from.message.opened().refused());
      if (!refused.ok()) BreakLease(lease, std::string(refused.message()), false);
      break;
    }
    default:
      break;
  }
}

void DriverCore::OnResults(Lease& lease, v1::TaskResults& results) {
  if (results.results_size() > 0 && results.results(results.results_size() - 1).left()) {
    results.mutable_results()->RemoveLast();
    const LeaseNumber number = lease.number;
    if (results.results_size() > 0) OnResults(lease, results);
    const auto still = leases_.find(number);
    if (still != leases_.end()) OnLeft(*still->second);
    return;
  }
  if (lease.group != 0) {
    if (results.results_size() > 0)
      OnRankResult(*groups_.at(lease.group), lease.rank, *results.mutable_results(0));
    return;
  }
  const LeaseNumber number = lease.number;  // It may be closed below.
  TaskClass& task_class = *classes_.at(lease.task_class);
  for (v1::TaskResult& result : *results.mutable_results()) {
    const auto at = std::find(lease.in_flight.begin(), lease.in_flight.end(), result.sequence());
    if (at == lease.in_flight.end()) continue;
    lease.in_flight.erase(at);
    const double run_ns = static_cast<double>(result.run_ns());
    task_class.run_ns = task_class.run_ns < 0 ? run_ns : 0.9 * task_class.run_ns + 0.1 * run_ns;
    if (result.code() == 0) {
      Finish(result.sequence(), absl::OkStatus(),
             std::make_shared<const std::string>(std::move(*result.mutable_value())));
    } else {
      Finish(result.sequence(),
             absl::Status(static_cast<absl::StatusCode>(result.code()), result.message()), nullptr);
    }
  }
  task_class.progress_at = now_;
  if (lease.in_flight.empty()) {
    lease.hold = false;
    lease.idle_since = now_;
    lease.run_deadline = absl::InfiniteFuture();
    if (lease.draining) {
      Close(lease);
    } else {
      task_class.ready.insert(lease.number);
    }
  }
  Pump(task_class);
  const auto still = leases_.find(number);
  if (still != leases_.end() && contended_ && still->second->in_flight.empty() &&
      task_class.queued == 0) {
    Close(*still->second);
  }
}

void DriverCore::OnNotStarted(Lease& lease, const v1::NotStarted& message) {
  if (lease.group != 0) return;
  TaskClass& task_class = *classes_.at(lease.task_class);
  lease.hold = true;  // A long task has it: others would only wait behind.
  for (int i = message.sequences_size() - 1; i >= 0; --i) {
    const TaskNumber number = message.sequences(i);
    const auto at = std::find(lease.in_flight.begin(), lease.in_flight.end(), number);
    if (at == lease.in_flight.end()) continue;
    lease.in_flight.erase(at);
    Task& task = *tasks_.at(number);
    if (task.cancelled) {
      tasks_.erase(number);
    } else {
      Enqueue(task, /*front=*/true);
    }
  }
  // What was thought to be short is not.
  task_class.run_ns =
      std::max(task_class.run_ns, absl::ToDoubleNanoseconds(config_.push_ahead) * 2);
  Pump(task_class);
}

void DriverCore::On(const LeaseBroke& broke) {
  const auto found = leases_.find(broke.lease);
  if (found == leases_.end() || found->second->state != LeaseState::kOpen) return;
  BreakLease(*found->second, broke.why, !found->second->draining);
}

// --- Ends ---

void DriverCore::BreakLease(Lease& lease, const std::string& why, bool counts) {
  lease.state = LeaseState::kBroken;
  lease.broken_at = now_;
  lease.broken_why = why;
  lease.run_deadline = absl::InfiniteFuture();
  actions_->push_back(CloseConnection{lease.number, /*clean=*/false});
  ReturnLease(lease.key, true, why);
  if (lease.group != 0) {
    OnRankDied(*groups_.at(lease.group), lease, why, counts);
    return;
  }
  TaskClass& task_class = *classes_.at(lease.task_class);
  if (counts) NoteFailure(task_class.failed_on, lease.node);
  task_class.leases.erase(lease.number);
  task_class.ready.erase(lease.number);
  // The first had started, perhaps; those behind it had not. Put back in order, from the last.
  std::deque<TaskNumber> held = std::exchange(lease.in_flight, {});
  while (!held.empty()) {
    const TaskNumber number = held.back();
    held.pop_back();
    Task& task = *tasks_.at(number);
    if (task.cancelled) {
      tasks_.erase(number);
      continue;
    }
    const bool started = held.empty() && counts;
    if (started && task.max_retries >= 0 && task.attempt >= task.max_retries) {
      lease.in_flight.push_front(number);  // Out of attempts: it fails once it is known how.
      continue;
    }
    if (started) ++task.attempt;
    Enqueue(task, /*front=*/true);
  }
  Pump(task_class);
}

void DriverCore::SettleBroken(Lease& lease, const std::string& how,
                              const std::string& last_stderr) {
  if (lease.state != LeaseState::kBroken) return;
  if (lease.group != 0) {
    const auto group = groups_.find(lease.group);
    const LeaseNumber number = lease.number;
    if (group != groups_.end()) OnDeathExplained(*group->second, lease, how, last_stderr);
    Forget(number);
    return;
  }
  const std::deque<TaskNumber> failed = std::exchange(lease.in_flight, {});
  const std::string where =
      absl::StrCat(" failed on node ", lease.node, " (pid ", lease.pid, ") after ");
  Forget(lease.number);
  for (TaskNumber number : failed) {
    const Task& task = *tasks_.at(number);
    const std::string attempts =
        task.attempt == 0 ? "1 attempt" : absl::StrCat(task.attempt + 1, " attempts");
    Finish(number,
           absl::UnavailableError(
               WithStderr(absl::StrCat(task.call.name, where, attempts, ": ", how), last_stderr)),
           nullptr);
  }
}

void DriverCore::Close(Lease& lease) {
  if (lease.state != LeaseState::kOpen) return;
  v1::ToExecutor message;
  message.mutable_close();
  actions_->push_back(ToExecutor{lease.number, std::move(message)});
  actions_->push_back(CloseConnection{lease.number, /*clean=*/true});
  Forget(lease.number);
}

void DriverCore::KillLease(Lease& lease, const std::string& why) {
  if (lease.state != LeaseState::kOpen) return;
  v1::DriverMessage message;
  *message.mutable_kill_lease()->mutable_lease() = lease.key;
  message.mutable_kill_lease()->set_why(why);
  Tell(std::move(message));
  BreakLease(lease, why, /*counts=*/false);
}

void DriverCore::ReturnLease(const v1::LeaseKey& key, bool broken, const std::string& why) {
  v1::DriverMessage message;
  *message.mutable_return_lease()->mutable_lease() = key;
  message.mutable_return_lease()->set_broken(broken);
  message.mutable_return_lease()->set_why(why);
  Tell(std::move(message));
}

void DriverCore::Forget(LeaseNumber number) {
  const auto found = leases_.find(number);
  if (found == leases_.end()) return;
  if (found->second->task_class != 0) {
    TaskClass& task_class = *classes_.at(found->second->task_class);
    task_class.leases.erase(number);
    task_class.ready.erase(number);
  }
  lease_of_key_.erase(found->second->key.SerializeAsString());
  leases_.erase(found);
}

// --- Reports ---

void DriverCore::SendBacklog() {
  next_backlog_ = absl::InfiniteFuture();
  v1::DriverMessage message;
  v1::Backlog& backlog = *message.mutable_backlog();
  for (const auto& [number, task_class] : classes_) {
    if (task_class->queued == 0) continue;
    v1::Backlog::Class& row = *backlog.add_classes();
    row.set_task_class(number);
    row.set_queued(task_class->queued);
    for (TaskNumber task : task_class->queue) {
      if (static_cast<size_t>(row.task_ids_size()) >= kBacklogIdsMax) break;
      const auto found = tasks_.find(task);
      if (found != tasks_.end() && found->second->state == TaskState::kQueued)
        row.add_task_ids(TaskIdOf(task));
    }
    next_backlog_ = now_ + absl::Milliseconds(250);
  }
  Tell(std::move(message));
}

void DriverCore::OnFindTasks(const v1::FindTasks& find) {
  v1::DriverMessage message;
  v1::TasksFound& answer = *message.mutable_tasks_found();
  answer.set_query(find.query());
  std::vector<TaskNumber> numbers;
  for (const auto& [number, task] : tasks_) {  // In no order: sorted below.
    if (!task->cancelled && absl::StartsWith(TaskIdOf(number), find.prefix()))
      numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  for (TaskNumber number : numbers) {
    if (static_cast<size_t>(answer.tasks_size()) >= kFoundTasksMax) break;
    const Task& task = *tasks_.at(number);
    v1::FoundTask& found = *answer.add_tasks();
    found.set_task_id(TaskIdOf(number));
    found.set_name(task.call.name);
    if (task.state == TaskState::kNeedsArguments) {
      found.set_state("waiting for arguments");
      found.set_detail(absl::StrCat(task.arguments_missing, " of ", task.call.arguments.size(),
                                    " are not there yet"));
      continue;
    }
    if (task.state == TaskState::kPushed) {
      found.set_state("running");
      *found.mutable_lease() = leases_.at(task.lease)->key;
      continue;
    }
    found.set_state("waiting");
    found.set_waited_ns(absl::ToInt64Nanoseconds(now_ - task.queued_at));
    const TaskClass& task_class = *classes_.at(task.task_class);
    if (!task_class.requests.empty()) found.set_request(*task_class.requests.begin());
    uint64_t before = 0;
    for (TaskNumber other : task_class.queue) {
      if (other == number) break;
      const auto earlier = tasks_.find(other);
      if (earlier != tasks_.end() && earlier->second->state == TaskState::kQueued) ++before;
    }
    found.set_before_in_class(before);
  }
  FindGroups(find, answer);
  for (const auto& [number, group] : groups_) {
    if (!absl::StartsWith(TaskIdOf(number), find.prefix())) continue;
    v1::FoundTask& found = *answer.add_tasks();
    found.set_task_id(TaskIdOf(number));
    found.set_name(group->call.name);
    switch (group->state) {
      case GroupState::kNeedsArguments:
        found.set_state("waiting for arguments");
        break;
      case GroupState::kLeasing:
        found.set_state("waiting");
        found.set_request(group->request);
        found.set_waited_ns(absl::ToInt64Nanoseconds(now_ - group->queued_at));
        break;
      case GroupState::kRunning:
        found.set_state("running");
        if (const auto lease = leases_.find(group->ranks[0].lease); lease != leases_.end()) {
          *found.mutable_lease() = lease->second->key;
        }
        break;
      case GroupState::kAborting:
        found.set_state("being aborted");
        found.set_detail(group->first_death);
        break;
    }
  }
  ended_.NewestFirst([&](const EndedTask& ended) {
    if (static_cast<size_t>(answer.tasks_size()) >= kFoundTasksMax) return false;
    if (!absl::StartsWith(TaskIdOf(ended.task), find.prefix())) return true;
    v1::FoundTask& found = *answer.add_tasks();
    found.set_task_id(TaskIdOf(ended.task));
    found.set_name(classes_.at(ended.task_class)->spec.name());
    found.set_state(ended.failed ? "failed" : "finished");
    found.mutable_lease()->set_driver(config_.driver);
    found.mutable_lease()->set_request(ended.request);
    found.mutable_lease()->set_bundle(ended.bundle);
    return true;
  });
  Tell(std::move(message));
}

}  // namespace muster::client
