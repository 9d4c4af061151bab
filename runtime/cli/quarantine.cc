#include <cstdio>
#include <optional>

#include "absl/strings/str_cat.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/protocol.h"
#include "scheduler/resources.h"

namespace muster::cli {

int RunQuarantine(const std::vector<std::string>& given) {
  Arguments arguments(
      "quarantine",
      "Takes one GPU of a node out of use: it gets nothing new, and what holds any of it is told "
      "to "
      "leave\nand ended after the head's --quarantine-grace, at no cost to its retries.",
      {"muster quarantine 6f1c2a --gpu 1 --reason \"xid 79\"",
       "muster quarantine 6f1c2a --gpu 1 --undo"});
  std::string node;
  std::string reason;
  std::string address_text;
  int gpu = -1;
  bool undo = false;
  bool json = false;
  arguments.Positional("NODE", "its name, as muster status shows it", &node);
  arguments.Whole("--gpu", "N", "which one, counted from 0 (muster nodes lists them)",
                  {0, sched::kGpuDevicesMax - 1}, &gpu);
  arguments.Text("--reason", "TEXT", "for those who are told to leave, and for muster status",
                 &reason);
  arguments.Flag("--undo", "back into use; who was told to leave may stay", &undo);
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (gpu < 0) return arguments.Wrong("--gpu is missing; see muster quarantine --help");
  if (undo && !reason.empty()) return arguments.Wrong("--undo does not go with --reason");
  const absl::StatusOr<HostPort> address = HeadAddress(address_text);
  if (!address.ok()) return arguments.Wrong(address.status().message());

  v1::ControlNodeRequest request;
  request.set_node(ToUtf8(node));
  request.mutable_health()->set_gpu(static_cast<uint32_t>(gpu));
  request.mutable_health()->set_healthy(undo);
  request.mutable_health()->set_reason(ToUtf8(reason));
  const absl::StatusOr<v1::ControlNodeReply> reply =
      HeadClient(ToText(*address)).ControlNode(request, kTryFor);
  if (!reply.ok()) return NoAnswer(reply.status());
  if (const absl::Status done = FromProto(reply->status()); !done.ok()) return Failed(done);
  if (json) {
    printf("%s", NodeJson(reply->node()).c_str());
  } else {
    printf("GPU %d of node %s is %s\n", gpu, Printable(node).c_str(),
           undo ? "in use again" : "in quarantine");
  }
  return kDone;
}

}  // namespace muster::cli
