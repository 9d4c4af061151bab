// The program `muster`.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/cli/command.h"
#include "runtime/cli/output.h"
#include "runtime/wire/protocol.h"

namespace muster::cli {
namespace {

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const std::vector<std::string>& arguments);
};

constexpr Command kCommands[] = {
    {"up", "start a cluster on this machine", RunUp},
    {"down", "end a cluster", RunDown},
    {"head", "run a head, in the foreground", RunHead},
    {"worker", "run a worker: this machine as a node, in the foreground", RunWorker},
    {"status", "show nodes, and what waits and why", RunStatus},
    {"nodes", "show each node in full", RunNodes},
    {"explain", "say why a task waits, or why it ran where it did", RunExplain},
    {"drain", "give a node no new work, and its work until a deadline", RunDrain},
    {"quarantine", "take a GPU of a node out of use, or back", RunQuarantine},
    {"quota", "show what tenants and jobs may hold, and change it", RunQuota},
    {"fair-share", "show who shares the cluster, and change weights", RunFairShare},
    {"whatif", "say where and when a request could start, also with other nodes", RunWhatIf},
    {"selector", "check a label selector", RunSelector},
    {"version", "say which muster this is", RunVersion},
};

std::string Help() {
  size_t width = 0;
  for (const Command& command : kCommands)
    width = std::max(width, std::string(command.name).size());
  std::string text = "Usage: muster COMMAND [options]\n\n";
  for (const Command& command : kCommands) {
    const std::string name = command.name;
    absl::StrAppend(&text, "  ", name, std::string(width - name.size() + 2, ' '), command.summary,
                    "\n");
  }
  absl::StrAppend(&text,
                  "\n`muster COMMAND --help` has the options. The cluster is the one at "
                  "MUSTER_ADDRESS or --address,\n"
                  "else at 127.0.0.1:6379. Exit codes: 0 done, 1 no or failed, 2 wrong usage, 3 no "
                  "cluster reached.\n"
                  "\nFor example:\n"
                  "  muster up --node count=2,cpus=2,gpus=1,ray.io/accelerator-type=L4\n"
                  "  muster status\n"
                  "  muster down\n");
  return text;
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    printf("%s", Help().c_str());
    return kWrongUsage;
  }
  std::string name = arguments.front();
  std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (name == "--version") name = "version";
  if (name == "help" && !rest.empty()) {
    name = rest.front();
    rest = {"--help"};
  }
  if (name == "--help" || name == "-h" || name == "help") {
    printf("%s", Help().c_str());
    return kDone;
  }
  for (const Command& command : kCommands) {
    if (name == command.name) return command.run(rest);
  }
  fprintf(stderr, "muster: there is no command \"%s\"; see muster --help\n",
          Printable(name).c_str());
  return kWrongUsage;
}

}  // namespace
}  // namespace muster::cli

int main(int argc, char** argv) {
  muster::SetUpLog("muster", muster::LogLevel::kError);
  const int code = muster::cli::Run(std::vector<std::string>(argv + 1, argv + argc));
  // A full disk or a closed pipe must not pass for success.
  if (fflush(stdout) != 0 && code == muster::cli::kDone) return muster::cli::kFailed;
  return code;
}
