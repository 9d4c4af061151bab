#include "runtime/cli/whatif_question.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/cli/arguments.h"
#include "runtime/cluster/node_spec.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/script/script_fields.h"

namespace muster::cli {
namespace {

constexpr absl::string_view kResourcePrefix = "resource.";

absl::Status In(absl::string_view option, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", status.message()));
}

bool IsResource(absl::string_view key) {
  return key == "cpus" || key == "gpus" || key == "memory" ||
         absl::StartsWith(key, kResourcePrefix);
}

// Replaces in `resources` what key=value says.
absl::Status SetResource(const std::string& key, const std::string& value,
                         sched::Resources& resources) {
  if (key == "memory") {
    MUSTER_ASSIGN_OR_RETURN(resources.memory_bytes, sched::ParseMemory(value));
    return absl::OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(const int64_t amount, sched::ParseAmount(key, value));
  if (key == "cpus") {
    resources.cpus = amount;
  } else if (key == "gpus") {
    resources.gpus = amount;
  } else {
    const std::string name = key.substr(kResourcePrefix.size());
    resources.custom.erase(name);
    if (amount != 0) resources.custom.emplace(name, amount);
  }
  return absl::OkStatus();
}

std::pair<std::string, std::string> KeyAndValue(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  return {std::string(absl::StripAsciiWhitespace(parts.first)),
          std::string(absl::StripAsciiWhitespace(parts.second))};
}

absl::StatusOr<sched::Resources> ParseRequested(const std::string& text) {
  sched::Resources resources{.cpus = sched::Amount::kUnit};
  for (const absl::string_view piece : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const auto [key, value] = KeyAndValue(piece);
    if (!absl::StrContains(piece, '=') || !IsResource(key)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", absl::Utf8SafeCHexEscape(piece),
                       "\" is no resource; allowed: cpus=, gpus=, memory=, resource.NAME="));
    }
    MUSTER_RETURN_IF_ERROR(SetResource(key, value, resources));
  }
  MUSTER_RETURN_IF_ERROR(sched::Validate(resources));
  return resources;
}

absl::Status SetField(const std::string& key, const std::string& value, sched::Choice& choice) {
  if (IsResource(key)) return SetResource(key, value, choice.resources);
  if (key == "after") {
    const std::optional<absl::Duration> after = ParseDuration(value);
    if (!after) return absl::InvalidArgumentError("after: must be a duration, such as 2m");
    choice.after = *after;
    return absl::OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(choice.advance_on, sched::ParseAdvanceOn(value));
  return absl::OkStatus();
}

absl::StatusOr<sched::Choice> ParseFallback(const std::string& text,
                                            const sched::Resources& primary) {
  sched::Choice choice{.resources = primary};
  MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> words,
                          sched::SplitOutsideBrackets(text, ' '));
  for (size_t i = 0; i < words.size(); ++i) {
    const auto [key, value] = KeyAndValue(words[i]);
    if (IsResource(key) || key == "after" || key == "advance_on") {
      MUSTER_RETURN_IF_ERROR(SetField(key, value, choice));
    } else if (i > 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", absl::Utf8SafeCHexEscape(words[i]),
                       "\": allowed after the selector: cpus=, gpus=, memory=, resource.NAME=, "
                       "after=, advance_on="));
    } else if (words[i] != "any") {
      MUSTER_ASSIGN_OR_RETURN(choice.selector, sched::LabelSelector::ParseText(words[i]));
    }
  }
  return choice;
}

// Of the nodes there, the one that is most like the spec; null if there is none.
const sched::SnapshotNode* MostLike(const cluster::NodeSpec& spec,
                                    const sched::Snapshot& snapshot) {
  const sched::SnapshotNode* best = nullptr;
  std::pair<bool, int> most;
  for (const sched::SnapshotNode& node : snapshot.nodes) {
    int equal = 0;
    for (const auto& [key, value] : spec.labels) {
      const auto found = node.labels.find(key);
      if (found != node.labels.end() && found->second == value) ++equal;
    }
    const std::pair<bool, int> like = {node.total.gpu_devices == spec.gpus, equal};
    if (best != nullptr && !(most < like)) continue;
    best = &node;
    most = like;
  }
  return best;
}

}  // namespace

absl::StatusOr<sched::RequestSpec> MakeSpec(const RequestTexts& texts) {
  sched::RequestSpec spec{.bundles = texts.bundles, .priority = texts.priority, .name = "whatif"};
  const absl::StatusOr<sched::Resources> primary = ParseRequested(texts.resources);
  MUSTER_RETURN_IF_ERROR(In("--request", primary.status()));
  absl::StatusOr<sched::LabelSelector> selector = sched::LabelSelector::ParseText(texts.selector);
  MUSTER_RETURN_IF_ERROR(In("--label-selector", selector.status()));
  spec.choices.push_back({.selector = *std::move(selector), .resources = *primary});
  for (const std::string& text : texts.fallbacks) {
    absl::StatusOr<sched::Choice> choice = ParseFallback(text, *primary);
    MUSTER_RETURN_IF_ERROR(In("--fallback", choice.status()));
    spec.choices.push_back(*std::move(choice));
  }
  if (!texts.placement.empty()) {
    const absl::StatusOr<sched::PlacementPolicy> policy =
        sched::ParsePlacementPolicy(texts.placement);
    MUSTER_RETURN_IF_ERROR(In("--placement", policy.status()));
    spec.placement = *policy;
  }
  if (texts.soft && texts.node.empty()) {
    return absl::InvalidArgumentError("--soft: goes with --node");
  }
  spec.affinity = {.node = texts.node, .soft = texts.soft};
  if (!texts.spec.empty()) MUSTER_RETURN_IF_ERROR(In("--spec", snapshot::Merge(texts.spec, spec)));
  MUSTER_RETURN_IF_ERROR(In("--request", sched::Validate(spec)));
  return spec;
}

absl::StatusOr<std::vector<sched::NodeJoined>> NodesToAdd(const std::vector<std::string>& texts,
                                                          const sched::Snapshot& snapshot) {
  std::set<std::string> names;
  NodeId last{};
  for (const sched::SnapshotNode& node : snapshot.nodes) {
    names.insert(node.name);
    last = std::max(last, node.node);
  }
  for (const sched::NodeView& lost : snapshot.lost_nodes) last = std::max(last, lost.node);
  std::vector<sched::NodeJoined> nodes;
  int number = 0;
  for (const std::string& text : texts) {
    absl::StatusOr<cluster::NodeSpec> spec = cluster::ParseNodeSpec(text);
    MUSTER_RETURN_IF_ERROR(In("--add-node", spec.status()));
    const sched::SnapshotNode* const like = MostLike(*spec, snapshot);
    if (!spec->cpus && like == nullptr) {
      return absl::InvalidArgumentError(
          "--add-node: cpus= must be given: there is no node whose CPUs it could have");
    }
    sched::NodeJoined node;
    node.total.cpus = spec->cpus ? *spec->cpus : like->total.cpus;
    node.total.gpu_devices = spec->gpus;
    if (spec->memory_bytes) {
      node.total.memory_bytes = *spec->memory_bytes;
    } else if (like != nullptr) {
      node.total.memory_bytes = like->total.memory_bytes;
    }
    node.total.custom.insert(spec->custom.begin(), spec->custom.end());
    MUSTER_RETURN_IF_ERROR(In("--add-node", sched::Validate(node.total)));
    for (int i = 0; i < spec->count; ++i) {
      node.node = last = NodeId{last.value + 1};
      do {
        ++number;
        node.name = spec->name.empty() ? absl::StrCat("new-", number)
                    : spec->count == 1 ? spec->name
                                       : absl::StrCat(spec->name, "-", i + 1);
        if (!spec->name.empty() && names.count(node.name) > 0) {
          return absl::InvalidArgumentError(
              absl::StrCat("--add-node: there is a node ", node.name, " already"));
        }
      } while (!names.insert(node.name).second);
      node.labels = sched::WithAliases(spec->labels);
      node.labels["ray.io/node-id"] = node.name;
      nodes.push_back(node);
    }
  }
  return nodes;
}

std::string ToText(const std::vector<sched::NodeJoined>& nodes) {
  std::vector<std::string> groups;
  std::vector<std::string> names;
  const auto what = [](const sched::NodeJoined& node) {
    sched::Labels labels = node.labels;
    labels.erase("ray.io/node-id");
    const std::string text = sched::ToText(labels);
    return absl::StrCat(sched::ToText(node.total), text.empty() ? "" : ", ", text);
  };
  for (size_t i = 0; i < nodes.size(); ++i) {
    names.push_back(nodes[i].name);
    if (i + 1 < nodes.size() && what(nodes[i]) == what(nodes[i + 1])) continue;
    if (names.size() > 4) {
      names = {names.front(), "...", names.back()};
    }
    groups.push_back(absl::StrCat(absl::StrJoin(names, ", "), ": ", what(nodes[i])));
    names.clear();
  }
  return absl::StrJoin(groups, "; ");
}

absl::StatusOr<std::vector<NodeId>> NodesToRemove(const std::vector<std::string>& names,
                                                  const sched::Snapshot& snapshot) {
  std::vector<NodeId> nodes;
  for (const std::string& name : names) {
    const auto found =
        std::find_if(snapshot.nodes.begin(), snapshot.nodes.end(),
                     [&](const sched::SnapshotNode& node) { return node.name == name; });
    if (found == snapshot.nodes.end()) {
      return absl::NotFoundError(absl::StrCat("there is no node ", name));
    }
    nodes.push_back(found->node);
  }
  return nodes;
}

absl::StatusOr<RequestId> FindRequest(const std::string& task, const snapshot::SnapshotFile& file) {
  std::set<std::pair<std::string, RequestId>> found;
  for (const snapshot::TaskOfRequest& one : file.tasks) {
    if (absl::StartsWith(one.task, absl::AsciiStrToLower(task))) {
      found.emplace(one.task, one.request);
    }
  }
  uint64_t number = 0;
  if (found.empty() && absl::SimpleAtoi(task, &number)) {
    for (const sched::SnapshotRequest& request : file.snapshot.requests) {
      if (request.request.value == number) found.emplace(task, request.request);
    }
  }
  if (found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no task's id begins with ", task,
                     ", and no request has that number: neither waits nor runs"));
  }
  if (found.begin()->first != std::prev(found.end())->first) {
    return absl::NotFoundError(absl::StrCat("the ids of several tasks begin with ", task));
  }
  return found.begin()->second;
}

}  // namespace muster::cli
