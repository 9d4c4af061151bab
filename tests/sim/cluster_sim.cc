// The run: load and faults, then all healed and everything ended; what came of it.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

// --- Phases ---

void ClusterSim::Liveness() {
  const auto failed = [this] { return !checker_.errors().empty(); };
  healed_ = true;
  network_.spike = absl::ZeroDuration();
  if (head_ == nullptr) StartHead();
  const auto workers = workers_;  // One that thaws may end.
  for (const auto& [number, worker] : workers) Thaw(worker);
  if (!plan_.small) {
    plan_.workers.push_back(BigWorker());
    plan_.labels.push_back(BigLabels());
    StartWorker(plan_.workers.size() - 1);
  }
  clock_.After(absl::Seconds(5), [this] { CancelNowhere(); });
  const absl::Time by = clock_.now() + kDrainWithin;
  clock_.RunUntil(clock_.now() + absl::Seconds(6), failed);
  clock_.RunUntil(by, [&] { return failed() || Unfinished() == 0; });
  if (failed()) return;
  if (Unfinished() > 0) {
    FailUnfinished();
    return;
  }
  CheckOutcomes();
  clock_.RunUntil(clock_.now() + kForgetWithin, failed);
  CheckNothingLeft("while the drivers stay");
  CheckQuarantines();
  std::vector<std::shared_ptr<DriverProcess>> drivers;
  for (const auto& [id, driver] : drivers_) {
    if (!driver->nested) drivers.push_back(driver);
  }
  for (const auto& driver : drivers) SayGoodbye(driver);
  clock_.RunUntil(clock_.now() + kForgetWithin, failed);
  CheckNothingLeft("after the drivers' end");
  for (const auto& [number, worker] : workers_) {
    if (worker->core->executors() > 0) {
      checker_.Fail(absl::StrCat("worker ", number, " keeps ", worker->core->executors(),
                                 " executors of ended jobs"));
    }
  }
  if (open_questions_ > 0)
    checker_.Fail(absl::StrCat(open_questions_, " questions have no answer"));
  if (plan_.sharing_changes) CheckSharingOutlivesTheHead();
}

size_t ClusterSim::Unfinished() const {
  size_t unfinished = 0;
  for (const auto& [id, driver] : drivers_) {
    unfinished += driver->core->unfinished();
    for (const auto& group : driver->groups) unfinished += group->over ? 0 : 1;
  }
  return unfinished;
}

void ClusterSim::FailUnfinished() {
  for (const auto& [id, driver] : drivers_) {
    for (const auto& group : driver->groups) {
      if (group->over) continue;
      checker_.Fail(absl::StrCat("driver ", id, "'s placement group ", group->request,
                                 group->placed ? " does not end " : " is not placed ",
                                 absl::FormatDuration(kDrainWithin), " after all was healed"));
    }
    if (driver->core->unfinished() == 0) continue;
    std::string open;
    for (const auto& [number, task] : driver->tasks) {
      if (task->completions == 0)
        absl::StrAppend(&open, " ", number, task->ranks > 0 ? "(group)" : "");
    }
    checker_.Fail(absl::StrCat("driver ", id, " still has ", driver->core->unfinished(), " tasks ",
                               absl::FormatDuration(kDrainWithin), " after all was healed:", open));
  }
}

void ClusterSim::CheckOutcomes() {
  for (const auto& [id, driver] : drivers_) {
    for (const auto& [number, task] : driver->tasks) {
      if (task->completions == 0)
        checker_.Fail(absl::StrCat("task ", id, "/", number, " never ended"));
      if (!plan_.any_fault() && !task->may_fail && !task->status.ok()) {
        checker_.Fail(absl::StrCat("task ", id, "/", number, " (", task->class_name,
                                   ") ended without any fault as ", task->status.ToString()));
      }
    }
  }
}

void ClusterSim::CheckNothingLeft(const std::string& when) {
  const head::HeadCore::Counts counts = head_->core->Count();
  if (counts.requests != 0 || counts.leases != 0 || counts.drivers != drivers_.size()) {
    checker_.Fail(absl::StrCat(when, " the head has ", counts.requests, " requests, ",
                               counts.leases, " leases, ", counts.drivers, " drivers where ",
                               drivers_.size(), " are"));
  }
  const v1::StatusReply status = head_->core->Status(clock_.now());
  for (const v1::NodeStatus& node : status.nodes()) {
    if (node.state() == "lost") continue;
    v1::Resources none = node.used();
    none.clear_custom();
    if (none.ByteSizeLong() > 0)
      checker_.Fail(
          absl::StrCat(when, " node ", node.id(), " is in use: ", node.used().ShortDebugString()));
  }
  for (const auto& [number, worker] : workers_) {
    if (!worker->core->welcomed())
      checker_.Fail(absl::StrCat(when, " worker ", number, " has not joined"));
    if (worker->core->leases() > 0)
      checker_.Fail(
          absl::StrCat(when, " worker ", number, " has ", worker->core->leases(), " leases"));
  }
  for (const auto& [id, driver] : drivers_) {
    if (driver->core->leases() > 0)
      checker_.Fail(absl::StrCat(when, " driver ", id, " has ", driver->core->leases(), " leases"));
  }
}

SimResult ClusterSim::Result() {
  SimResult result;
  result.plan = plan_.ToString();
  for (const auto& task : kept_) {
    ++result.submitted;
    result.ended_once += task->completions == 1 ? 1 : 0;
    result.ended_ok += task->completions == 1 && task->status.ok() ? 1 : 0;
  }
  for (const auto& [id, driver] : drivers_) {
    for (const auto& [number, task] : driver->tasks) {
      ++result.submitted;
      result.ended_once += task->completions == 1 ? 1 : 0;
      result.ended_ok += task->completions == 1 && task->status.ok() ? 1 : 0;
    }
  }
  result.faults = faults_;
  result.trace = absl::StrFormat("%d steps, hash %016x", steps_, hash_);
  result.errors = checker_.errors();
  return result;
}

// --- The trace ---

void ClusterSim::Note(const char* who, uint64_t number, const char* what,
                      const google::protobuf::Message& message) {
  Note(who, number, what, message.SerializeAsString(), [&] { return message.ShortDebugString(); });
}

void ClusterSim::Note(const char* who, uint64_t number, const char* what, const std::string& text) {
  Note(who, number, what, text, [&] { return text; });
}

SimResult Simulate(uint64_t seed, const SimOptions& options) {
  return ClusterSim(seed, options).Run();
}

}  // namespace muster::sim
