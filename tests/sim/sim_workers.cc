// Workers and their executors.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

// --- Workers ---

void ClusterSim::StartWorker(size_t slot) {
  auto worker = std::make_shared<WorkerProcess>();
  worker->number = ++last_worker_;
  worker->slot = slot;
  worker::WorkerConfig config;
  config.worker = prng_.Next();
  config.start = clock_.now();
  config.drain_timeout = prng_.Between(absl::Milliseconds(100), absl::Seconds(10));
  config.idle_executors_max = plan_.idle_executors_max;
  config.hello.set_host_id(absl::StrCat("host ", slot % 2));
  config.hello.set_host("host");
  *config.hello.mutable_resources() = plan_.workers[slot];
  for (const v1::Entry& label : plan_.labels[slot]) *config.hello.add_labels() = label;
  worker->core = std::make_unique<worker::WorkerCore>(config);
  workers_.emplace(worker->number, worker);
  checker_.WorkerStarts(worker->number, plan_.workers[slot]);
  Note("worker", worker->number, "starts");
  Connect(worker);
  ArmTick(worker);
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::ToHead& to) {
  SendToHead(worker->stream, to.message.SerializeAsString());
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::ToExecutor& to) {
  const auto found = worker->executors.find(to.executor);
  if (found == worker->executors.end()) return;
  const std::shared_ptr<ExecutorProcess> process = found->second;
  process->to_executor.Send([this, process, bytes = to.message.SerializeAsString()] {
    if (process->gone || process->sim == nullptr) return;
    v1::WorkerToExecutor message;
    Parse(bytes, message);
    Note("executor", process->sim->number(), "<- worker", message);
    process->sim->OnControl(message);
  });
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::Spawn& spawn) {
  auto process = std::make_shared<ExecutorProcess>(spawn.executor, network_);
  process->worker = worker->number;
  worker->executors.emplace(spawn.executor, process);
  const bool fails = plan_.start_failure && !healed_ && prng_.Percent(30);
  clock_.After(prng_.Between(absl::Milliseconds(1), absl::Milliseconds(300)),
               [this, worker, process, fails] {
                 if (process->gone) return;
                 if (fails) {
                   EndExecutor(process, "exit status 127");
                   return;
                 }
                 MakeExecutor(worker, process);
               });
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::Kill& kill) {
  const auto found = worker->executors.find(kill.executor);
  if (found == worker->executors.end()) return;
  const std::shared_ptr<ExecutorProcess> process = found->second;
  if (options_.plant == Plant::kExitTooSoon) {
    process->to_worker.Send([this, worker, process] { TellExit(worker, process, "killed"); });
  }
  clock_.After(prng_.Between(absl::ZeroDuration(),
                             absl::Milliseconds(options_.plant == Plant::kExitTooSoon ? 500 : 20)),
               [this, process] { EndExecutor(process, "killed by signal 9 (killed)"); });
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::Flush& flush) {
  v1::WorkerMessage message;
  message.mutable_logs_flushed()->set_driver(flush.driver);
  message.mutable_logs_flushed()->set_sequence(flush.sequence);
  SendToHead(worker->stream, message.SerializeAsString());
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::DrawIdentity&) {
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(1)), [this, worker] {
    Reach(worker,
          [this, worker] { Step(worker, worker::NewIdentity{prng_.Next()}, "new identity"); });
  });
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::Reconnect&) {
  if (worker->stream != nullptr)
    CloseFromProcess(std::exchange(worker->stream, nullptr), /*flush=*/true);
  Connect(worker);
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::End& end) {
  Note("worker", worker->number, "ends", end.status.ToString());
  EndWorker(worker, /*crash=*/false);
}

void ClusterSim::Do(const WorkerPtr& worker, const worker::Say& say) {
  Note("worker", worker->number, "says", say.text);
}

void ClusterSim::ArmTick(const WorkerPtr& worker) {
  Arm(worker, [this, worker] {
    Reach(worker, [this, worker] {
      if (worker->core->NextTick() > clock_.now()) {
        ArmTick(worker);
        return;
      }
      Step(worker, worker::Tick{}, "tick");
      if (!worker->dead && worker->core->NextTick() <= clock_.now())
        checker_.Fail("a worker's tick is due again at once");
    });
  });
}

void ClusterSim::EndWorker(const WorkerPtr& worker, bool crash) {
  worker->dead = true;
  if (worker->stream != nullptr) {
    if (crash) {
      const std::shared_ptr<Stream> stream = std::exchange(worker->stream, nullptr);
      stream->to_head.Cut();
      stream->to_process.Cut();
      clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
                   [this, stream, head = head_] { HeadSeesEnd(head, stream); });
    } else {
      CloseFromProcess(std::exchange(worker->stream, nullptr), /*flush=*/true);
    }
  }
  for (const auto& [id, process] : worker->executors) {  // Their links to the worker end.
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(50)),
                 [this, process = process] { EndExecutor(process, "its worker is gone"); });
  }
  clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(5)),
               [this, slot = worker->slot] { StartWorker(slot); });
  worker->deferred.clear();
  workers_.erase(worker->number);
}

void ClusterSim::Thaw(const WorkerPtr& worker) {
  if (!worker->frozen) return;
  Note("worker", worker->number, "thaws");
  worker->frozen = false;
  std::deque<std::function<void()>> deferred = std::exchange(worker->deferred, {});
  for (const auto& what : deferred) Reach(worker, what);
}

// --- Executors ---

void ClusterSim::MakeExecutor(const WorkerPtr& worker,
                              const std::shared_ptr<ExecutorProcess>& process) {
  const std::weak_ptr<ExecutorProcess> weak = process;
  SimExecutor::Owner owner;
  owner.to_worker = [this, weak](const v1::ExecutorToWorker& message) {
    ToWorker(weak.lock(), message);
  };
  owner.to_driver = [this](uint64_t connection, const v1::FromExecutor& message) {
    if (const auto link = data_.find(connection); link != data_.end())
      ToDriver(link->second, message);
  };
  owner.close_driver = [this](uint64_t connection) {
    if (const auto link = data_.find(connection); link != data_.end())
      CloseFromExecutor(link->second, "refused");
  };
  owner.start = [this, weak](const v1::PushTask& task) { StartTask(weak.lock(), task); };
  owner.cancel = [this, weak](bool aborted) { CancelRunning(weak.lock(), aborted); };
  owner.told = [this, weak] { LeaveSoon(weak.lock()); };
  owner.lease_changed = [this, weak] {
    const std::shared_ptr<ExecutorProcess> changed = weak.lock();
    checker_.Holds(changed->worker, changed->sim->number(), changed->sim->held());
  };
  owner.end = [this, weak] { EndExecutor(weak.lock(), "killed by signal 9 (killed)"); };
  process->sim = std::make_shared<SimExecutor>(clock_, ++last_executor_, absl::StrCat(prng_.Next()),
                                               std::move(owner));
  Note("executor", process->sim->number(), "starts", absl::StrCat("on worker ", worker->number));
  v1::ExecutorToWorker ready;
  *ready.mutable_ready()->mutable_protocol() = OurProtocol();
  ready.mutable_ready()->set_build_id(kBuildId);
  ready.mutable_ready()->set_pid(static_cast<int32_t>(process->sim->number()));
  ToWorker(process, ready);
}

void ClusterSim::ToWorker(const std::shared_ptr<ExecutorProcess>& process,
                          const v1::ExecutorToWorker& sent) {
  process->to_worker.Send([this, process, bytes = sent.SerializeAsString()] {
    const auto worker = workers_.find(process->worker);
    if (worker == workers_.end()) return;
    Reach(worker->second, [this, worker = worker->second, process, bytes] {
      if (!worker->executors.contains(process->id)) return;
      v1::ExecutorToWorker message;
      Parse(bytes, message);
      Note("worker", worker->number, "<- executor", message);
      Step(worker, worker::FromExecutor{process->id, std::move(message)}, nullptr);
    });
  });
}

void ClusterSim::EndExecutor(const std::shared_ptr<ExecutorProcess>& process,
                             const std::string& how) {
  if (std::exchange(process->gone, true)) return;
  if (process->sim != nullptr) {
    Note("executor", process->sim->number(), "ends", how);
    process->sim->Die();
    checker_.Holds(process->worker, process->sim->number(), std::nullopt);
    std::vector<std::shared_ptr<DataLink>> links;
    for (const auto& [id, link] : data_) {
      if (link->executor == process->sim) links.push_back(link);
    }
    for (const auto& link : links) CloseFromExecutor(link, "its executor closed the connection");
    if (process->nested != nullptr) EndDriver(process->nested, /*crash=*/true);
  }
  process->to_worker.Send([this, process, how] {
    const auto worker = workers_.find(process->worker);
    if (worker == workers_.end()) return;
    Reach(worker->second,
          [this, worker = worker->second, process, how] { TellExit(worker, process, how); });
  });
}

void ClusterSim::TellExit(const WorkerPtr& worker, const std::shared_ptr<ExecutorProcess>& process,
                          const std::string& how) {
  if (worker->executors.erase(process->id) > 0)
    Step(worker, worker::ExecutorExited{process->id, how, ""}, "executor exited");
}

}  // namespace muster::sim
