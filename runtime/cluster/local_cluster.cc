#include "runtime/cluster/local_cluster.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/cluster/node_description.h"
#include "runtime/head/head.h"
#include "runtime/worker/detect/detect_node.h"
#include "runtime/worker/worker.h"
#include "scheduler/base/status_macros.h"

extern char** environ;

namespace muster::cluster {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(20);
constexpr absl::Duration kEndTimeout = absl::Seconds(10);

void Report(int fd, absl::string_view text) {
  const std::string line = absl::StrCat(text, "\n");
  if (write(fd, line.data(), line.size()) < 0) _exit(1);
}

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

absl::StatusOr<worker::WorkerOptions> DescribeNode() {
  worker::DetectOptions detect;
  detect.pretend_gpus = false;
  if (double cpus = 0; absl::SimpleAtod(Variable("MUSTER_CLUSTER_CPUS"), &cpus)) {
    MUSTER_ASSIGN_OR_RETURN(detect.cpus, sched::AmountFromDouble("num_cpus", cpus));
  }
  if (int gpus = 0; absl::SimpleAtoi(Variable("MUSTER_CLUSTER_GPUS"), &gpus)) detect.gpus = gpus;
  detect.labels = Variable("MUSTER_CLUSTER_LABELS");
  MUSTER_ASSIGN_OR_RETURN(const worker::DetectedNode node, worker::DetectNode(detect));
  return DescribeWorker(node);
}

}  // namespace

bool IsLocalCluster() { return Variable("MUSTER_ROLE") == "cluster"; }

void RunLocalCluster(int report_fd, int lifeline_fd) {
  setpgid(0, 0);  // Ctrl-C is for the program; we end when it does.
  prctl(PR_SET_NAME, "muster-cluster");
  signal(SIGPIPE, SIG_IGN);
  SetUpLog("cluster", LogLevel::kWarning);
  for (const char* name : {"MUSTER_ROLE", "MUSTER_CLUSTER_CPUS", "MUSTER_CLUSTER_GPUS"}) {
    if (std::string(name) == "MUSTER_ROLE") unsetenv(name);
  }
  char directory[] = "/tmp/muster-XXXXXX";
  if (mkdtemp(directory) == nullptr) {
    Report(report_fd, absl::StrCat("error no directory ", directory, ": ", strerror(errno)));
    _exit(1);
  }
  head::HeadOptions head_options;
  head_options.port = 0;
  head_options.infeasible_grace =
      absl::ZeroDuration();  // Its one node is there before anyone asks.
  head_options.package_directory = absl::StrCat(directory, "/packages");
  absl::StatusOr<std::unique_ptr<head::Head>> head = head::Head::Start(head_options);
  absl::StatusOr<worker::WorkerOptions> node = DescribeNode();
  if (!head.ok() || !node.ok()) {
    Report(report_fd,
           absl::StrCat("error ", (head.ok() ? node.status() : head.status()).message()));
    _exit(1);
  }
  node->address = absl::StrCat("127.0.0.1:", (*head)->port());
  node->directory = directory;
  node->on_joined = [report_fd, address = node->address] {
    Report(report_fd, absl::StrCat("at ", address));
    close(report_fd);
  };
  std::unique_ptr<worker::Worker> worker = worker::Worker::Create(*node);
  std::thread lifeline([lifeline_fd, &worker] {
    char byte = 0;
    while (read(lifeline_fd, &byte, 1) < 0 && errno == EINTR) {
    }
    worker->EndNow();
  });
  const absl::Status status = worker->Run();
  if (!status.ok()) Log(LogLevel::kError, "the cluster on this machine ended: ", status.message());
  (*head)->Stop();
  lifeline.detach();
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  _exit(status.ok() ? 0 : 1);
}

absl::StatusOr<LocalCluster> LocalCluster::Start(const InitOptions& options) {
  int report[2];
  int lifeline[2];
  if (pipe2(report, O_CLOEXEC) != 0 || pipe2(lifeline, O_CLOEXEC) != 0) {
    return absl::UnavailableError(
        absl::StrCat("no pipe for a cluster on this machine: ", strerror(errno)));
  }
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  environment.push_back("MUSTER_ROLE=cluster");
  environment.push_back("MUSTER_CLUSTER_FDS=3,4");
  if (options.num_cpus.has_value())
    environment.push_back(absl::StrCat("MUSTER_CLUSTER_CPUS=", *options.num_cpus));
  if (options.num_gpus.has_value())
    environment.push_back(absl::StrCat("MUSTER_CLUSTER_GPUS=", *options.num_gpus));
  if (!options.labels.empty()) {
    std::string labels;
    for (const auto& [key, value] : options.labels)
      absl::StrAppend(&labels, labels.empty() ? "" : ",", key, "=", value);
    environment.push_back(absl::StrCat("MUSTER_CLUSTER_LABELS=", labels));
  }
  std::vector<char*> envp;
  for (std::string& text : environment) envp.push_back(text.data());
  envp.push_back(nullptr);
  std::string name = "muster-cluster";
  char* argv[] = {name.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // Through high numbers first: the pipes may sit on 3 or 4 themselves.
  posix_spawn_file_actions_adddup2(&actions, report[1], 210);
  posix_spawn_file_actions_adddup2(&actions, lifeline[0], 211);
  posix_spawn_file_actions_adddup2(&actions, 210, 3);
  posix_spawn_file_actions_adddup2(&actions, 211, 4);
  posix_spawn_file_actions_addclosefrom_np(&actions, 5);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv, envp.data());
  posix_spawn_file_actions_destroy(&actions);
  close(report[1]);
  close(lifeline[0]);
  if (error != 0) {
    close(report[0]);
    close(lifeline[1]);
    return absl::UnavailableError(
        absl::StrCat("cannot start a cluster on this machine: ", strerror(error)));
  }
  LocalCluster cluster(pid, lifeline[1], "");
  std::string line;
  const absl::Time deadline = MonotonicNow() + kStartTimeout;
  while (!absl::StrContains(line, '\n')) {
    pollfd poll_report{report[0], POLLIN, 0};
    const auto left = absl::ToInt64Milliseconds(deadline - MonotonicNow());
    if (left <= 0 || poll(&poll_report, 1, static_cast<int>(left)) <= 0) break;
    char buffer[1024];
    const ssize_t got = read(report[0], buffer, sizeof(buffer));
    if (got <= 0) break;
    line.append(buffer, static_cast<size_t>(got));
  }
  close(report[0]);
  absl::string_view text = absl::StripSuffix(line, "\n");
  if (!absl::ConsumePrefix(&text, "at ")) {
    absl::ConsumePrefix(&text, "error ");
    return absl::UnavailableError(absl::StrCat(
        "cannot start a cluster on this machine: ",
        text.empty() ? "it ended or did not answer; is muster::Init called first in main()?"
                     : text));
  }
  cluster.address_ = std::string(text);
  return cluster;
}

LocalCluster::LocalCluster(LocalCluster&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      lifeline_fd_(std::exchange(other.lifeline_fd_, -1)),
      address_(std::move(other.address_)) {}

LocalCluster& LocalCluster::operator=(LocalCluster&& other) noexcept {
  End();
  pid_ = std::exchange(other.pid_, -1);
  lifeline_fd_ = std::exchange(other.lifeline_fd_, -1);
  address_ = std::move(other.address_);
  return *this;
}

LocalCluster::~LocalCluster() { End(); }

void LocalCluster::End() {
  if (pid_ < 0) return;
  close(lifeline_fd_);
  const absl::Time deadline = MonotonicNow() + kEndTimeout;
  while (waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (MonotonicNow() >= deadline) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
      break;
    }
    usleep(2000);
  }
  pid_ = -1;
}

}  // namespace muster::cluster
