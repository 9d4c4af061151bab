// What `muster head` and `muster worker` have in common: their log, their directory, the signals
// they end by.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/cli/arguments.h"
#include "runtime/cli/daemon_directory.h"

namespace muster::cli {

struct DaemonOptions {
  std::string log_level{};
  bool detached = false;  // Not shown: `muster up` starts it and waits until it is ready.
};
void AddDaemonOptions(Arguments& arguments, DaemonOptions* options);
// What is wrong with them, or OK. From here on the log says `component`.
absl::Status SetUpDaemon(absl::string_view component, const DaemonOptions& options);

// Where a daemon that others can reach is refused: what listens beyond loopback asks for a token.
absl::Status CheckMayListen(const std::string& host);

// Before any thread is started: SIGTERM, SIGINT and SIGHUP wait for SignalThread, SIGPIPE is
// ignored.
void BlockSignals();

// Says that the daemon runs. In the foreground `line` goes to stdout. A detached one leaves the
// terminal, logs into its directory from here on, and tells `muster up`: "ready ADDRESS".
absl::Status SayStarted(const DaemonOptions& options, const DaemonDirectory& directory,
                        const std::string& line, const std::string& address);

// A thread that waits for signals, and keeps house each minute: the directory is in use, its logs
// are bounded.
class SignalThread {
 public:
  // REQUIRES: BlockSignals() was called; `directory` outlives this. `on_signal` is called on the
  // thread.
  SignalThread(const DaemonDirectory& directory, std::function<void(int signal)> on_signal);
  ~SignalThread();

 private:
  void Run();

  const DaemonDirectory& directory_;
  const std::function<void(int signal)> on_signal_;
  int signals_ = -1;
  int end_ = -1;
  std::thread thread_;
};

}  // namespace muster::cli
