#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/wire/protocol.h"
#include "scheduler/resources.h"

namespace muster::cli {

int RunQuarantine(const std::vector<std::string>& given) {
  Arguments arguments(
      "quarantine",
      "Takes one GPU of a node out of use: it gets nothing new, and what holds any of it is told "
      "to leave\nand ended after the head's --quarantine-grace, at no cost to its retries.",
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
  v1::ControlNodeRequest request;
  request.set_node(ToUtf8(node));
  request.mutable_health()->set_gpu(static_cast<uint32_t>(gpu));
  request.mutable_health()->set_healthy(undo);
  request.mutable_health()->set_reason(ToUtf8(reason));
  return AskForNode(arguments, address_text, std::move(request), json, [&](const v1::NodeStatus&) {
    return absl::StrCat("GPU ", gpu, " of node ", node, " is ",
                        undo ? "in use again" : "in quarantine");
  });
}

}  // namespace muster::cli
