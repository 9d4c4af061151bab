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
namespace {

// ask(HeadClient) gives absl::StatusOr<Reply>. The exit code.
template <typename Reply, typename Ask>
int AskHead(const Arguments& arguments, const std::string& address, Reply& reply, Ask&& ask) {
  const absl::StatusOr<HostPort> head = HeadAddress(address);
  if (!head.ok()) return arguments.Wrong(head.status().message());
  absl::StatusOr<Reply> answer = ask(HeadClient(ToText(*head)));
  if (!answer.ok()) return NoAnswer(answer.status());
  reply = *std::move(answer);
  return kDone;
}

}  // namespace

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
  v1::ControlNodeReply reply;
  const int code = AskHead(arguments, address, reply, [&](HeadClient head) {
    return head.ControlNode(std::move(request), kTryFor);
  });
  if (code != kDone) return code;
  if (const absl::Status done = FromProto(reply.status()); !done.ok()) return Failed(done);
  if (json) {
    printf("%s", NodeJson(reply.node()).c_str());
  } else {
    printf("%s\n", Printable(said(reply.node())).c_str());
  }
  return kDone;
}

int AskForSharing(const Arguments& arguments, const std::string& address,
                  v1::SetSharingRequest request,
                  const std::function<std::string(const v1::SetSharingReply& reply)>& said) {
  v1::SetSharingReply reply;
  const int code = AskHead(arguments, address, reply, [&](HeadClient head) {
    return head.SetSharing(std::move(request), kTryFor);
  });
  if (code != kDone) return code;
  if (const absl::Status done = FromProto(reply.status()); !done.ok()) return Failed(done);
  printf("%s", Printable(said(reply)).c_str());
  if (reply.keepers() == 0) {
    fprintf(stderr, "no worker is there to keep it: a head that restarts now forgets it\n");
  }
  return kDone;
}

Asked AskForStatus(const Arguments& arguments, const std::string& address) {
  Asked asked;
  asked.code = AskHead(arguments, address, asked.status,
                       [](HeadClient head) { return head.GetStatus(kTryFor); });
  return asked;
}

}  // namespace muster::cli
