#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/output.h"
#include "runtime/wire/protocol.h"

namespace muster::cli {

int RunDrain(const std::vector<std::string>& given) {
  Arguments arguments(
      "drain",
      "Gives a node no new work. With a deadline its work is told, and ended then; what that ends "
      "is run\nagain elsewhere, at no cost to its retries. Said again, it replaces what was said "
      "before. Once nothing\nruns there, muster status shows the node as empty: it may be taken "
      "away.",
      {"muster drain 6f1c2a --deadline 5m --reason \"kernel update\"",
       "muster drain 6f1c2a --undo"});
  std::string node;
  std::string reason;
  std::string address_text;
  absl::Duration deadline = absl::InfiniteDuration();
  bool undo = false;
  bool json = false;
  arguments.Positional("NODE", "its name, as muster status shows it", &node);
  arguments.Duration("--deadline", "TIME",
                     "how long its work may go on (default: as long as it likes)", &deadline);
  arguments.Text("--reason", "TEXT", "for those who are told to leave, and for muster status",
                 &reason);
  arguments.Flag("--undo", "give it new work again; who was told to leave may stay", &undo);
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  const bool bounded = deadline != absl::InfiniteDuration();
  if (undo && (bounded || !reason.empty())) {
    return arguments.Wrong("--undo goes with neither --deadline nor --reason");
  }
  v1::ControlNodeRequest request;
  request.set_node(ToUtf8(node));
  request.mutable_drain()->set_draining(!undo);
  request.mutable_drain()->set_reason(ToUtf8(reason));
  if (bounded) request.mutable_drain()->set_deadline_in_ns(absl::ToInt64Nanoseconds(deadline));
  return AskForNode(arguments, address_text, std::move(request), json,
                    [&](const v1::NodeStatus& after) {
                      if (undo) return absl::StrCat("node ", node, " gets new work again");
                      return absl::StrCat(
                          "node ", node, " is draining",
                          bounded ? absl::StrCat("; what runs there ends in ", Age(deadline)) : "",
                          after.empty() ? "; it is empty, and may be taken away" : "");
                    });
}

}  // namespace muster::cli
