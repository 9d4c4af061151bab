// The streams between the head and its workers and drivers.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

void ClusterSim::Up(const std::shared_ptr<WorkerProcess>& worker) {
  Step(worker, worker::HeadUp{}, "link up");
}

void ClusterSim::Up(const std::shared_ptr<DriverProcess>& driver) {
  Step(driver, client::HeadUp{}, "link up");
}

void ClusterSim::Down(const std::shared_ptr<WorkerProcess>& worker) {
  Step(worker, worker::HeadDown{}, "link down");
}

void ClusterSim::Down(const std::shared_ptr<DriverProcess>& driver) {
  Step(driver, client::HeadDown{"the link broke"}, "link down");
}

void ClusterSim::Reach(const std::shared_ptr<WorkerProcess>& worker, std::function<void()> what) {
  if (worker->dead) return;
  if (worker->frozen) {
    worker->deferred.push_back(std::move(what));
  } else {
    what();
  }
}

void ClusterSim::Reach(const std::shared_ptr<DriverProcess>& driver,
                       const std::function<void()>& what) {
  if (!driver->dead) what();
}

void ClusterSim::ReachPeer(const Stream& stream, const std::function<void()>& what) {
  if (stream.worker) {
    if (const auto worker = workers_.find(stream.process); worker != workers_.end())
      Reach(worker->second, what);
  } else if (const auto driver = drivers_.find(stream.process); driver != drivers_.end()) {
    Reach(driver->second, what);
  }
}

void ClusterSim::StreamIsDown(const std::shared_ptr<Stream>& stream) {
  ReachPeer(*stream, [this, stream] {
    const auto down = [&](const auto& process) {
      if (process->stream != stream) return;
      process->stream = nullptr;
      Down(process);
      Connect(process);
    };
    if (stream->worker) {
      down(workers_.at(stream->process));
    } else {
      down(drivers_.at(stream->process));
    }
  });
}

void ClusterSim::HeadSeesEnd(const std::shared_ptr<HeadProcess>& head,
                             const std::shared_ptr<Stream>& stream) {
  if (head == nullptr || head != head_ || head->streams.erase(stream->id) == 0) return;
  if (stream->worker) {
    StepHead(head::WorkerClosed{stream->id}, "worker closed");
  } else {
    StepHead(head::DriverClosed{stream->id}, "driver closed");
  }
}

void ClusterSim::Break(const std::shared_ptr<Stream>& stream) {
  stream->to_head.Cut();
  stream->to_process.Cut();
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(500)),
               [this, stream] { StreamIsDown(stream); });
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
               [this, stream, head = head_] { HeadSeesEnd(head, stream); });
}

void ClusterSim::CloseFromProcess(const std::shared_ptr<Stream>& stream, bool flush) {
  if (flush) {
    FlushToHead(stream);
  } else {
    stream->head_batch.clear();
  }
  stream->to_process.Cut();
  stream->to_head.Send([this, stream, head = head_] { HeadSeesEnd(head, stream); });
}

void ClusterSim::SendToHead(const std::shared_ptr<Stream>& stream, std::string bytes) {
  if (stream == nullptr) return;
  stream->head_batch.push_back(std::move(bytes));
  if (stream->head_batch.size() > 1) return;
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Microseconds(100)),
               [this, stream] { FlushToHead(stream); });
}

void ClusterSim::FlushToHead(const std::shared_ptr<Stream>& stream) {
  if (stream->head_batch.empty()) return;
  stream->to_head.Send([this, stream, head = head_, batch = std::exchange(stream->head_batch, {})] {
    for (const std::string& bytes : batch) {
      if (head != head_ || !head->streams.contains(stream->id)) return;
      if (stream->worker) {
        v1::WorkerMessage message;
        Parse(bytes, message);
        Note("head", stream->process, "<- worker", message);
        StepHead(head::FromWorker{stream->id, std::move(message)}, nullptr);
      } else {
        v1::DriverMessage message;
        Parse(bytes, message);
        Note("head", stream->process, "<- driver", message);
        StepHead(head::FromDriver{stream->id, std::move(message)}, nullptr);
      }
    }
  });
}

void ClusterSim::SendToProcess(const std::shared_ptr<Stream>& stream, std::string bytes) {
  stream->process_batch.push_back(std::move(bytes));
  if (stream->process_batch.size() > 1) return;
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Microseconds(100)),
               [this, stream] { FlushToProcess(stream); });
}

void ClusterSim::FlushToProcess(const std::shared_ptr<Stream>& stream) {
  if (stream->process_batch.empty()) return;
  stream->to_process.Send([this, stream, batch = std::exchange(stream->process_batch, {})] {
    ReachPeer(*stream, [this, stream, batch] {
      for (const std::string& bytes : batch) Arrive(stream, bytes);
    });
  });
}

void ClusterSim::Arrive(const std::shared_ptr<Stream>& stream, const std::string& bytes) {
  if (stream->worker) {
    const auto known = workers_.find(stream->process);
    if (known == workers_.end()) return;  // It ended by an earlier message of the batch.
    const std::shared_ptr<WorkerProcess> worker = known->second;
    if (worker->stream != stream) return;
    v1::ToWorker message;
    Parse(bytes, message);
    Note("worker", worker->number, "<- head", message);
    Step(worker, worker::FromHead{std::move(message)}, nullptr);
    return;
  }
  const auto found = drivers_.find(stream->process);
  if (found == drivers_.end()) return;
  const std::shared_ptr<DriverProcess> driver = found->second;
  if (driver->stream != stream) return;
  v1::ToDriver message;
  Parse(bytes, message);
  if (message.has_lease_ended()) checker_.HearsOfEnd(driver->id, message.lease_ended().lease());
  Note("driver", driver->id, "<- head", message);
  Step(driver, client::FromHead{std::move(message)}, nullptr);
}

}  // namespace muster::sim
