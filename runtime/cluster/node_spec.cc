#include "runtime/cluster/node_spec.h"

#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/worker/detect/flat_yaml.h"
#include "runtime/worker/detect/node_labels.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/resources.h"

namespace muster::cluster {
namespace {

std::string Shown(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, 200)), "\"");
}

absl::StatusOr<int> ParseWhole(absl::string_view key, absl::string_view text, int min, int max) {
  int value = 0;
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  if (digits && absl::SimpleAtoi(text, &value) && value >= min && value <= max) return value;
  return absl::InvalidArgumentError(
      absl::StrCat(key, "=", absl::Utf8SafeCHexEscape(text.substr(0, 80)),
                   ": must be a whole number from ", min, " to ", max));
}

absl::Status SetCustom(absl::string_view key, absl::string_view name, absl::string_view value,
                       NodeSpec& spec) {
  MUSTER_RETURN_IF_ERROR(sched::ValidateResourceName(name));
  MUSTER_ASSIGN_OR_RETURN(const int64_t amount, sched::ParseAmount(key, value));
  if (amount != 0) spec.custom[std::string(name)] = amount;
  return absl::OkStatus();
}

absl::Status SetLabel(absl::string_view key, absl::string_view value, NodeSpec& spec) {
  if (key == worker::kNodeIdLabel) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, "=", value.substr(0, 80), ": cannot be given, each worker sets its own"));
  }
  spec.labels[std::string(key)] = std::string(value);
  return sched::ValidateLabelKey(key);
}

absl::Status SetName(absl::string_view value, NodeSpec& spec) {
  spec.name = std::string(value);
  if (!value.empty() && sched::ValidateLabelValue(value).ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("name=", absl::Utf8SafeCHexEscape(value.substr(0, 80)),
                   ": must be 1-63 letters, digits, \"-\", \"_\" or \".\", beginning and ending "
                   "with a letter or digit"));
}

absl::Status Set(absl::string_view key, absl::string_view value, NodeSpec& spec) {
  if (key == "count") {
    MUSTER_ASSIGN_OR_RETURN(spec.count, ParseWhole(key, value, 1, kLocalNodesMax));
  } else if (key == "gpus") {
    MUSTER_ASSIGN_OR_RETURN(spec.gpus, ParseWhole(key, value, 0, sched::kGpuDevicesMax));
  } else if (key == "cpus") {
    MUSTER_ASSIGN_OR_RETURN(spec.cpus, sched::ParseAmount(key, value));
  } else if (key == "memory") {
    MUSTER_ASSIGN_OR_RETURN(spec.memory_bytes, sched::ParseMemory(value));
  } else if (key == "name") {
    return SetName(value, spec);
  } else if (absl::string_view name = key; absl::ConsumePrefix(&name, "resource.")) {
    return SetCustom(key, name, value, spec);
  } else {
    return SetLabel(key, value, spec);
  }
  return absl::OkStatus();
}

absl::StatusOr<NodeSpec> FromPairs(const worker::FlatMap& pairs) {
  NodeSpec spec;
  std::set<std::string> seen;
  for (const auto& [key, value] : pairs) {
    if (!seen.insert(key).second) {
      return absl::InvalidArgumentError(absl::StrCat(Shown(key), " is given twice"));
    }
    MUSTER_RETURN_IF_ERROR(Set(key, value, spec));
  }
  MUSTER_RETURN_IF_ERROR(sched::ValidateLabels(spec.labels));
  spec.labels = sched::WithAliases(std::move(spec.labels));
  const sched::NodeResources resources{.cpus = spec.cpus.value_or(0),
                                       .gpu_devices = spec.gpus,
                                       .memory_bytes = spec.memory_bytes.value_or(0),
                                       .custom = spec.custom};
  MUSTER_RETURN_IF_ERROR(sched::Validate(resources));
  return spec;
}

absl::Status Within(absl::string_view what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace

absl::StatusOr<NodeSpec> ParseNodeSpec(absl::string_view text) {
  const std::string what = absl::StrCat("node spec ", Shown(text));
  if (text.size() > sched::kLabelsTextBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("node spec: ", text.size(),
                                                   " characters are too many: at most ",
                                                   sched::kLabelsTextBytesMax));
  }
  worker::FlatMap pairs;
  for (const absl::string_view piece : absl::StrSplit(text, ',')) {
    const size_t equals = piece.find('=');
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": ", Shown(piece), " is not key=value, such as gpus=1 or zone=a"));
    }
    pairs.emplace_back(piece.substr(0, equals), piece.substr(equals + 1));
  }
  absl::StatusOr<NodeSpec> spec = FromPairs(pairs);
  if (!spec.ok()) return Within(what, spec.status());
  return spec;
}

absl::StatusOr<std::vector<NodeSpec>> ParseClusterYaml(const std::string& text) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<worker::FlatMap> maps,
                          worker::ParseYamlMaps(text, "nodes", "head"));
  std::vector<NodeSpec> specs;
  for (const worker::FlatMap& map : maps) {
    absl::StatusOr<NodeSpec> spec = FromPairs(map);
    if (!spec.ok()) return Within(absl::StrCat("node ", specs.size() + 1), spec.status());
    specs.push_back(*std::move(spec));
  }
  if (specs.empty()) return absl::InvalidArgumentError("nodes: there are none");
  return specs;
}

absl::StatusOr<std::vector<NodeSpec>> ReadClusterFile(const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(const std::string text, worker::ReadYamlFile(path));
  absl::StatusOr<std::vector<NodeSpec>> specs = ParseClusterYaml(text);
  if (!specs.ok()) return Within(path, specs.status());
  return specs;
}

absl::StatusOr<std::vector<std::string>> ReadHeadOptions(const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(const std::string text, worker::ReadYamlFile(path));
  absl::StatusOr<worker::FlatMap> options = worker::ParseYamlOptions(text, "head");
  if (!options.ok()) return Within(path, options.status());
  std::vector<std::string> arguments;
  for (const auto& [name, value] : *options) {
    arguments.push_back(absl::StrCat("--", name, "=", value));
  }
  return arguments;
}

absl::StatusOr<std::vector<NodeSpec>> ExpandNodeSpecs(const std::vector<NodeSpec>& specs) {
  std::vector<NodeSpec> nodes;
  std::set<std::string> names;
  for (const NodeSpec& spec : specs) {
    if (nodes.size() + static_cast<size_t>(spec.count) > kLocalNodesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("too many nodes: at most ", kLocalNodesMax, " on one machine"));
    }
    for (int i = 1; i <= spec.count; ++i) {
      NodeSpec node = spec;
      node.count = 1;
      if (!spec.name.empty() && spec.count > 1) node.name = absl::StrCat(spec.name, "-", i);
      if (!node.name.empty() && !names.insert(node.name).second) {
        return absl::InvalidArgumentError(absl::StrCat("name=", node.name, ": two nodes bear it"));
      }
      nodes.push_back(std::move(node));
    }
  }
  return nodes;
}

std::vector<std::string> WorkerOptions(const NodeSpec& spec) {
  std::vector<std::string> options = {absl::StrCat("--num-gpus=", spec.gpus)};
  if (spec.cpus) options.push_back(absl::StrCat("--num-cpus=", sched::AmountToText(*spec.cpus)));
  if (spec.memory_bytes) options.push_back(absl::StrCat("--memory=", *spec.memory_bytes));
  if (!spec.custom.empty()) {
    options.push_back(absl::StrCat("--resources=", worker::CustomResourcesToJson(spec.custom)));
  }
  std::string labels;
  for (const auto& [key, value] : spec.labels) {
    if (!sched::IsAlias(key)) absl::StrAppend(&labels, labels.empty() ? "" : ",", key, "=", value);
  }
  if (!labels.empty()) options.push_back(absl::StrCat("--labels=", labels));
  return options;
}

}  // namespace muster::cluster
