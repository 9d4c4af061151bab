#include "runtime/head/head.h"

#include <signal.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/daemon.h"
#include "runtime/cli/history_options.h"
#include "runtime/cli/sharing_options.h"
#include "runtime/wire/protocol.h"

namespace muster::cli {

int RunHead(const std::vector<std::string>& given) {
  Arguments arguments("head",
                      "Runs a head in the foreground, until SIGTERM, SIGINT or muster down.",
                      {"muster head",
                       "muster head --fair-share research=2 --quota h100:tenant=research,gpus=8,"
                       "ray.io/accelerator-type=H100",
                       "MUSTER_AUTH_TOKEN_PATH=/etc/muster/token muster head --host 0.0.0.0"});
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
  int waiting_max = 2'000'000;
  int waiting_per_tenant_max = 1'000'000;
  arguments.Whole("--waiting-max", "N",
                  "requests that may wait; others are rejected (default 2000000)", {0, 100'000'000},
                  &waiting_max);
  arguments.Whole("--waiting-per-tenant-max", "N", "of one tenant (default 1000000)",
                  {0, 100'000'000}, &waiting_per_tenant_max);
  arguments.Duration("--quarantine-grace", "TIME",
                     "from the notice to the end of work on a GPU that comes into quarantine "
                     "(default 30s)",
                     &options.quarantine_grace);
  HistoryOptions history;
  AddHistoryOptions(arguments, &history);
  SharingOptions sharing;
  AddSharingOptions(arguments, &sharing);
  AddDaemonOptions(arguments, &daemon);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (absl::Status status = Apply(history, options); !status.ok())
    return arguments.Wrong(status.message());
  options.waiting_requests_max = waiting_max;
  options.waiting_per_tenant_max = waiting_per_tenant_max;
  if (options.node_timeout < absl::Seconds(1))
    return arguments.Wrong("--node-timeout: must be 1s or more");
  if (absl::Status status = Apply(sharing, options); !status.ok())
    return arguments.Wrong(status.message());
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
