#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/wire/head_link.h"

namespace muster::cli {
namespace {

bool IsTaskPrefix(const std::string& text) {
  bool hex = !text.empty() && text.size() <= 64;
  for (const char c : text) hex = hex && absl::ascii_isxdigit(static_cast<unsigned char>(c));
  return hex;
}

}  // namespace

int RunExplain(const std::vector<std::string>& given) {
  Arguments arguments(
      "explain", "Says why a task waits, choice by choice, and what would help; or where it runs.",
      {"muster explain task 4f2a"});
  std::string what;
  std::string id;
  std::string address_text;
  bool json = false;
  arguments.Positional("task", "what to explain", &what);
  arguments.Positional(
      "ID", "the task's id, or the beginning of it (muster status --json lists those that wait)",
      &id);
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (what != "task")
    return arguments.Wrong(
        absl::StrCat("\"", Printable(what), "\" cannot be explained; only: task"));
  if (!IsTaskPrefix(id)) {
    return arguments.Wrong(
        absl::StrCat("task id \"", Printable(id), "\": must be hexadecimal digits, such as 4f2a"));
  }
  const absl::StatusOr<HostPort> address = HeadAddress(address_text);
  if (!address.ok()) return arguments.Wrong(address.status().message());

  const absl::StatusOr<v1::ExplainReply> reply = HeadClient(ToText(*address)).Explain(id, kTryFor);
  if (!reply.ok()) return NoAnswer(reply.status());
  if (json) printf("%s", ExplainJson(*reply).c_str());
  if (reply->found() == v1::ExplainReply::FOUND_ONE) {
    if (!json) printf("%s", Printable(reply->text()).c_str());
    return kDone;
  }
  if (reply->found() == v1::ExplainReply::FOUND_NONE) {
    fprintf(stderr,
            "no task's id begins with %s; one that has ended is known until its driver ends\n",
            id.c_str());
    return kFailed;
  }
  fprintf(stderr, "the ids of several tasks begin with %s:\n", id.c_str());
  for (const std::string& candidate : reply->candidates())
    fprintf(stderr, "  %s\n", Printable(candidate).c_str());
  return kFailed;
}

}  // namespace muster::cli
