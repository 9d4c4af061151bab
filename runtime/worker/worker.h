// The worker's shell: the core on one thread with a reactor, executors as child processes, the link
// to the head.
//
// Thread-safety: Run() on one thread (the one that lives as long as the executors); the others from
// any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/common.pb.h"
#include "runtime/worker/detect/gpu_health.h"

namespace muster::worker {

struct WorkerOptions {
  std::string address;             // The head's, "host:port".
  std::string name;                // "": the head names the node.
  std::string host = "127.0.0.1";  // Where other machines reach this node's executors.
  std::vector<v1::Entry> labels;
  v1::NodeResources resources;
  std::string directory;  // Logs of executors ("logs/") and fetched applications ("packages/").
  absl::Duration drain_timeout = absl::Seconds(30);
  // Waits for what is wrong with GPUs, at most so long; called again and again on a thread of its
  // own. Empty: nobody watches them. See GpuHealth.
  std::function<std::vector<GpuTrouble>(absl::Duration longest)> watch_gpus;
  std::function<void()> on_joined;  // Once, when the head has taken the node in.
  // Another identity than this machine's, so that programs are fetched and reached as if from far
  // away: for tests.
  std::string host_id;
};

class Worker {
 public:
  static std::unique_ptr<Worker> Create(const WorkerOptions& options);
  virtual ~Worker() = default;

  // Serves until the worker is drained, shut down by the head, refused by it, or told to end. OK
  // when it ended as asked.
  virtual absl::Status Run() = 0;
  virtual void Drain() = 0;  // A second one ends at once.
  virtual void EndNow() = 0;
  virtual void SetLabels(std::vector<v1::Entry> labels) = 0;
};

}  // namespace muster::worker
