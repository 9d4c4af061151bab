#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/cli/status_text.h"
#include "runtime/wire/head_link.h"

namespace muster::cli {

namespace {

int WriteSnapshot(const std::string& address, const std::string& path) {
  const absl::StatusOr<std::string> snapshot = HeadClient(address).GetSnapshot(kTryFor);
  if (!snapshot.ok()) return NoAnswer(snapshot.status());
  if (path.empty()) {
    fwrite(snapshot->data(), 1, snapshot->size(), stdout);
    return kDone;
  }
  FILE* const file = fopen(path.c_str(), "we");
  bool whole = file != nullptr;
  if (whole) whole = fwrite(snapshot->data(), 1, snapshot->size(), file) == snapshot->size();
  if (file != nullptr && fclose(file) != 0) whole = false;
  if (whole) return kDone;
  return Failed(absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", strerror(errno))));
}

}  // namespace

int RunStatus(const std::vector<std::string>& given) {
  Arguments arguments("status",
                      "Shows the cluster: its nodes, what they have free, and what waits and why.",
                      {"muster status", "muster status --json | jq '.nodes[].state'",
                       "muster status --snapshot now.json"});
  std::string address_text;
  bool json = false;
  bool snapshot = false;
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  arguments.Flag("--snapshot",
                 "print all that the scheduler knows, as JSON, for muster whatif --snapshot",
                 &snapshot);
  std::string file;
  arguments.OptionalPositional("FILE", "with --snapshot: where to write it (default: stdout)",
                               &file);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (snapshot) {
    const absl::StatusOr<HostPort> address = HeadAddress(address_text);
    if (!address.ok()) return arguments.Wrong(address.status().message());
    return WriteSnapshot(ToText(*address), file);
  }
  if (!file.empty()) {
    return arguments.Wrong(
        absl::StrCat("what is \"", Printable(file), "\"? See muster status --help"));
  }

  const auto [code, status] = AskForStatus(arguments, address_text);
  if (code != kDone) return code;
  printf("%s", json ? StatusJson(status).c_str() : StatusText(status, StyleOfStdout()).c_str());
  return kDone;
}

}  // namespace muster::cli
