#include "runtime/cli/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/cli/address.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/check.h"

namespace muster::cli {
namespace {

constexpr int kMinuteMs = 60'000;
constexpr LogBounds kExecutorLogs = {.bytes_max = int64_t{256} << 20, .files_max = 1000};
constexpr off_t kOwnLogBytesMax = off_t{16} << 20;  // Then it becomes log.1, and begins again.

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

absl::Status LogInto(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0)
    return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", strerror(errno)));
  dup2(fd, STDOUT_FILENO);
  dup2(fd, STDERR_FILENO);
  close(fd);
  return absl::OkStatus();
}

// Only a detached daemon's stderr is this file.
void RotateOwnLog(const std::string& path) {
  struct stat log = {};
  struct stat error = {};
  if (stat(path.c_str(), &log) != 0 || fstat(STDERR_FILENO, &error) != 0) return;
  if (log.st_ino != error.st_ino || log.st_size < kOwnLogBytesMax) return;
  rename(path.c_str(), absl::StrCat(path, ".1").c_str());
  if (absl::Status status = LogInto(path); !status.ok()) Log(LogLevel::kWarning, status.message());
}

}  // namespace

void AddDaemonOptions(Arguments& arguments, DaemonOptions* options) {
  arguments.Text("--log-level", "LEVEL",
                 "debug, info, warning, error or off (default: MUSTER_LOG, else info)",
                 &options->log_level);
  arguments.Flag("--detached", "", &options->detached);
}

absl::Status SetUpDaemon(absl::string_view component, const DaemonOptions& options) {
  const std::string& level = options.log_level;
  const bool known = level.empty() || level == "debug" || level == "info" || level == "warning" ||
                     level == "error" || level == "off";
  if (!known) {
    return absl::InvalidArgumentError(
        absl::StrCat("--log-level=", level, ": must be debug, info, warning, error or off"));
  }
  // The option is for this process; its executors go by the variable.
  const char* variable = getenv("MUSTER_LOG");
  const std::string before = variable == nullptr ? "" : variable;
  if (!level.empty()) setenv("MUSTER_LOG", level.c_str(), 1);
  SetUpLog(component, LogLevel::kInfo);
  if (!level.empty() && variable == nullptr) unsetenv("MUSTER_LOG");
  if (!level.empty() && variable != nullptr) setenv("MUSTER_LOG", before.c_str(), 1);
  return absl::OkStatus();
}

absl::Status CheckMayListen(const std::string& host) {
  if (IsLoopback(host) || !OurProtocol().token().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--host=", host,
      ": others can reach this address, so a token is needed: set MUSTER_AUTH_TOKEN or "
      "MUSTER_AUTH_TOKEN_PATH, here and for all who connect"));
}

void BlockSignals() {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = Signals();
  MUSTER_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
}

absl::Status SayStarted(const DaemonOptions& options, const DaemonDirectory& directory,
                        const std::string& line, const std::string& address) {
  if (!options.detached) {
    printf("%s\n", line.c_str());
    fflush(stdout);
    return absl::OkStatus();
  }
  const int starter = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  if (absl::Status status = LogInto(directory.path() + "/log"); !status.ok()) return status;
  if (chdir("/") != 0) Log(LogLevel::kWarning, "cannot leave its directory: ", strerror(errno));
  Log(LogLevel::kInfo, line);
  const std::string ready = absl::StrCat("ready ", address, "\n");
  // A starter that is gone has left nobody to tell.
  if (write(starter, ready.data(), ready.size()) < 0)
    Log(LogLevel::kWarning, "whoever started this is gone");
  close(starter);
  return absl::OkStatus();
}

SignalThread::SignalThread(const DaemonDirectory& directory,
                           std::function<void(int signal)> on_signal)
    : directory_(directory), on_signal_(std::move(on_signal)) {
  const sigset_t set = Signals();
  signals_ = signalfd(-1, &set, SFD_CLOEXEC);
  end_ = eventfd(0, EFD_CLOEXEC);
  MUSTER_CHECK(signals_ >= 0);
  MUSTER_CHECK(end_ >= 0);
  thread_ = std::thread([this] { Run(); });
}

SignalThread::~SignalThread() {
  const uint64_t one = 1;
  MUSTER_CHECK(write(end_, &one, sizeof(one)) == sizeof(one));
  thread_.join();
  close(signals_);
  close(end_);
}

void SignalThread::Run() {
  while (true) {
    pollfd waited[] = {{signals_, POLLIN, 0}, {end_, POLLIN, 0}};
    const int ready = poll(waited, 2, kMinuteMs);
    if (ready == 0) {
      directory_.Touch();
      PruneLogs(directory_.path() + "/logs", kExecutorLogs);
      RotateOwnLog(directory_.path() + "/log");
    }
    if (waited[1].revents != 0) return;
    signalfd_siginfo info = {};
    if (ready > 0 && waited[0].revents != 0 &&
        read(signals_, &info, sizeof(info)) == sizeof(info)) {
      on_signal_(static_cast<int>(info.ssi_signo));
    }
  }
}

}  // namespace muster::cli
