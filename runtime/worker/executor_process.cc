#include "runtime/worker/executor_process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/worker/executor_cgroup.h"
#include "runtime/worker/output_lines.h"

extern char** environ;

namespace muster::worker {
namespace {

constexpr int kControlFd = 3;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

struct Pipe {
  int read = -1;
  int write = -1;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("no pipe for an executor: ", strerror(errno)));
  }
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return Pipe{ends[0], ends[1]};
}

// What the child needs, made before the fork: between fork and exec only async-signal-safe calls
// are allowed.
struct Launch {
  std::string program;
  std::string directory;
  std::vector<std::string> argv_text;
  std::vector<std::string> environment_text;
  std::vector<char*> argv;
  std::vector<char*> environment;
  int control = -1, out = -1, err = -1, report = -1;
};

void Fill(Launch& launch, const ExecutorProcess::Options& options) {
  launch.program = options.program;
  launch.directory = options.working_directory;
  launch.argv_text =
      options.argv.empty() ? std::vector<std::string>{options.program} : options.argv;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    // A worker's own settings; but tasks that submit tasks need the token too.
    const bool shared = name == "MUSTER_LOG" || name == "MUSTER_EXECUTOR_TCP" ||
                        absl::StartsWith(name, "MUSTER_AUTH_TOKEN");
    if (absl::StartsWith(name, "MUSTER_") && !shared) continue;
    const bool replaced =
        name == "CUDA_VISIBLE_DEVICES" ||
        std::any_of(options.environment.begin(), options.environment.end(),
                    [&](const std::string& other) { return absl::StartsWith(other, name + "="); });
    if (!replaced) launch.environment_text.push_back(text);
  }
  launch.environment_text.insert(launch.environment_text.end(), options.environment.begin(),
                                 options.environment.end());
  launch.environment_text.push_back("MUSTER_ROLE=executor");
  launch.environment_text.push_back(absl::StrCat("MUSTER_CONTROL_FD=", kControlFd));
  launch.environment_text.push_back("CUDA_VISIBLE_DEVICES=");
  for (std::string& text : launch.argv_text) launch.argv.push_back(text.data());
  launch.argv.push_back(nullptr);
  for (std::string& text : launch.environment_text) launch.environment.push_back(text.data());
  launch.environment.push_back(nullptr);
}

[[noreturn]] void RunChild(Launch& launch) {
  setpgid(0, 0);
  // Until the executor watches its control link itself, it must not outlive its worker.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  // The report pipe may sit on a number that is needed: move it first.
  const int report = fcntl(launch.report, F_DUPFD_CLOEXEC, 10);
  const int control = fcntl(launch.control, F_DUPFD, 10);
  const int out = fcntl(launch.out, F_DUPFD, 10);
  const int err = fcntl(launch.err, F_DUPFD, 10);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(out, 1);
  dup2(err, 2);
  dup2(control, kControlFd);
  syscall(SYS_close_range, kControlFd + 1, report - 1, 0);
  syscall(SYS_close_range, report + 1, ~0U, 0);
  if (!launch.directory.empty() && chdir(launch.directory.c_str()) != 0) {
    // Another machine may not have it; the worker's own directory serves then.
  }
  // A program that was just written may still be open for writing in another child, for a moment.
  for (int attempt = 0; attempt < 100; ++attempt) {
    execve(launch.program.c_str(), launch.argv.data(), launch.environment.data());
    if (errno != ETXTBSY) break;
    const timespec moment = {0, 10'000'000};
    nanosleep(&moment, nullptr);
  }
  const int error = errno;
  if (write(report, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

class RunningProcess final : public ExecutorProcess {
 public:
  RunningProcess(Reactor& reactor, Callbacks callbacks)
      : reactor_(reactor), callbacks_(std::move(callbacks)) {}

  ~RunningProcess() override {
    if (!exited_) {
      Kill();
      int status = 0;
      waitpid(pid_, &status, 0);
    }
    CloseAll();
  }

  absl::Status Begin(const Options& options) {
    Launch launch;
    Fill(launch, options);
    int control[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no socket for an executor: ", strerror(errno)));
    }
    absl::StatusOr<Pipe> out = MakePipe();
    absl::StatusOr<Pipe> err = MakePipe();
    absl::StatusOr<Pipe> report = MakePipe();
    if (!out.ok() || !err.ok() || !report.ok()) {
      for (int fd : {control[0], control[1]}) close(fd);
      for (const auto* pipe : {&out, &err, &report}) {
        if (pipe->ok()) {
          close((*pipe)->read);
          close((*pipe)->write);
        }
      }
      return absl::ResourceExhaustedError("no pipes for an executor: too many open files");
    }
    launch.control = control[1];
    launch.out = out->write;
    launch.err = err->write;
    launch.report = report->write;
    pid_ = fork();
    if (pid_ == 0) RunChild(launch);
    const int fork_error = errno;
    for (int fd : {control[1], out->write, err->write, report->write}) close(fd);
    int exec_error = 0;
    if (pid_ > 0) {
      setpgid(pid_, pid_);  // Here too: whoever comes first.
      // Closed by a successful exec; a child that failed writes why. Blocks for as long as an exec
      // takes.
      fcntl(report->read, F_SETFL, 0);
      if (read(report->read, &exec_error, sizeof(exec_error)) <= 0) exec_error = 0;
    }
    close(report->read);
    if (pid_ < 0 || exec_error != 0) {
      if (pid_ > 0) waitpid(pid_, nullptr, 0);
      exited_ = true;
      for (int fd : {control[0], out->read, err->read}) close(fd);
      const int error = pid_ < 0 ? fork_error : exec_error;
      const std::string text = absl::StrCat(options.program, ": ", Lower(strerror(error)));
      if (error == ENOENT) return absl::NotFoundError(text);
      if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(text);
      return absl::ResourceExhaustedError(text);
    }
    cgroup_ = std::make_unique<ExecutorCgroup>(pid_);
    out_fd_ = out->read;
    err_fd_ = err->read;
    OpenLogs(options.log_stem);
    pid_fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    if (pid_fd_ < 0) return absl::InternalError(absl::StrCat("pidfd_open: ", strerror(errno)));
    fcntl(pid_fd_, F_SETFD, FD_CLOEXEC);
    control_ = FrameConnection::Adopt(reactor_, control[0]);
    control_->Start(
        [this](absl::string_view frame) {
          v1::ExecutorToWorker message;
          if (!message.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
            Log(LogLevel::kWarning, "executor pid ", pid_,
                " sent something that is no message: killed");
            Kill();
            return;
          }
          callbacks_.on_message(message);
        },
        [](const absl::Status&) {});  // The process's end says more.
    reactor_.Add(out_fd_, EPOLLIN, [this](uint32_t) { ReadFrom(out_fd_, out_lines_, out_log_); });
    reactor_.Add(err_fd_, EPOLLIN, [this](uint32_t) { ReadFrom(err_fd_, err_lines_, err_log_); });
    reactor_.Add(pid_fd_, EPOLLIN, [this](uint32_t) { OnExit(); });
    return absl::OkStatus();
  }

  pid_t pid() const override { return pid_; }
  void Send(const v1::WorkerToExecutor& message) override {
    if (control_ != nullptr) control_->Send(message);
  }
  void Kill() override {
    if (exited_) return;
    kill(-pid_, SIGKILL);
    if (cgroup_ != nullptr) cgroup_->Kill();
  }
  void FlushOutput() override {
    if (out_fd_ >= 0) ReadFrom(out_fd_, out_lines_, out_log_);
    if (err_fd_ >= 0) ReadFrom(err_fd_, err_lines_, err_log_);
    std::vector<OutputLine> lines;
    out_lines_.Finish(lines);
    err_lines_.Finish(lines);
    if (!lines.empty()) callbacks_.on_output(std::move(lines));
  }

 private:
  void OpenLogs(const std::string& stem) {
    if (stem.empty()) return;
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    out_log_ = open(absl::StrCat(stem, pid_, ".out").c_str(), flags, 0600);
    err_log_ = open(absl::StrCat(stem, pid_, ".err").c_str(), flags, 0600);
    if (out_log_ < 0 || err_log_ < 0) {
      Log(LogLevel::kWarning, "no log files ", stem, pid_, ".{out,err}: ", strerror(errno));
    }
  }

  void ReadFrom(int& fd, OutputLines& splitter, int log) {
    char buffer[64 * 1024];
    std::vector<OutputLine> lines;
    // At most some rounds: one chatty executor must not keep the worker from the others.
    for (int round = 0; round < 16; ++round) {
      const ssize_t got = read(fd, buffer, sizeof(buffer));
      if (got > 0) {
        splitter.Append(absl::string_view(buffer, static_cast<size_t>(got)), lines);
        continue;
      }
      if (got == 0) {  // Closed by all who could write.
        splitter.Finish(lines);
        reactor_.Remove(fd);
        close(fd);
        fd = -1;
      }
      break;
    }
    if (lines.empty()) return;
    if (log >= 0) {
      std::string text;
      for (const OutputLine& line : lines) absl::StrAppend(&text, line.text, "\n");
      if (write(log, text.data(), text.size()) < 0 && !log_failed_) {
        log_failed_ = true;  // A full disk loses log lines, nothing else.
        Log(LogLevel::kWarning, "cannot write the log of executor pid ", pid_, ": ",
            strerror(errno));
      }
    }
    callbacks_.on_output(std::move(lines));
  }

  void OnExit() {
    if (exited_) return;
    // The group first, while the dead leader still holds the number.
    kill(-pid_, SIGKILL);
    cgroup_->Kill();
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == 0) return;
    exited_ = true;
    FlushOutput();
    CloseAll();
    const auto on_exit = std::move(callbacks_.on_exit);  // It may destroy this.
    on_exit(DescribeExit(status), err_lines_.Tail());
  }

  void CloseAll() {
    if (control_ != nullptr) control_->Close();
    for (int* fd : {&out_fd_, &err_fd_, &pid_fd_}) {
      if (*fd >= 0) {
        reactor_.Remove(*fd);
        close(*fd);
      }
      *fd = -1;
    }
    for (int* fd : {&out_log_, &err_log_}) {
      if (*fd >= 0) close(*fd);
      *fd = -1;
    }
  }

  Reactor& reactor_;
  Callbacks callbacks_;
  pid_t pid_ = -1;
  std::unique_ptr<ExecutorCgroup> cgroup_;
  bool exited_ = false;
  bool log_failed_ = false;
  int pid_fd_ = -1, out_fd_ = -1, err_fd_ = -1, out_log_ = -1, err_log_ = -1;
  std::shared_ptr<FrameConnection> control_;
  OutputLines out_lines_{false};
  OutputLines err_lines_{true};
};

}  // namespace

std::string DescribeExit(int wait_status) {
  if (WIFEXITED(wait_status)) return absl::StrCat("exit status ", WEXITSTATUS(wait_status));
  const int signal = WTERMSIG(wait_status);
  return absl::StrCat("killed by signal ", signal, " (", Lower(strsignal(signal)), ")");
}

absl::StatusOr<std::unique_ptr<ExecutorProcess>> ExecutorProcess::Start(Reactor& reactor,
                                                                        const Options& options,
                                                                        Callbacks callbacks) {
  auto process = std::make_unique<RunningProcess>(reactor, std::move(callbacks));
  if (absl::Status status = process->Begin(options); !status.ok()) return status;
  return process;
}

}  // namespace muster::worker
