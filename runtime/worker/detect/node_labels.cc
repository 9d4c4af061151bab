#include "runtime/worker/detect/node_labels.h"

#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/worker/detect/flat_yaml.h"
#include "scheduler/base/status_macros.h"

namespace muster::worker {
namespace {

struct Variable {
  const char* name;
  const char* label;
};
constexpr Variable kVariables[] = {{"RAY_NODE_TYPE_NAME", "ray.io/node-group"},
                                   {"RAY_NODE_MARKET_TYPE", "ray.io/market-type"},
                                   {"RAY_NODE_ZONE", "ray.io/availability-zone"},
                                   {"RAY_NODE_REGION", "ray.io/availability-region"}};
constexpr char kOverride[] = "RAY_OVERRIDE_LABELS";

absl::Status From(absl::string_view source, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(source, ": ", status.message()));
}

// Puts `upper` over `labels`. An alias and its key move together.
absl::Status Lay(absl::string_view source, const sched::Labels& upper, sched::Labels& labels) {
  if (absl::Status status = sched::ValidateLabels(upper); !status.ok()) return From(source, status);
  if (const auto id = upper.find(kNodeIdLabel); id != upper.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": label \"", kNodeIdLabel, "\" (\"", id->second,
                     "\") cannot be given: each worker sets its own"));
  }
  for (const auto& [key, value] : sched::WithAliases(upper)) labels[key] = value;
  return absl::OkStatus();
}

absl::StatusOr<sched::Labels> ReadLabelsFile(const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadYamlFile(path));
  MUSTER_ASSIGN_OR_RETURN(const FlatMap map, ParseYamlMap(text));
  return sched::Labels(map.begin(), map.end());
}

}  // namespace

Environment ProcessEnvironment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
}

absl::StatusOr<sched::Labels> GatherLabels(const LabelSources& sources) {
  const auto variable = [&](const char* name) {
    return sources.environment ? sources.environment(name).value_or("") : std::string();
  };
  sched::Labels labels;
  MUSTER_RETURN_IF_ERROR(Lay("detected", sources.detected, labels));
  for (const Variable& known : kVariables) {
    const std::string value = variable(known.name);
    if (value.empty()) continue;  // As in Ray: KubeRay sets what it does not know to "".
    MUSTER_RETURN_IF_ERROR(Lay(known.name, {{known.label, value}}, labels));
  }
  if (!sources.labels_file.empty()) {
    const std::string source = absl::StrCat("--labels-file ", sources.labels_file);
    const absl::StatusOr<sched::Labels> from_file = ReadLabelsFile(sources.labels_file);
    if (!from_file.ok()) return From(source, from_file.status());
    MUSTER_RETURN_IF_ERROR(Lay(source, *from_file, labels));
  }
  for (const auto& [source, text] : {std::make_pair(std::string("--labels"), sources.labels),
                                     std::make_pair(std::string(kOverride), variable(kOverride))}) {
    const absl::StatusOr<sched::Labels> parsed = sched::ParseLabels(text);
    if (!parsed.ok()) return From(source, parsed.status());
    MUSTER_RETURN_IF_ERROR(Lay(source, *parsed, labels));
  }
  MUSTER_RETURN_IF_ERROR(sched::ValidateLabels(labels));  // Their number, all sources together.
  return labels;
}

}  // namespace muster::worker
