// What executors run, and their links with the drivers.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

// --- Tasks ---

void ClusterSim::StartTask(const std::shared_ptr<ExecutorProcess>& process,
                           const v1::PushTask& push) {
  const v1::LeaseKey& lease = process->sim->held()->lease();
  const auto driver = drivers_.find(lease.driver());
  sim::Run run;
  run.driver = lease.driver();
  run.sequence = push.sequence();
  run.executor = process->sim->number();
  run.lease = lease.SerializeAsString();
  run.generation = push.group().generation();
  run.rank = push.group().rank();
  run.ranks = push.group().size();
  Note("executor", run.executor, "starts task", push);
  if (driver == drivers_.end()) return;  // Nobody will hear: the connection's end will end it.
  const std::shared_ptr<SimTask> task = driver->second->tasks.at(push.sequence());
  const auto worker = workers_.find(process->worker);
  if (!task->only_on.empty() && worker != workers_.end() &&
      worker->second->core->node_name() != task->only_on) {
    checker_.Fail(absl::StrCat("task ", run.driver, "/", run.sequence, " runs on node ",
                               worker->second->core->node_name(), ", and asked for ",
                               task->only_on));
  }
  const uint64_t number = checker_.Starts(run, *task, push.attempt());
  const uint64_t runs = process->sim->runs();
  const auto finish = [this, process, task, number, runs, sequence = push.sequence()] {
    if (!Runs(*process, runs)) return;  // It was cancelled.
    checker_.Finishes(number);
    Note("executor", process->sim->number(), "finishes task",
         absl::StrCat(task->driver, "/", sequence));
    process->sim->FinishTask(sequence,
                             task->fails ? absl::UnknownError("it fails") : absl::OkStatus(),
                             absl::StrCat(number));
  };
  if (run.ranks > 0) {
    // A rank meets all others first.
    const std::string meeting = absl::StrCat(run.driver, "/", run.sequence, "/", run.generation);
    std::vector<std::function<void()>>& met = meetings_[meeting];
    met.push_back([this, task, finish] { clock_.After(task->run, finish); });
    if (met.size() < run.ranks) return;
    for (const auto& go_on : std::exchange(met, {})) go_on();
    meetings_.erase(meeting);
    return;
  }
  if (task->children == 0) {
    clock_.After(task->run, finish);
    return;
  }
  clock_.After(task->run, [this, process, task, finish, runs] {
    if (Runs(*process, runs)) SubmitChildren(process, *task, finish);
  });
}

bool ClusterSim::Runs(const ExecutorProcess& process, uint64_t runs) {
  return !process.sim->dead() && process.sim->running().has_value() && process.sim->runs() == runs;
}

void ClusterSim::CancelRunning(const std::shared_ptr<ExecutorProcess>& process, bool aborted) {
  const v1::PushTask push = *process->sim->running();
  const auto driver = drivers_.find(process->sim->held()->lease().driver());
  if (driver == drivers_.end() || !driver->second->tasks.at(push.sequence())->cooperates) return;
  clock_.After(absl::Milliseconds(1), [this, process, aborted, runs = process->sim->runs(),
                                       sequence = push.sequence()] {
    if (!Runs(*process, runs)) return;
    if (process->nested != nullptr && process->nested->when_children_end != nullptr) {
      process->nested->when_children_end = nullptr;
      Step(process->nested, client::TaskWaits{false, process->sim->held()->lease()},
           "waits no longer");
    }
    process->sim->FinishTask(
        sequence, aborted ? absl::AbortedError("aborted") : absl::CancelledError("cancelled"), "");
  });
}

// Some save and leave, some only after their deadline, some not at all.
void ClusterSim::LeaveSoon(const std::shared_ptr<ExecutorProcess>& process) {
  if (prng_.Percent(30)) return;
  const bool from_aside = prng_.Percent(50);
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
               [this, process, from_aside, runs = process->sim->runs()] {
                 if (!Runs(*process, runs) || !process->sim->told() || process->sim->has_left()) {
                   return;
                 }
                 if (process->nested != nullptr && process->nested->when_children_end != nullptr) {
                   return;  // It waits for others, on the thread that would leave.
                 }
                 Note("executor", process->sim->number(), "leaves",
                      from_aside ? "from aside" : "by itself");
                 process->sim->Leave(from_aside);
               });
}

void ClusterSim::SubmitChildren(const std::shared_ptr<ExecutorProcess>& process,
                                const SimTask& task, std::function<void()> finish) {
  const v1::LeaseKey lease = process->sim->held()->lease();
  if (process->nested == nullptr) {
    process->nested = MakeDriver(process->sim->held()->job(), &lease);
    v1::RequestSpec spec;
    spec.set_bundles(1);
    spec.add_choices()->mutable_resources()->set_cpus(5000);
    spec.set_name("child");
    process->nested->classes.emplace_back(process->nested->core->AddClass(spec),
                                          DrawnSpec{spec, false});
  }
  const std::shared_ptr<DriverProcess> nested = process->nested;
  nested->children_left = task.children;
  ++nested->family;
  nested->when_children_end = [this, process, nested, lease, finish = std::move(finish)] {
    if (process->sim->dead()) return;
    Step(nested, client::TaskWaits{false, lease}, "waits no longer");
    finish();
  };
  process->sim->Block();
  checker_.Lends(process->worker, process->sim->number());
  for (int i = 0; i < task.children; ++i) {
    auto child = std::make_shared<SimTask>();
    child->run = prng_.Between(absl::Microseconds(50), absl::Milliseconds(300));
    child->max_retries = 3;
    child->class_name = "child";
    child->may_fail = plan_.queued_tasks_max < 1000;
    child->family = nested->family;
    Submit(nested, child, nested->classes[0].first, {});
  }
  Step(nested, client::TaskWaits{true, lease}, "waits");
}

// --- Data links ---

void ClusterSim::ToDriver(const std::shared_ptr<DataLink>& link, const v1::FromExecutor& sent) {
  link->to_driver.Send([this, link, bytes = sent.SerializeAsString()] {
    const auto driver = drivers_.find(link->driver);
    if (driver == drivers_.end() || !driver->second->links.contains(link->lease)) return;
    v1::FromExecutor message;
    Parse(bytes, message);
    for (const v1::TaskResult& result : message.results().results()) {
      if (!result.left()) checker_.Arrives(result.value());
    }
    Note("driver", link->driver, "<- executor", message);
    Step(driver->second, client::FromExecutor{link->lease, std::move(message)}, nullptr);
  });
}

void ClusterSim::CloseFromExecutor(const std::shared_ptr<DataLink>& link, const std::string& why) {
  data_.erase(link->id);
  link->to_driver.Send([this, link, why] { DriverSeesEnd(link, why); });
}

void ClusterSim::DriverSeesEnd(const std::shared_ptr<DataLink>& link, const std::string& why) {
  const auto driver = drivers_.find(link->driver);
  if (driver == drivers_.end() || driver->second->links.erase(link->lease) == 0) return;
  Step(driver->second, client::LeaseBroke{link->lease, why}, "lease broke");
}

void ClusterSim::CloseFromDriver(const std::shared_ptr<DataLink>& link) {
  link->to_executor.Send([this, link] {
    if (data_.erase(link->id) > 0) link->executor->OnClosed(link->id);
  });
}

void ClusterSim::BreakData(const std::shared_ptr<DataLink>& link) {
  link->to_executor.Cut();
  link->to_driver.Cut();
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(100)),
               [this, link] { DriverSeesEnd(link, "the connection broke"); });
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(100)), [this, link] {
    if (data_.erase(link->id) > 0) link->executor->OnClosed(link->id);
  });
}

}  // namespace muster::sim
