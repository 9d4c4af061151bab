#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/cli/status_text.h"
#include "runtime/wire/protocol.h"
#include "scheduler/choice.h"
#include "scheduler/sharing.h"

namespace muster::cli {
namespace {

int List(const Arguments& arguments, const std::string& address, const std::string& name,
         bool json) {
  return ListRows(arguments, address, &v1::StatusReply::mutable_quotas, name,
                  absl::StrCat("there is no quota \"", name, "\"; muster quota lists them"),
                  [json](const v1::StatusReply& shown) {
                    if (json) return QuotasJson(shown);
                    return shown.quotas().empty() ? "no quotas\n"
                                                  : QuotasText(shown, StyleOfStdout());
                  });
}

int Set(const Arguments& arguments, const std::string& address, const std::string& text,
        bool json) {
  if (const absl::StatusOr<sched::Quota> quota = sched::ParseQuota(text); !quota.ok()) {
    return arguments.Wrong(quota.status().message());
  }
  v1::SetSharingRequest request;
  request.set_quota(ToUtf8(text));
  return AskForSharing(arguments, address, std::move(request), [&](const auto& reply) {
    if (json) return QuotaJson(reply.quota());
    v1::StatusReply shown;
    *shown.add_quotas() = reply.quota();
    return QuotasText(shown, StyleOfStdout());
  });
}

int Remove(const Arguments& arguments, const std::string& address, const std::string& name,
           bool json) {
  if (const absl::Status status = sched::ValidateTenantName("quota", name); !status.ok()) {
    return arguments.Wrong(status.message());
  }
  v1::SetSharingRequest request;
  request.set_quota_removed(ToUtf8(name));
  return AskForSharing(arguments, address, std::move(request), [&](const auto&) {
    return json ? RemovedJson(name) : absl::StrCat("quota ", name, " is removed\n");
  });
}

}  // namespace

int RunQuota(const std::vector<std::string>& given) {
  Arguments arguments(
      "quota",
      "Shows quotas with what is used of them, sets one, or removes one, while the cluster runs: "
      "what waits\nstarts, or is kept back, at once. What is held already stays, even above a new "
      "limit.\n\nWhat is set or removed here lies over the head's --quota flags, name by name. The "
      "workers keep it: a\nhead that restarts hears of it from the first of them, and it holds "
      "whatever that head's flags are. It\nis forgotten with the last worker.",
      {"muster quota", "muster quota list h100 --json",
       "muster quota set h100:tenant=research,gpus=8,ray.io/accelerator-type=H100",
       "muster quota remove h100"});
  std::string what = "list";
  std::string value;
  std::string address;
  bool json = false;
  arguments.OptionalPositional("list|set|remove", "what to do (default: list)", &what);
  arguments.OptionalPositional(
      "QUOTA",
      "set: as muster head --quota takes it, replaces one of that name; remove: its name; list: "
      "only that name",
      &value);
  AddAddress(arguments, &address);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (what == "list") return List(arguments, address, value, json);
  if (what != "set" && what != "remove") {
    return arguments.Wrong(
        absl::StrCat("what is \"", Printable(what), "\"? Only: list, set, remove"));
  }
  if (value.empty()) return arguments.Wrong("QUOTA is missing; see muster quota --help");
  return (what == "set" ? Set : Remove)(arguments, address, value, json);
}

}  // namespace muster::cli
