#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/host_id.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/daemon.h"
#include "runtime/cli/history_options.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/cli/sharing_options.h"
#include "runtime/cli/spawn.h"
#include "runtime/cluster/node_spec.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/protocol.h"
#include "runtime/worker/detect/detect_node.h"
#include "scheduler/base/status_macros.h"

namespace muster::cli {
namespace {

constexpr absl::Duration kReadyWithin = absl::Seconds(60);
constexpr absl::Duration kJoinWithin = absl::Seconds(60);
constexpr absl::Duration kAskWithin = absl::Seconds(1);
constexpr absl::Duration kSayAfter =
    absl::Seconds(2);  // Then, and each so often, how many nodes are there.
constexpr absl::Duration kEndPatience = absl::Seconds(3);
constexpr size_t kStartedAtOnce = 32;

// The cluster as far as it is started. Ends it, unless told to leave it.
class LocalCluster {
 public:
  ~LocalCluster() {
    if (!left_running_) EndAll();
  }

  absl::Status StartHead(const HostPort& listen, const std::vector<std::string>& options) {
    SpawnOptions spawn;
    spawn.arguments = {"head", "--detached", absl::StrCat("--host=", listen.host),
                       absl::StrCat("--port=", listen.port)};
    spawn.arguments.insert(spawn.arguments.end(), options.begin(), options.end());
    MUSTER_ASSIGN_OR_RETURN(SpawnedDaemon head, SpawnedDaemon::Start(spawn));
    daemons_.push_back(std::move(head));
    MUSTER_ASSIGN_OR_RETURN(const std::string text,
                            daemons_.back().AwaitReady(MonotonicNow() + kReadyWithin));
    MUSTER_ASSIGN_OR_RETURN(address_, ParseAddress(text));
    return absl::OkStatus();
  }

  absl::Status StartWorkers(const std::vector<SpawnOptions>& workers) {
    size_t ready = 1;  // The head is.
    for (size_t i = 0; i < workers.size(); ++i) {
      SpawnOptions spawn = workers[i];
      spawn.arguments.push_back(absl::StrCat("--address=", ToText(ForWorkers())));
      MUSTER_ASSIGN_OR_RETURN(SpawnedDaemon worker, SpawnedDaemon::Start(spawn));
      daemons_.push_back(std::move(worker));
      if (i + 1 < workers.size() && daemons_.size() - ready < kStartedAtOnce) continue;
      for (; ready < daemons_.size(); ++ready) {
        MUSTER_RETURN_IF_ERROR(daemons_[ready].AwaitReady(MonotonicNow() + kReadyWithin).status());
      }
    }
    return absl::OkStatus();
  }

  // The nodes, once all have joined.
  absl::StatusOr<std::vector<v1::NodeStatus>> AwaitNodes() {
    std::set<int> pids;
    for (size_t i = 1; i < daemons_.size(); ++i) pids.insert(daemons_[i].process().pid);
    const absl::Time deadline = MonotonicNow() + kJoinWithin;
    absl::Time say_at = MonotonicNow() + kSayAfter;
    absl::Duration pause = absl::Milliseconds(5);
    HeadClient head(ToText(ForWorkers()));
    while (true) {
      MUSTER_ASSIGN_OR_RETURN(const v1::StatusReply reply, head.GetStatus(kAskWithin));
      std::vector<v1::NodeStatus> nodes;
      for (const v1::NodeStatus& node : reply.nodes()) {
        const bool here = node.host_id() == HostId();
        if (here && node.state() == "alive" && pids.count(node.pid()) > 0) nodes.push_back(node);
      }
      if (nodes.size() == pids.size()) return nodes;
      MUSTER_RETURN_IF_ERROR(CheckAllRun());
      if (Interrupted()) return absl::CancelledError("interrupted");
      if (MonotonicNow() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat(nodes.size(), " of ", pids.size(), " nodes joined within ",
                         absl::FormatDuration(kJoinWithin), Why(nodes)));
      }
      if (MonotonicNow() >= say_at) {
        fprintf(stderr, "%zu of %zu nodes have joined\n", nodes.size(), pids.size());
        say_at += kSayAfter;
      }
      absl::SleepFor(pause);
      pause = std::min(2 * pause, absl::Milliseconds(100));
    }
  }

  void LeaveRunning() { left_running_ = true; }
  const HostPort& address() const { return address_; }
  int head_pid() const { return daemons_.front().process().pid; }

 private:
  HostPort ForWorkers() const {
    const bool here = address_.host == "0.0.0.0" || address_.host == "::";
    return here ? HostPort{"127.0.0.1", address_.port} : address_;
  }

  absl::Status CheckAllRun() const {
    for (const SpawnedDaemon& daemon : daemons_) {
      if (IsAlive(daemon.process())) continue;
      const std::string lines = daemon.LastLines();
      return absl::FailedPreconditionError(absl::StrCat(
          &daemon == &daemons_.front() ? "the head" : "a worker", " (pid ", daemon.process().pid,
          ") has ended", lines.empty() ? "" : "; its log:\n", lines));
    }
    return absl::OkStatus();
  }

  // What the first worker that did not join says.
  std::string Why(const std::vector<v1::NodeStatus>& joined) const {
    for (size_t i = 1; i < daemons_.size(); ++i) {
      const auto is_it = [&](const v1::NodeStatus& node) {
        return node.pid() == daemons_[i].process().pid;
      };
      if (std::any_of(joined.begin(), joined.end(), is_it)) continue;
      return absl::StrCat("; the log of the worker with pid ", daemons_[i].process().pid, ":\n",
                          daemons_[i].LastLines());
    }
    return "";
  }

  void EndAll() {
    std::vector<Process> processes;
    for (const SpawnedDaemon& daemon : daemons_) processes.push_back(daemon.process());
    End(processes, SIGINT, kEndPatience);
    for (const DaemonRecord& daemon : ListDaemons()) {
      if (std::count(processes.begin(), processes.end(), daemon.process) > 0)
        RemoveDirectory(daemon);
    }
    for (const Process& process : processes) waitpid(process.pid, nullptr, WNOHANG);
  }

  std::vector<SpawnedDaemon> daemons_;  // The head first.
  HostPort address_;
  bool left_running_ = false;
};

// Real GPUs, each to one node, where there are enough for all; else pretended ones.
absl::Status GiveGpus(const std::vector<cluster::NodeSpec>& nodes,
                      std::vector<SpawnOptions>& workers) {
  int wanted = 0;
  for (const cluster::NodeSpec& node : nodes) wanted += node.gpus;
  if (wanted == 0) return absl::OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const worker::DetectedNode machine, worker::DetectNode({}));
  auto next = machine.gpus.begin();
  const bool pretend = static_cast<size_t>(wanted) > machine.gpus.size();
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].gpus == 0) continue;
    if (pretend) {
      workers[i].arguments.push_back("--pretend-gpus");
      continue;
    }
    std::vector<std::string> ids;
    ids.reserve(static_cast<size_t>(nodes[i].gpus));
    for (int gpu = 0; gpu < nodes[i].gpus; ++gpu) ids.push_back((next++)->id);
    workers[i].environment.push_back(
        absl::StrCat("CUDA_VISIBLE_DEVICES=", absl::StrJoin(ids, ",")));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SpawnOptions>> Workers(const std::vector<cluster::NodeSpec>& nodes) {
  std::vector<SpawnOptions> workers;
  // Without specs: one node, all of it detected.
  if (nodes.empty()) return std::vector<SpawnOptions>{{.arguments = {"worker", "--detached"}}};
  for (const cluster::NodeSpec& node : nodes) {
    SpawnOptions worker{.arguments = {"worker", "--detached"}};
    for (std::string& option : cluster::WorkerOptions(node))
      worker.arguments.push_back(std::move(option));
    if (!node.name.empty()) worker.arguments.push_back(absl::StrCat("--name=", node.name));
    workers.push_back(std::move(worker));
  }
  MUSTER_RETURN_IF_ERROR(GiveGpus(nodes, workers));
  return workers;
}

absl::StatusOr<std::vector<cluster::NodeSpec>> ReadSpecs(const std::vector<std::string>& texts,
                                                         const std::string& file) {
  std::vector<cluster::NodeSpec> specs;
  if (!file.empty()) {
    MUSTER_ASSIGN_OR_RETURN(specs, cluster::ReadClusterFile(file));
  }
  for (const std::string& text : texts) {
    MUSTER_ASSIGN_OR_RETURN(cluster::NodeSpec spec, cluster::ParseNodeSpec(text));
    specs.push_back(std::move(spec));
  }
  return cluster::ExpandNodeSpecs(specs);
}

// `muster down` as it must be typed to end this cluster.
std::string DownCommand(const HostPort& address) {
  const absl::StatusOr<HostPort> by_default = HeadAddress("");
  if (by_default.ok() && SameHead(*by_default, address)) return "muster down";
  return absl::StrCat("muster down --address ", ToText(address));
}

// Why the head did not start: where its port is taken by another muster head, that is said.
absl::Status WhyNoHead(const absl::Status& status, const HostPort& listen) {
  if (!absl::StrContains(status.message(), "in use by another process")) return status;
  for (const DaemonRecord& daemon : ListDaemons()) {
    const absl::StatusOr<HostPort> theirs = ParseAddress(daemon.address);
    if (daemon.kind != "head" || !theirs.ok() || !SameHead(*theirs, listen) ||
        !IsAlive(daemon.process))
      continue;
    return absl::AlreadyExistsError(
        absl::StrCat("cannot listen on ", ToText(listen),
                     ": a muster cluster is there already (its head has pid ", daemon.process.pid,
                     "); end it with ", DownCommand(listen),
                     ", or choose another port with --port (0 picks a free one)"));
  }
  return status;
}

std::string GpusText(const std::vector<v1::NodeStatus>& nodes) {
  int gpus = 0;
  bool pretended = false;
  for (const v1::NodeStatus& node : nodes) {
    gpus += node.total().gpus_size();
    for (const v1::GpuDevice& gpu : node.total().gpus())
      pretended = pretended || gpu.model().empty();
  }
  if (gpus == 0) return "no GPUs";
  return absl::StrCat(Count(static_cast<uint64_t>(gpus), "GPU", "GPUs"),
                      pretended ? " (pretended)" : "");
}

}  // namespace

int RunUp(const std::vector<std::string>& given) {
  Arguments arguments(
      "up",
      "Starts a cluster on this machine: a head, and a worker for each node. It runs until muster "
      "down.",
      {"muster up", "muster up --node gpus=1,ray.io/accelerator-type=L4,ray.io/market-type=spot \\",
       "          --node count=2,cpus=2,gpus=1,ray.io/accelerator-type=L4",
       "muster up -f cluster.yaml --port 0"});
  std::vector<std::string> node_texts;
  std::string file;
  HostPort listen;
  std::string node_timeout;
  DaemonOptions daemon;
  bool json = false;
  arguments.Texts("--node", "SPEC",
                  "a node, or count=N of them: cpus, gpus, memory, count, name and resource.NAME, "
                  "all other keys are "
                  "labels (default: one node with what this machine has)",
                  &node_texts);
  arguments.Text("-f,--file", "FILE",
                 "the same in YAML: nodes: [{count: 2, gpus: 1, zone: a}], and options of "
                 "muster head, head: {backfill: easy}",
                 &file);
  arguments.Text("--host", "HOST",
                 "where to listen (default 127.0.0.1); others than loopback need a token",
                 &listen.host);
  arguments.Whole("--port", "PORT", "where to listen (default 6379); 0 picks a free one",
                  {0, 65535}, &listen.port);
  arguments.Text("--node-timeout", "TIME",
                 "a node is lost after so long without a sign of life (default 10s)",
                 &node_timeout);
  HistoryOptions history;
  AddHistoryOptions(arguments, &history);
  SharingOptions sharing;
  AddSharingOptions(arguments, &sharing);
  AddJson(arguments, &json);
  AddDaemonOptions(arguments, &daemon);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  const std::optional<absl::Duration> timeout =
      ParseDuration(node_timeout.empty() ? "10s" : node_timeout);
  if (!timeout.has_value() || *timeout < absl::Seconds(1)) {
    return arguments.Wrong(
        absl::StrCat("--node-timeout=", node_timeout, ": must be a duration of 1s or more"));
  }
  head::HeadOptions checked;
  if (absl::Status status = Apply(history, checked); !status.ok())
    return arguments.Wrong(status.message());
  if (absl::Status status = Apply(sharing, checked); !status.ok())
    return arguments.Wrong(status.message());
  if (absl::Status status = SetUpDaemon("up", daemon); !status.ok())
    return arguments.Wrong(status.message());
  if (absl::Status status = CheckMayListen(listen.host); !status.ok())
    return arguments.Wrong(status.message());
  const absl::StatusOr<std::vector<cluster::NodeSpec>> specs = ReadSpecs(node_texts, file);
  if (!specs.ok()) return arguments.Wrong(specs.status().message());
  std::vector<std::string> from_file;
  if (!file.empty()) {
    absl::StatusOr<std::vector<std::string>> read = cluster::ReadHeadOptions(file);
    if (!read.ok()) return arguments.Wrong(read.status().message());
    from_file = *std::move(read);
  }
  absl::StatusOr<std::vector<SpawnOptions>> workers = Workers(*specs);
  if (!workers.ok()) return Failed(workers.status());

  DeferInterrupts();
  std::vector<std::string> for_head = {
      absl::StrCat("--node-timeout=", absl::FormatDuration(*timeout))};
  std::vector<std::string> typed = ToArguments(sharing);
  for (const std::string& option : from_file) {  // What was typed wins, lists are added to.
    const std::string name = option.substr(0, option.find('=') + 1);
    const bool list = name == "--quota=" || name == "--fair-share=";
    const bool again = std::any_of(typed.begin(), typed.end(), [&](const std::string& other) {
      return absl::StartsWith(other, name);
    });
    if (list || !again) for_head.push_back(option);
  }
  for (std::string& option : typed) for_head.push_back(std::move(option));
  if (!daemon.log_level.empty()) {
    for_head.push_back(absl::StrCat("--log-level=", daemon.log_level));
    for (SpawnOptions& worker : *workers) worker.arguments.push_back(for_head.back());
  }
  const std::vector<std::string> keeps = ForHead(history);
  for_head.insert(for_head.end(), keeps.begin(), keeps.end());
  LocalCluster cluster;
  if (absl::Status status = cluster.StartHead(listen, for_head); !status.ok()) {
    return Failed(WhyNoHead(status, listen));
  }
  if (absl::Status status = cluster.StartWorkers(*workers); !status.ok()) return Failed(status);
  absl::StatusOr<std::vector<v1::NodeStatus>> nodes = cluster.AwaitNodes();
  if (!nodes.ok()) return Failed(nodes.status());
  cluster.LeaveRunning();

  const std::string address = ToText(cluster.address());
  if (json) {
    printf("%s", UpJson({.address = address,
                         .version = kVersion,
                         .head_pid = cluster.head_pid(),
                         .nodes = *std::move(nodes)})
                     .c_str());
    return kDone;
  }
  printf("muster %s: head at %s, %s, %s. Stop with: %s\n", kVersion, address.c_str(),
         Count(nodes->size(), "node", "nodes").c_str(), GpusText(*nodes).c_str(),
         DownCommand(cluster.address()).c_str());
  return kDone;
}

}  // namespace muster::cli
