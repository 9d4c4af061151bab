// What the commands that ask a head have in common.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "runtime/cli/arguments.h"
#include "runtime/cli/command.h"

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

// Prints what print(StatusReply) makes of a status with nothing but those of its `rows`, as
// &v1::StatusReply::mutable_quotas, that are called `name` (all where it is empty). Where there are
// none of that name, `not_there` goes to stderr. The exit code.
template <typename Row, typename Print>
int ListRows(const Arguments& arguments, const std::string& address,
             google::protobuf::RepeatedPtrField<Row>* (v1::StatusReply::*rows)(),
             const std::string& name, const std::string& not_there, Print&& print) {
  Asked asked = AskForStatus(arguments, address);
  if (asked.code != kDone) return asked.code;
  v1::StatusReply shown;
  for (Row& row : *(asked.status.*rows)()) {
    if (name.empty() || row.name() == name) *(shown.*rows)()->Add() = std::move(row);
  }
  if (!name.empty() && (shown.*rows)()->empty()) return Failed(absl::NotFoundError(not_there));
  printf("%s", print(std::as_const(shown)).c_str());
  return kDone;
}

}  // namespace muster::cli
