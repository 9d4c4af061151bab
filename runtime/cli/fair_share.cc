#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "runtime/cli/sharing_options.h"
#include "runtime/cli/status_text.h"
#include "runtime/wire/protocol.h"
#include "scheduler/sharing.h"

namespace muster::cli {
namespace {

int List(const Arguments& arguments, const std::string& address, const std::string& name,
         bool json) {
  return ListRows(arguments, address, &v1::StatusReply::mutable_tenants, name,
                  absl::StrCat("there is no tenant \"", name,
                               "\": one is known while it has work, or a weight other than 1"),
                  [json](const v1::StatusReply& shown) {
                    if (json) return TenantsJson(shown);
                    return shown.tenants().empty() ? "no tenants but the default one\n"
                                                   : TenantsText(shown, StyleOfStdout());
                  });
}

int Set(const Arguments& arguments, const std::string& address, const std::string& text,
        bool json) {
  const absl::StatusOr<sched::TenantSet> tenant = ParseTenantWeight(text);
  if (!tenant.ok()) return arguments.Wrong(Printable(tenant.status().message()));
  v1::SetSharingRequest request;
  request.mutable_weight()->set_tenant(tenant->tenant);
  request.mutable_weight()->set_weight_milli(tenant->weight_milli);
  return AskForSharing(arguments, address, std::move(request), [&](const auto& reply) {
    if (json) return TenantJson(reply.tenant());
    v1::StatusReply shown;
    *shown.add_tenants() = reply.tenant();
    return TenantsText(shown, StyleOfStdout());
  });
}

}  // namespace

int RunFairShare(const std::vector<std::string>& given) {
  Arguments arguments(
      "fair-share",
      "Shows the tenants that share the cluster: their weights, their shares (of the resource that "
      "each holds\nmost of), what they use and how many requests wait; or sets a weight while the "
      "cluster runs.\nWith twice another's weight a tenant is due twice as much.\n\nWhat is set "
      "here lies over the head's --fair-share flags, tenant by tenant. The workers keep it: a head "
      "that\nrestarts hears of it from the first of them, and it holds whatever that head's flags "
      "are. It is\nforgotten with the last worker.",
      {"muster fair-share", "muster fair-share list research --json",
       "muster fair-share set research=2"});
  std::string what = "list";
  std::string value;
  std::string address;
  bool json = false;
  arguments.OptionalPositional("list|set", "what to do (default: list)", &what);
  arguments.OptionalPositional("TENANT[=WEIGHT]",
                               "set: the weight, from 0.001 to 1000000 (everybody's is 1); list: "
                               "only that tenant",
                               &value);
  AddAddress(arguments, &address);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;
  if (what == "list") return List(arguments, address, value, json);
  if (what != "set") {
    return arguments.Wrong(absl::StrCat("what is \"", Printable(what), "\"? Only: list, set"));
  }
  if (value.empty()) {
    return arguments.Wrong("TENANT=WEIGHT is missing; see muster fair-share --help");
  }
  return Set(arguments, address, value, json);
}

}  // namespace muster::cli
