#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
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

int Show(const v1::DecisionsReply& reply, bool listed, bool json) {
  if (json) {
    printf("%s", DecisionsJson(reply).c_str());
  } else if (listed && reply.decisions().empty()) {
    printf("Nothing has been decided yet.\n");
  } else {
    for (const v1::Decision& decision : reply.decisions()) {
      printf("%s%s", Printable(listed ? decision.line() : decision.text()).c_str(),
             listed ? "\n" : "");
    }
  }
  return kDone;
}

// A number is a decision's, unless it was said to be a task's; what else is hexadecimal a task's.
int ExplainDecision(const std::string& address, const std::string& id, bool named_task, int most,
                    bool json) {
  uint64_t number = 0;
  if (!named_task && !id.empty() && absl::SimpleAtoi(id, &number) && number > 0) {
    const absl::StatusOr<v1::DecisionsReply> reply =
        HeadClient(address).GetDecisions(number, "", 1, kTryFor);
    if (!reply.ok()) return NoAnswer(reply.status());
    if (!reply->decisions().empty()) return Show(*reply, /*listed=*/false, json);
  }
  const absl::StatusOr<v1::DecisionsReply> reply =
      HeadClient(address).GetDecisions(0, id, most, kTryFor);
  if (!reply.ok()) return NoAnswer(reply.status());
  if (id.empty() || !reply->decisions().empty()) return Show(*reply, id.empty(), json);
  fprintf(stderr, "%s: %s%s\n", id.c_str(), Printable(reply->found()).c_str(),
          number > 0 ? "; nor is there (still) a decision of that number" : "");
  return kFailed;
}

}  // namespace

int RunExplain(const std::vector<std::string>& given) {
  Arguments arguments(
      "explain",
      "Says why a task waits, choice by choice, what would help, and when it could start; where it "
      "runs\nor ran; or why the scheduler decided as it did.",
      {"muster explain task 4f2a", "muster explain --decision            # the last decisions",
       "muster explain --decision 17", "muster explain task 4f2a --decision"});
  std::string what;
  std::string id;
  std::string address_text;
  bool json = false;
  bool decision = false;
  int most = 20;
  arguments.OptionalPositional("task", "what to explain", &what);
  arguments.OptionalPositional(
      "ID",
      "the task's id, or the beginning of it (muster status --json lists those that wait); with "
      "--decision also a decision's number",
      &id);
  arguments.Flag(
      "--decision",
      "why that was decided, which nodes lost and by what; without ID the last decisions",
      &decision);
  arguments.Whole("--most", "N", "so many of the last decisions (default 20)", {1, 1000}, &most);
  AddAddress(arguments, &address_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  const bool named_task = what == "task";
  // `--decision 17` and `--decision 4f2a` name no kind.
  if (decision && id.empty() && what != "task") id = std::exchange(what, "task");
  if (!decision && what.empty())
    return arguments.Wrong("task is missing; see muster explain --help");
  if (what != "task") {
    return arguments.Wrong(
        absl::StrCat("\"", Printable(what), "\" cannot be explained; only: task"));
  }
  if (!decision && id.empty()) return arguments.Wrong("ID is missing; see muster explain --help");
  if (!(decision && id.empty()) && !IsTaskPrefix(id)) {
    return arguments.Wrong(
        absl::StrCat("task id \"", Printable(id), "\": must be hexadecimal digits, such as 4f2a"));
  }
  const absl::StatusOr<HostPort> address = HeadAddress(address_text);
  if (!address.ok()) return arguments.Wrong(address.status().message());

  if (decision) return ExplainDecision(ToText(*address), id, named_task, most, json);

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
