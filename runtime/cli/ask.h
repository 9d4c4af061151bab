// What the commands that ask a head have in common.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "runtime/cli/arguments.h"

namespace muster::cli {

inline constexpr absl::Duration kTryFor = absl::Seconds(1);  // To reach a head: people wait.

void AddAddress(Arguments& arguments, std::string* address);
void AddJson(Arguments& arguments, bool* json);

// Both say why on stderr and give the exit code.
int Failed(const absl::Status& status);  // 1
int NoAnswer(const absl::Status&
                 status);  // Of a question to the head: 3 where it cannot be reached or refuses us.

// Has the head at `address` (as AddAddress() read it) do what `request` asks of a node. Prints the
// node after it, as JSON or as the line that `said` makes of it; or why not. The exit code.
int AskForNode(const Arguments& arguments, const std::string& address,
               v1::ControlNodeRequest request, bool json,
               const std::function<std::string(const v1::NodeStatus& after)>& said);

// The same for a quota or a weight. `said` makes all that is printed. Where no worker is there that
// would keep it over a restart of the head, stderr says so.
int AskForSharing(const Arguments& arguments, const std::string& address,
                  v1::SetSharingRequest request,
                  const std::function<std::string(const v1::SetSharingReply& reply)>& said);

// What the head at `address` says of the cluster; where nothing came, the exit code.
struct Asked {
  int code = 0;
  v1::StatusReply status;
};
Asked AskForStatus(const Arguments& arguments, const std::string& address);

}  // namespace muster::cli
