#include <cstdio>

#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/status_text.h"

namespace muster::cli {

int RunNodes(const std::vector<std::string>& given) {
  Arguments arguments(
      "nodes", "Shows each node: what it has, its GPUs one by one, and its labels in full.",
      {"muster nodes", "muster nodes --json | jq '.[] | select(.state == \"alive\").id'"});
  std::string address_text;
  bool json = false;
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;

  const auto [code, status] = AskForStatus(arguments, address_text);
  if (code != kDone) return code;
  printf("%s", json ? NodesJson(status).c_str() : NodesText(status, StyleOfStdout()).c_str());
  return kDone;
}

}  // namespace muster::cli
