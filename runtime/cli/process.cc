#include "runtime/cli/process.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "runtime/base/clock.h"

namespace muster::cli {
namespace {

constexpr absl::Duration kLookAgain = absl::Milliseconds(5);
constexpr absl::Duration kAfterKill = absl::Seconds(5);

}  // namespace

Process FindProcess(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // "812 (name, any text) S 1 ...": the state is field 3, the start field 22.
  const size_t name_end = text.rfind(')');
  if (name_end == text.npos) return {};
  const std::vector<std::string> fields =
      absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipEmpty());
  Process process{.pid = pid};
  if (fields.size() < 20 || fields[0] == "Z" || fields[0] == "X") return {};
  if (!absl::SimpleAtoi(fields[19], &process.start)) return {};
  return process;
}

bool IsAlive(const Process& process) {
  return process.start != 0 && FindProcess(process.pid) == process;
}

bool Signal(const Process& process, int signal) {
  // Held by the descriptor, so that the pid cannot go to another between the look and the signal.
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0));
  if (fd < 0) return false;
  const bool sent = IsAlive(process) && syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0) == 0;
  close(fd);
  return sent;
}

std::vector<Process> WaitUntilGone(std::vector<Process> processes, absl::Duration longest) {
  const absl::Time deadline = MonotonicNow() + longest;
  const auto gone = [](const Process& process) { return !IsAlive(process); };
  while (true) {
    processes.erase(std::remove_if(processes.begin(), processes.end(), gone), processes.end());
    if (processes.empty() || MonotonicNow() >= deadline) return processes;
    absl::SleepFor(kLookAgain);
  }
}

std::vector<Process> End(const std::vector<Process>& processes, int signal,
                         absl::Duration patience) {
  for (const Process& process : processes) Signal(process, signal);
  const std::vector<Process> left = WaitUntilGone(processes, patience);
  for (const Process& process : left) Signal(process, SIGKILL);
  return WaitUntilGone(left, kAfterKill);
}

}  // namespace muster::cli
