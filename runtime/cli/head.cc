#include "runtime/head/head.h"

#include <signal.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/daemon.h"
#include "runtime/wire/protocol.h"

namespace muster::cli {

int RunHead(const std::vector<std::string>& given) {
  Arguments arguments(
      "head", "Runs a head in the foreground, until SIGTERM, SIGINT or muster down.",
      {"muster head", "MUSTER_AUTH_TOKEN_PATH=/etc/muster/token muster head --host 0.0.0.0"});
  head::HeadOptions options;
  DaemonOptions daemon;
  arguments.Text("--host", "HOST",
                 "where to listen (default 127.0.0.1); others than loopback need a token",
                 &options.host);
  arguments.Whole("--port", "PORT", "where to listen (default 6379); 0 picks a free one",
                  {0, 65535}, &options.port);
  arguments.Duration("--node-timeout", "TIME",
                     "a node is lost after so long without a sign of life (default 10s)",
                     &options.node_timeout);
  std::string detail = "sampled";
  int record_mib = 256;
  arguments.Text("--record-events", "FILE",
                 "records what the scheduler is told, for muster whatif --replay",
                 &options.record_events);
  arguments.Whole("--record-events-mib", "N",
                  "of FILE and FILE.1, the half before it, together (default 256)", {1, 1 << 20},
                  &record_mib);
  arguments.Whole("--decisions-kept", "N",
                  "for muster explain --decision, the newest (default 4096)", {0, 1'000'000},
                  &options.decisions_kept);
  arguments.Text(
      "--decision-detail", "off|sampled|all",
      "for how many of them also which nodes lost, and by what (default sampled: as many "
      "as cost little)",
      &detail);
  AddDaemonOptions(arguments, &daemon);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  const absl::StatusOr<sched::DecisionDetail> parsed = sched::ParseDecisionDetail(detail);
  if (!parsed.ok())
    return arguments.Wrong(absl::StrCat("--decision-detail: ", parsed.status().message()));
  options.decision_detail = *parsed;
  options.record_bytes_max = int64_t{record_mib} << 20;
  if (options.node_timeout < absl::Seconds(1))
    return arguments.Wrong("--node-timeout: must be 1s or more");
  if (absl::Status status = SetUpDaemon("head", daemon); !status.ok())
    return arguments.Wrong(status.message());
  if (absl::Status status = CheckMayListen(options.host); !status.ok())
    return arguments.Wrong(status.message());
  BlockSignals();

  RemoveLeftovers();
  absl::StatusOr<DaemonDirectory> directory = DaemonDirectory::Create("head", "");
  if (!directory.ok()) return Failed(directory.status());
  options.package_directory = directory->path() + "/packages";
  const absl::StatusOr<std::unique_ptr<head::Head>> head = head::Head::Start(options);
  if (!head.ok()) return Failed(head.status());
  const std::string address = ToText(HostPort{options.host, (*head)->port()});
  absl::Status started = directory->SetAddress(address);
  if (started.ok()) {
    started = SayStarted(daemon, *directory,
                         absl::StrCat("muster ", kVersion, ": head at ", address,
                                      ". Add nodes with: muster worker --address ", address),
                         address);
  }
  if (!started.ok()) return Failed(started);
  {
    SignalThread signals(*directory, [&head](int signal) {
      Log(LogLevel::kInfo, "ends on ",
          sigabbrev_np(signal) == nullptr ? "a signal" : sigabbrev_np(signal));
      (*head)->Stop();
    });
    (*head)->WaitUntilStopped();
  }
  return kDone;
}

}  // namespace muster::cli
