#include "runtime/worker/detect/custom_resources.h"

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "scheduler/base/status_macros.h"
#include "scheduler/resources.h"

namespace muster::worker {
namespace {

using Json = nlohmann::json;

absl::Status Refused(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("resources: ", why));
}

absl::Status ValidateCustomName(const std::string& name) {
  MUSTER_RETURN_IF_ERROR(sched::ValidateResourceName(name));
  for (const auto& [builtin, option] :
       {std::pair("CPU", "--num-cpus"), std::pair("GPU", "--num-gpus"),
        std::pair("memory", "--memory")}) {
    if (absl::EqualsIgnoreCase(name, builtin)) {
      return Refused(absl::StrCat("\"", name, "\" is no custom resource: use ", option));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CustomResources> ParseCustomResources(const std::string& json) {
  CustomResources resources;
  if (json.empty()) return resources;
  std::set<std::string> keys;
  std::string twice;
  const auto watch_keys = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1) {
      const std::string key = parsed.get<std::string>();
      if (!keys.insert(key).second) twice = key;
    }
    return true;
  };
  const Json map = Json::parse(json, watch_keys, /*allow_exceptions=*/false);
  if (!map.is_object()) {
    return Refused(
        absl::StrCat("not a JSON map of numbers, such as {\"license\": 2}: ", json.substr(0, 80)));
  }
  if (!twice.empty()) return Refused(absl::StrCat("\"", twice, "\" is given twice"));
  for (const auto& [name, value] : map.items()) {
    MUSTER_RETURN_IF_ERROR(ValidateCustomName(name));
    if (!value.is_number()) {
      return Refused(absl::StrCat(
          "\"", name,
          "\": ", value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80),
          " is not a number"));
    }
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t amount,
        sched::AmountFromDouble(absl::StrCat("resources: ", name), value.get<double>()));
    if (amount != 0) resources[name] = amount;
  }
  MUSTER_RETURN_IF_ERROR(sched::Validate(
      sched::NodeResources{.cpus = 0, .gpu_devices = 0, .memory_bytes = 0, .custom = resources}));
  return resources;
}

std::string CustomResourcesToJson(const CustomResources& resources) {
  // Names are plain and amounts decimal: no escape is needed, and no digit lost on the way through
  // a double.
  std::string json = "{";
  for (const auto& [name, amount] : resources) {
    absl::StrAppend(&json, json.size() > 1 ? ", " : "", "\"", name,
                    "\": ", sched::AmountToText(amount));
  }
  return absl::StrCat(json, "}");
}

}  // namespace muster::worker
