#include <cstdio>

#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/wire/protocol.h"

namespace muster::cli {

int RunVersion(const std::vector<std::string>& given) {
  Arguments arguments("version", "Says which muster this is, and which protocol it speaks.",
                      {"muster version"});
  bool json = false;
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (json) {
    printf("%s", VersionJson(kVersion, kProtocolMajor).c_str());
  } else {
    printf("muster %s (protocol %u)\n", kVersion, kProtocolMajor);
  }
  return kDone;
}

}  // namespace muster::cli
