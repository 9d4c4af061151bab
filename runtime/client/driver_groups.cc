// Groups: n ranks of one function, leased all or none, restarted together.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/client/driver_core.h"
#include "runtime/client/parts.h"
#include "runtime/wire/protocol.h"

namespace muster::client {

void DriverCore::On(SubmitGroup& submit) {
  auto group = std::make_unique<Group>();
  group->number = submit.task;
  group->name = absl::StrFormat("%016x/%d", config_.driver, submit.task);
  group->spec = std::move(submit.spec);
  group->call = std::move(submit.call);
  group->max_restarts = submit.max_restarts;
  group->timeout = submit.timeout;
  group->cookie = std::move(submit.cookie);
  Group& added = *group;
  groups_.emplace(submit.task, std::move(group));
  for (const ArgumentSlot& slot : added.call.arguments) {
    if (slot.value != nullptr) continue;
    if (const auto producer = tasks_.find(slot.producer); producer != tasks_.end()) {
      AddDependent(producer->second->dependents, added.number);
    } else if (const auto other = groups_.find(slot.producer); other != groups_.end()) {
      AddDependent(other->second->dependents, added.number);
    } else {
      continue;
    }
    ++added.arguments_missing;
  }
  if (added.arguments_missing > 0) {
    added.state = GroupState::kNeedsArguments;
    return;
  }
  LeaseGroup(added);
}

void DriverCore::LeaseGroup(Group& group) {
  group.state = GroupState::kLeasing;
  group.queued_at = now_;
  group.ranks.assign(group.spec.bundles(), Rank{});
  group.first_death.clear();
  group.dead_lease = 0;
  group.death_explained = false;
  group.rank_error = absl::OkStatus();
  group.rank_error_due = absl::InfiniteFuture();
  group.kill_at = absl::InfiniteFuture();
  group.infeasible.clear();
  group.left = false;
  group.request = ++last_request_;
  request_group_[group.request] = group.number;
  const uint64_t instead_of = std::exchange(group.kept_for, 0);
  if (instead_of != 0) {  // One move less.
    v1::ReturnToPreferred& back = *group.spec.mutable_return_to_preferred();
    back.set_moves(back.moves() - 1);
    if (back.moves() == 0) group.spec.clear_return_to_preferred();
  }
  SendRequest(group.request, 0, group.spec, TaskIdOf(group.number), group.failed_on, instead_of);
}

// Before all ranks had a lease, one ended: the others are given back, and all are asked for anew.
void DriverCore::LeaseGroupAgain(Group& group) {
  ReleaseRanks(group);
  LeaseGroup(group);
}

void DriverCore::ReleaseRanks(Group& group) {
  const bool partly = request_group_.erase(group.request) > 0;
  for (uint32_t rank = 0; rank < group.ranks.size(); ++rank) {
    const LeaseNumber number = group.ranks[rank].lease;
    if (number == 0) {
      if (!partly) continue;
      v1::LeaseKey key;
      key.set_driver(config_.driver);
      key.set_request(group.request);
      key.set_bundle(rank);
      ReturnLease(key, false, "another rank could not be had");
      continue;
    }
    const auto lease = leases_.find(number);
    if (lease != leases_.end()) Close(*lease->second);
  }
  if (!partly) return;
  v1::DriverMessage message;  // Where nothing was granted yet.
  message.mutable_cancel()->set_request(group.request);
  Tell(std::move(message));
}

void DriverCore::OnGroupGranted(Group& group, const v1::Granted& granted) {
  const uint32_t bundle = granted.lease().bundle();
  if (group.state != GroupState::kLeasing || bundle >= group.ranks.size()) {
    ReturnLease(granted.lease(), false, "the group does not wait for it");
    return;
  }
  auto lease = std::make_unique<Lease>();
  lease->number = ++last_lease_;
  lease->key = granted.lease();
  lease->group = group.number;
  lease->rank = bundle;
  lease->node = granted.node();
  lease->pid = granted.pid();
  lease->choice = granted.placement().choice();
  const LeaseNumber number = lease->number;
  leases_.emplace(number, std::move(lease));
  lease_of_key_[granted.lease().SerializeAsString()] = number;
  group.ranks[bundle].lease = number;
  actions_->push_back(Connect{number, granted});
  const bool all = std::all_of(group.ranks.begin(), group.ranks.end(),
                               [](const Rank& rank) { return rank.lease != 0; });
  if (all) RunGroup(group);
}

void DriverCore::RunGroup(Group& group) {
  group.state = GroupState::kRunning;
  group.start_failures = 0;
  request_group_.erase(group.request);
  for (uint32_t rank = 0; rank < group.ranks.size(); ++rank) {
    Lease& lease = *leases_.at(group.ranks[rank].lease);
    lease.in_flight.push_back(group.number);
    if (group.timeout != absl::InfiniteDuration()) lease.run_deadline = now_ + group.timeout;
    v1::ToExecutor message;
    v1::PushTask& task = *message.mutable_push()->add_tasks();
    task.set_sequence(group.number);
    task.set_task_id(TaskIdOf(group.number));
    task.set_function(group.call.function);
    task.set_name(group.call.name);
    task.set_attempt(group.generation);
    for (const ArgumentSlot& slot : group.call.arguments) task.add_arguments(*slot.value);
    task.mutable_group()->set_group(group.name);
    task.mutable_group()->set_generation(group.generation);
    task.mutable_group()->set_rank(rank);
    task.mutable_group()->set_size(static_cast<uint32_t>(group.ranks.size()));
    actions_->push_back(ToExecutor{lease.number, std::move(message)});
  }
}

void DriverCore::OnRankResult(Group& group, uint32_t rank, v1::TaskResult& result) {
  Rank& done = group.ranks[rank];
  if (done.over) return;
  done.over = true;
  Lease& lease = *leases_.at(done.lease);
  const std::string where = absl::StrCat("rank ", rank, " on node ", lease.node, ": ");
  lease.in_flight.clear();
  Close(lease);
  if (group.state == GroupState::kAborting) {  // What an aborted generation returns does not count.
    if (AllOver(group)) EndGeneration(group);
    return;
  }
  if (group.left) {  // As above; and an error may come of those who have left.
    if (AllOver(group)) EndGeneration(group);
    return;
  }
  if (result.code() != 0) {
    if (!group.rank_error.ok()) return;
    const auto code = static_cast<absl::StatusCode>(result.code());
    group.rank_error = absl::Status(code, absl::StrCat(where, result.message()));
    group.rank_error_due =
        now_ + (code == absl::StatusCode::kAborted ? config_.rank_abort_patience
                                                   : config_.rank_error_patience);
    return;
  }
  done.returned = true;
  done.value = std::move(*result.mutable_value());
  if (!AllOver(group) || !group.rank_error.ok()) return;
  std::vector<std::string> values;
  for (Rank& each : group.ranks) values.push_back(std::move(each.value));
  FinishGroup(group.number, absl::OkStatus(),
              std::make_shared<const std::string>(JoinParts(values)));
}

void DriverCore::OnRankDied(Group& group, const Lease& lease, const std::string& how, bool counts) {
  Rank& rank = group.ranks[lease.rank];
  if (rank.lease != lease.number || rank.over) return;
  rank.over = true;
  if (counts) NoteFailure(group.failed_on, lease.node);
  if (group.state == GroupState::kLeasing) {
    LeaseGroupAgain(group);
    return;
  }
  if (group.state == GroupState::kRunning) {
    group.dead_lease = lease.number;
    group.restart_counts = counts;
    group.first_death = absl::StrCat("rank ", lease.rank, " on node ", lease.node, " (pid ",
                                     lease.pid, ") died: ", how);
    AbortGroup(group, absl::AbortedError(absl::StrCat("rank ", lease.rank, " on node ", lease.node,
                                                      " (pid ", lease.pid, ") died")));
  }
  if (AllOver(group)) EndGeneration(group);
}

void DriverCore::OnDeathExplained(Group& group, const Lease& lease, const std::string& how,
                                  const std::string& last_stderr) {
  if (group.dead_lease != lease.number) return;
  group.death_explained = true;
  group.first_death = absl::StrCat("rank ", lease.rank, " on node ", lease.node, " (pid ",
                                   lease.pid, ") died: ", how);
  if (!last_stderr.empty())
    absl::StrAppend(&group.first_death, ". Last lines of its stderr: ", last_stderr);
  if (group.state == GroupState::kAborting && AllOver(group)) EndGeneration(group);
}

void DriverCore::OnRankTimeout(Group& group, Lease& lease) {
  lease.run_deadline = absl::InfiniteFuture();
  if (group.state != GroupState::kRunning) return;
  group.outcome = absl::DeadlineExceededError(
      absl::StrCat(group.call.name, ": rank ", lease.rank, " on node ", lease.node,
                   " ran longer than its timeout of ", absl::FormatDuration(group.timeout)));
  AbortGroup(group, absl::AbortedError(group.outcome.message()));
  group.kill_at = now_;
  TickGroup(group);
}

void DriverCore::AbortGroup(Group& group, const absl::Status& told) {
  if (group.state == GroupState::kLeasing) {
    ReleaseRanks(group);
    for (Rank& rank : group.ranks) rank.over = true;
    group.state = GroupState::kAborting;
    return;
  }
  if (group.state == GroupState::kAborting) return;
  group.state = GroupState::kAborting;
  group.kill_at = now_ + config_.abort_timeout;
  const absl::Status reason = absl::AbortedError(told.message());
  v1::DriverMessage abort;
  abort.mutable_store_abort()->set_group(group.name);
  abort.mutable_store_abort()->set_generation(group.generation);
  *abort.mutable_store_abort()->mutable_status() = ToProto(reason);
  Tell(std::move(abort));
  for (const Rank& rank : group.ranks) {
    if (rank.over) continue;
    v1::ToExecutor message;
    message.mutable_cancel()->set_sequence(group.number);
    *message.mutable_cancel()->mutable_abort() = ToProto(reason);
    actions_->push_back(ToExecutor{rank.lease, std::move(message)});
  }
}

bool DriverCore::AllOver(const Group& group) const {
  return std::all_of(group.ranks.begin(), group.ranks.end(),
                     [](const Rank& rank) { return rank.over; });
}

void DriverCore::EndGeneration(Group& group) {
  if (!group.outcome.ok()) {
    FinishGroup(group.number, group.outcome, nullptr);
    return;
  }
  const bool again =
      !group.restart_counts || group.max_restarts < 0 || group.restarts < group.max_restarts;
  if (!again) {
    if (!group.death_explained) return;  // It will be, or time is up for it.
    const std::string restarts =
        group.restarts == 1 ? "1 restart" : absl::StrCat(group.restarts, " restarts");
    FinishGroup(group.number,
                absl::AbortedError(absl::StrCat(group.call.name, " was aborted after ", restarts,
                                                ": ", group.first_death)),
                nullptr);
    return;
  }
  if (group.restart_counts) ++group.restarts;
  ++group.generation;
  LeaseGroup(group);
}

void DriverCore::FinishGroup(TaskNumber number, absl::Status status, Value value) {
  const auto found = groups_.find(number);
  if (found == groups_.end()) return;
  const std::unique_ptr<Group> group = std::move(found->second);
  groups_.erase(found);
  if (group->state == GroupState::kLeasing) ReleaseRanks(*group);
  // What is left of its leases may not speak of it any more.
  std::vector<LeaseNumber> leases;
  for (const auto& [lease_number, lease] : leases_) {
    if (lease->group == number) leases.push_back(lease_number);
  }
  for (LeaseNumber lease : leases) {
    Close(*leases_.at(lease));
    Forget(lease);
  }
  v1::DriverMessage close;
  close.mutable_store_close()->set_group(group->name);
  Tell(std::move(close));
  if (!group->completed) actions_->push_back(Complete{std::move(group->cookie), status, value});
  FinishDependents(group->dependents, number, status, value);
}

void DriverCore::TickGroup(Group& group) {
  if (group.state == GroupState::kLeasing && gave_up_on_head_) {
    const absl::Status gone = HeadIsGone();
    FinishGroup(group.number,
                absl::Status(gone.code(), absl::StrCat(group.call.name, ": ", gone.message())),
                nullptr);
    return;
  }
  if (group.state == GroupState::kLeasing && !group.infeasible.empty() &&
      now_ >= group.next_print) {
    PrintInfeasible(group.call.name, group.infeasible, group.next_print);
  }
  if (group.state == GroupState::kRunning && now_ >= group.rank_error_due) {
    group.rank_error_due = absl::InfiniteFuture();
    group.outcome = group.rank_error;
    AbortGroup(group, group.rank_error);
  }
  if (group.state != GroupState::kAborting) return;
  if (now_ >= group.kill_at) {
    group.kill_at = absl::InfiniteFuture();
    std::vector<LeaseNumber> late;
    for (Rank& rank : group.ranks) {
      if (!rank.over) late.push_back(rank.lease);
    }
    for (Rank& rank : group.ranks) rank.over = true;
    for (LeaseNumber lease : late) {
      KillLease(*leases_.at(lease),
                absl::StrCat("it did not return within ",
                             absl::FormatDuration(config_.abort_timeout), " of the group's abort"));
    }
  }
  if (AllOver(group)) EndGeneration(group);
}

}  // namespace muster::client
