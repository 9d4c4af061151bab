#include "runtime/cli/ask.h"

#include <cstdio>
#include <utility>

#include "runtime/cli/address.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/protocol.h"

namespace muster::cli {

void AddAddress(Arguments& arguments, std::string* address) {
  arguments.Text("--address", "HOST:PORT",
                 "the head's (default: MUSTER_ADDRESS, else 127.0.0.1:6379)", address);
}

void AddJson(Arguments& arguments, bool* json) {
  arguments.Flag("--json", "print JSON, for programs", json);
}

int Failed(const absl::Status& status) {
  fprintf(stderr, "%s\n", Printable(status.message()).c_str());
  return kFailed;
}

int NoAnswer(const absl::Status& status) {
  Failed(status);
  const bool unreachable = absl::IsUnavailable(status) || absl::IsUnauthenticated(status) ||
                           absl::IsFailedPrecondition(status) || absl::IsDeadlineExceeded(status) ||
                           absl::IsUnimplemented(status);
  return unreachable ? kUnreachable : kFailed;
}

int AskForNode(const Arguments& arguments, const std::string& address,
               v1::ControlNodeRequest request, bool json,
               const std::function<std::string(const v1::NodeStatus& after)>& said) {
  const absl::StatusOr<HostPort> head = HeadAddress(address);
  if (!head.ok()) return arguments.Wrong(head.status().message());
  const absl::StatusOr<v1::ControlNodeReply> reply =
      HeadClient(ToText(*head)).ControlNode(std::move(request), kTryFor);
  if (!reply.ok()) return NoAnswer(reply.status());
  if (const absl::Status done = FromProto(reply->status()); !done.ok()) return Failed(done);
  if (json) {
    printf("%s", NodeJson(reply->node()).c_str());
  } else {
    printf("%s\n", Printable(said(reply->node())).c_str());
  }
  return kDone;
}

int AskForSharing(const Arguments& arguments, const std::string& address,
                  v1::SetSharingRequest request,
                  const std::function<std::string(const v1::SetSharingReply& reply)>& said) {
  const absl::StatusOr<HostPort> head = HeadAddress(address);
  if (!head.ok()) return arguments.Wrong(head.status().message());
  const absl::StatusOr<v1::SetSharingReply> reply =
      HeadClient(ToText(*head)).SetSharing(std::move(request), kTryFor);
  if (!reply.ok()) return NoAnswer(reply.status());
  if (const absl::Status done = FromProto(reply->status()); !done.ok()) return Failed(done);
  printf("%s", Printable(said(*reply)).c_str());
  if (reply->keepers() == 0) {
    fprintf(stderr, "no worker is there to keep it: a head that restarts now forgets it\n");
  }
  return kDone;
}

Asked AskForStatus(const Arguments& arguments, const std::string& address) {
  const absl::StatusOr<HostPort> head = HeadAddress(address);
  if (!head.ok()) return {arguments.Wrong(head.status().message()), {}};
  absl::StatusOr<v1::StatusReply> reply = HeadClient(ToText(*head)).GetStatus(kTryFor);
  if (!reply.ok()) return {NoAnswer(reply.status()), {}};
  return {kDone, *std::move(reply)};
}

}  // namespace muster::cli
