#include "runtime/cli/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/clock.h"
#include "runtime/cli/daemon_directory.h"

extern char** environ;

namespace muster::cli {
namespace {

constexpr size_t kSaidBytesMax = size_t{64} * 1024;
constexpr size_t kLastLines = 5;

sigset_t Interrupts() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& more) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view name =
        absl::string_view(*entry).substr(0, absl::string_view(*entry).find('='));
    bool replaced = false;
    for (const std::string& other : more)
      replaced = replaced || absl::StartsWith(other, absl::StrCat(name, "="));
    if (!replaced) environment.emplace_back(*entry);
  }
  environment.insert(environment.end(), more.begin(), more.end());
  return environment;
}

// A session of its own, stdin from nowhere, stdout and stderr to `out`, no signal blocked. The
// error number.
int SpawnDetached(const SpawnOptions& options, int out, pid_t* pid) {
  std::vector<std::string> argv_texts = {"muster"};
  argv_texts.insert(argv_texts.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment_texts = Environment(options.environment);
  const std::vector<char*> argv = Pointers(argv_texts);
  const std::vector<char*> environment = Pointers(environment_texts);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t defaults;
  sigemptyset(&defaults);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) sigaddset(&defaults, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(
      &attributes,
      static_cast<int16_t>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  const int error =
      posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

absl::StatusOr<SpawnedDaemon> SpawnedDaemon::Start(const SpawnOptions& options) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return absl::UnavailableError(absl::StrCat("no pipe: ", strerror(errno)));
  // The child's copy must not be the one that adddup2 would leave close-on-exec: it never is 1 or 2
  // here.
  const int out = fcntl(ends[1], F_DUPFD_CLOEXEC, 10);
  close(ends[1]);
  pid_t pid = -1;
  const int error = out < 0 ? errno : SpawnDetached(options, out, &pid);
  if (out >= 0) close(out);
  if (error != 0) {
    close(ends[0]);
    return absl::UnavailableError(
        absl::StrCat("cannot start muster ", options.arguments.front(), ": ", strerror(error)));
  }
  return SpawnedDaemon(FindProcess(pid), ends[0]);
}

SpawnedDaemon::SpawnedDaemon(SpawnedDaemon&& other) noexcept
    : process_(other.process_), pipe_(std::exchange(other.pipe_, -1)) {}

SpawnedDaemon::~SpawnedDaemon() {
  if (pipe_ >= 0) close(pipe_);
}

absl::StatusOr<std::string> SpawnedDaemon::AwaitReady(absl::Time deadline) {
  constexpr int kSliceMs = 50;
  std::string said;
  while (said.size() < kSaidBytesMax) {
    if (Interrupted()) return absl::CancelledError("interrupted");
    if (MonotonicNow() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("muster process ", process_.pid, " did not get ready in time"));
    }
    pollfd waited = {pipe_, POLLIN, 0};
    if (poll(&waited, 1, kSliceMs) <= 0) continue;
    char buffer[4096];
    const ssize_t got = read(pipe_, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    said.append(buffer, static_cast<size_t>(got));
    absl::string_view line = absl::StripSuffix(said, "\n");
    if (line.size() == said.size()) continue;
    line = line.substr(line.rfind('\n') == line.npos ? 0 : line.rfind('\n') + 1);
    if (absl::ConsumePrefix(&line, "ready ")) return std::string(line);
  }
  const absl::string_view why = absl::StripAsciiWhitespace(said);
  return absl::FailedPreconditionError(why.empty() ? "it ended without a word" : why);
}

std::string SpawnedDaemon::LastLines() const {
  for (const DaemonRecord& daemon : ListDaemons()) {
    if (!(daemon.process == process_)) continue;
    std::ifstream file(daemon.path + "/log");
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    std::vector<std::string> lines = absl::StrSplit(absl::StripAsciiWhitespace(text), '\n');
    if (lines.size() > kLastLines) lines.erase(lines.begin(), lines.end() - kLastLines);
    return absl::StrJoin(lines, "\n");
  }
  return "";
}

void DeferInterrupts() {
  const sigset_t set = Interrupts();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

bool Interrupted() {
  static bool interrupted = false;
  const sigset_t set = Interrupts();
  const timespec now = {};
  interrupted = interrupted || sigtimedwait(&set, nullptr, &now) > 0;
  return interrupted;
}

}  // namespace muster::cli
