#include "runtime/worker/worker.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/daemon.h"
#include "runtime/cluster/node_description.h"
#include "runtime/wire/protocol.h"
#include "runtime/worker/detect/custom_resources.h"
#include "runtime/worker/detect/detect_node.h"
#include "runtime/worker/detect/gpu_health.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/resources.h"

namespace muster::cli {
namespace {

struct Given {
  std::string address{};
  std::string labels{};
  std::string labels_file{};
  std::string cpus{};
  int gpus = -1;
  bool pretend_gpus = false;
  std::string memory{};
  std::string resources{};
  std::string name{};
  std::string host{};
  absl::Duration drain_timeout = absl::Seconds(30);
};

absl::StatusOr<worker::DetectOptions> ToDetectOptions(const Given& given) {
  worker::DetectOptions detect;
  if (!given.cpus.empty()) {
    MUSTER_ASSIGN_OR_RETURN(detect.cpus, sched::ParseAmount("--num-cpus", given.cpus));
  }
  if (given.gpus >= 0) detect.gpus = given.gpus;
  detect.pretend_gpus = given.pretend_gpus;
  if (!given.memory.empty()) {
    MUSTER_ASSIGN_OR_RETURN(detect.memory_bytes, sched::ParseMemory(given.memory));
  }
  MUSTER_ASSIGN_OR_RETURN(detect.custom, worker::ParseCustomResources(given.resources));
  detect.labels = given.labels;
  detect.labels_file = given.labels_file;
  return detect;
}

std::string Offers(const worker::DetectedNode& node) {
  const bool pretended = !node.gpus.empty() && node.gpus.front().pretended;
  const std::string labels = sched::ToText(node.labels);
  return absl::StrCat(sched::ToText(node.resources), pretended ? " (GPUs pretended)" : "",
                      labels.empty() ? "" : "; labels ", labels);
}

void ReadLabelsAgain(const worker::DetectOptions& detect, worker::Worker& worker) {
  const absl::StatusOr<worker::DetectedNode> node = worker::DetectNode(detect);
  if (!node.ok()) {
    Log(LogLevel::kWarning, "SIGHUP: the labels stay as they are: ", node.status().message());
    return;
  }
  worker.SetLabels(cluster::DescribeWorker(*node).labels);
  const std::string labels = sched::ToText(node->labels);
  Log(LogLevel::kInfo, "SIGHUP: labels are now ", labels.empty() ? "none" : labels);
}

void WatchGpus(const worker::DetectedNode& node, worker::WorkerOptions& options) {
  std::vector<std::string> notes;
  const std::shared_ptr<worker::GpuHealth> health = worker::GpuHealth::Open(node.gpus, notes);
  for (const std::string& note : notes) Log(LogLevel::kWarning, note);
  if (health == nullptr) return;
  options.watch_gpus = [health](absl::Duration longest) { return health->Wait(longest); };
}

int Serve(const worker::DetectOptions& detect, const worker::DetectedNode& node,
          const DaemonOptions& daemon, worker::WorkerOptions options) {
  BlockSignals();
  RemoveLeftovers();
  absl::StatusOr<DaemonDirectory> directory = DaemonDirectory::Create("worker", options.address);
  if (!directory.ok()) return Failed(directory.status());
  options.directory = directory->path();
  const std::string line = absl::StrCat("muster ", kVersion, ": worker for the head at ",
                                        options.address, " offers ", Offers(node));
  if (absl::Status status = SayStarted(daemon, *directory, line, options.address); !status.ok()) {
    return Failed(status);
  }
  for (const std::string& note : node.notes) Log(LogLevel::kInfo, note);
  WatchGpus(node, options);

  const std::unique_ptr<worker::Worker> worker = worker::Worker::Create(options);
  absl::Status ended;
  {
    SignalThread signals(*directory, [&](int signal) {
      if (signal == SIGTERM) return worker->Drain();
      if (signal == SIGINT) return worker->EndNow();
      if (!detect.labels_file.empty()) return ReadLabelsAgain(detect, *worker);
      if (isatty(STDIN_FILENO) == 1) return worker->EndNow();  // Its terminal is gone.
      Log(LogLevel::kInfo, "SIGHUP: there is no --labels-file to read again");
    });
    ended = worker->Run();
  }
  if (ended.ok()) return kDone;
  Log(LogLevel::kError, ended.message());
  if (daemon.detached) directory->Keep();  // Its log says why.
  return absl::IsUnauthenticated(ended) ? kUnreachable : kFailed;
}

}  // namespace

int RunWorker(const std::vector<std::string>& arguments_given) {
  Arguments arguments(
      "worker",
      "Makes this machine a node, in the foreground. SIGTERM drains it (no new work, running work "
      "may "
      "finish), SIGINT or a second SIGTERM ends it at once, SIGHUP reads --labels-file again.",
      {"muster worker --address 10.0.0.1:6379 --labels ray.io/market-type=spot,zone=a",
       "muster worker --num-cpus 4 --num-gpus 1 --memory 8GiB --resources '{\"license\": 2}'"});
  Given given;
  DaemonOptions daemon;
  AddAddress(arguments, &given.address);
  arguments.Text("--labels", "LABELS", "k=v,k2=v2 or a JSON map", &given.labels);
  arguments.Text("--labels-file", "FILE", "a YAML map of labels; --labels wins over it",
                 &given.labels_file);
  arguments.Text("--num-cpus", "N",
                 "default: those of this machine, as far as its cgroup lets us use them",
                 &given.cpus);
  arguments.Whole("--num-gpus", "N",
                  "default: those of this machine; more than it has: all are pretended",
                  {0, sched::kGpuDevicesMax}, &given.gpus);
  arguments.Text("--memory", "BYTES",
                 "or 8GiB, 512MiB (default: what this machine or its cgroup has)", &given.memory);
  arguments.Text("--resources", "JSON", "others, such as {\"license\": 2}", &given.resources);
  arguments.Text("--name", "NAME", "of the node (default: made up)", &given.name);
  arguments.Text("--host", "HOST",
                 "where others reach this node (default: its address on the way to the head); "
                 "others than loopback "
                 "need a token",
                 &given.host);
  arguments.Duration("--drain-timeout", "TIME",
                     "how long running work may take to finish (default 30s)",
                     &given.drain_timeout);
  arguments.Flag("--pretend-gpus", "", &given.pretend_gpus);
  AddDaemonOptions(arguments, &daemon);
  if (const std::optional<int> over = arguments.Parse(arguments_given)) return *over;
  if (absl::Status status = SetUpDaemon("worker", daemon); !status.ok())
    return arguments.Wrong(status.message());
  const absl::StatusOr<HostPort> address = HeadAddress(given.address);
  if (!address.ok()) return arguments.Wrong(address.status().message());
  if (!given.name.empty() && !sched::ValidateLabelValue(given.name).ok()) {
    return arguments.Wrong(
        absl::StrCat("--name=", given.name,
                     ": must be 1-63 letters, digits, \"-\", \"_\" or \".\", beginning and ending "
                     "with a letter or digit"));
  }
  const std::string host = given.host.empty() ? OwnAddressTowards(*address) : given.host;
  if (absl::Status status = CheckMayListen(host); !status.ok())
    return arguments.Wrong(status.message());

  const absl::StatusOr<worker::DetectOptions> detect = ToDetectOptions(given);
  if (!detect.ok()) return arguments.Wrong(detect.status().message());
  const absl::StatusOr<worker::DetectedNode> node = worker::DetectNode(*detect);
  if (absl::IsUnavailable(node.status())) return Failed(node.status());
  if (!node.ok()) return arguments.Wrong(node.status().message());

  worker::WorkerOptions options = cluster::DescribeWorker(*node);
  options.address = ToText(*address);
  options.name = given.name;
  options.host = host;
  options.drain_timeout = given.drain_timeout;
  return Serve(*detect, *node, daemon, std::move(options));
}

}  // namespace muster::cli
