#include <signal.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/daemon_directory.h"
#include "runtime/cli/output.h"
#include "runtime/wire/head_link.h"

namespace muster::cli {
namespace {

constexpr absl::Duration kOrderlyEnd = absl::Seconds(10);  // The head itself gives its workers 5 s.
constexpr absl::Duration kEndPatience = absl::Seconds(5);

// The daemons of this machine that belong to the head at `address`, running or not.
std::vector<DaemonRecord> DaemonsOf(const HostPort& address) {
  std::vector<DaemonRecord> daemons;
  for (DaemonRecord& daemon : ListDaemons()) {
    const absl::StatusOr<HostPort> theirs = ParseAddress(daemon.address);
    if (theirs.ok() && SameHead(*theirs, address)) daemons.push_back(std::move(daemon));
  }
  return daemons;
}

std::vector<Process> Running(const std::vector<DaemonRecord>& daemons) {
  std::vector<Process> processes;
  for (const DaemonRecord& daemon : daemons) {
    if (IsAlive(daemon.process)) processes.push_back(daemon.process);
  }
  return processes;
}

// What is left of them goes too: a process that was killed left its directory.
int Finish(const std::vector<DaemonRecord>& daemons, const std::vector<Process>& left,
           const std::string& said) {
  for (const DaemonRecord& daemon : daemons) {
    if (!IsAlive(daemon.process)) RemoveDirectory(daemon);
  }
  if (left.empty()) {
    printf("%s\n", said.c_str());
    return kDone;
  }
  std::vector<int> pids;
  pids.reserve(left.size());
  for (const Process& process : left) pids.push_back(process.pid);
  fprintf(stderr, "these processes have not ended: %s\n", absl::StrJoin(pids, ", ").c_str());
  return kFailed;
}

// The head has told its workers to end, and ends itself.
int AwaitEnd(const HostPort& address, const std::vector<DaemonRecord>& daemons,
             const v1::StopReply& reply) {
  const std::vector<Process> ours = Running(daemons);
  std::vector<Process> all = ours;
  for (const int pid : reply.pids()) {
    const Process process = FindProcess(pid);
    const bool here = IsLoopback(address.host);  // Else their pids are another machine's.
    if (here && process.start != 0 && std::count(all.begin(), all.end(), process) == 0)
      all.push_back(process);
  }
  std::vector<Process> left = WaitUntilGone(all, kOrderlyEnd);
  // Only what is known to be muster's is killed.
  if (!left.empty()) {
    End(Running(daemons), SIGKILL, kEndPatience);
    left = WaitUntilGone(left, kEndPatience);
  }
  const size_t workers = reply.pids_size() > 0 ? static_cast<size_t>(reply.pids_size()) - 1 : 0;
  return Finish(daemons, left,
                absl::StrCat("muster at ", ToText(address), " has ended: the head, ",
                             Count(workers, "worker", "workers")));
}

}  // namespace

int RunDown(const std::vector<std::string>& given) {
  Arguments arguments("down",
                      "Ends a cluster: its head, and its workers wherever they run. Where the head "
                      "is dead already, "
                      "the workers of this machine that belonged to it.",
                      {"muster down", "muster down --address 127.0.0.1:40123"});
  std::string address_text;
  AddAddress(arguments, &address_text);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  const absl::StatusOr<HostPort> address = HeadAddress(address_text);
  if (!address.ok()) return arguments.Wrong(address.status().message());

  const std::vector<DaemonRecord> daemons = DaemonsOf(*address);
  const absl::StatusOr<v1::StopReply> reply = HeadClient(ToText(*address)).Stop(kTryFor);
  if (reply.ok()) return AwaitEnd(*address, daemons, *reply);
  if (!absl::IsUnavailable(reply.status())) return NoAnswer(reply.status());

  const std::vector<Process> running = Running(daemons);
  if (running.empty()) {
    for (const DaemonRecord& daemon : daemons) RemoveDirectory(daemon);
    return NoAnswer(reply.status());
  }
  return Finish(daemons, End(running, SIGINT, kEndPatience),
                absl::StrCat("the head at ", ToText(*address), " does not answer; ended ",
                             Count(running.size(), "process", "processes"),
                             " of its cluster on this machine"));
}

}  // namespace muster::cli
