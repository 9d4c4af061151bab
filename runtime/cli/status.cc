#include <cstdio>

#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/status_text.h"
#include "runtime/wire/head_link.h"

namespace muster::cli {

int RunStatus(const std::vector<std::string>& given) {
  Arguments arguments("status",
                      "Shows the cluster: its nodes, what they have free, and what waits and why.",
                      {"muster status", "muster status --json | jq '.nodes[].state'"});
  std::string address_text;
  bool json = false;
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  const absl::StatusOr<HostPort> address = HeadAddress(address_text);
  if (!address.ok()) return arguments.Wrong(address.status().message());

  const absl::StatusOr<v1::StatusReply> reply = HeadClient(ToText(*address)).GetStatus(kTryFor);
  if (!reply.ok()) return NoAnswer(reply.status());
  printf("%s", json ? StatusJson(*reply).c_str() : StatusText(*reply, StyleOfStdout()).c_str());
  return kDone;
}

}  // namespace muster::cli
