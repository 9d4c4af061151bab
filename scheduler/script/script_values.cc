#include "scheduler/script/script_values.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/group_plan.h"

namespace muster::sched {
namespace {

constexpr absl::string_view kSpecFields[] = {
    "cpus",      "gpus",    "memory",        "resource.*",  "bundles",  "priority",      "name",
    "owner",     "choices", "on_infeasible", "id",          "affinity", "soft_affinity", "avoid",
    "tenant",    "job",     "expected",      "preemptible", "strategy", "else",          "inside",
    "placement", "moves",   "return_after",  "return_grace"};

absl::StatusOr<Choice> ParseChoice(absl::string_view text, const Resources& primary) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<absl::string_view> words, SplitOutsideBrackets(text, ' '));
  if (words.empty()) return absl::InvalidArgumentError("a choice begins with {...}");
  Choice choice{.resources = primary};
  MUSTER_ASSIGN_OR_RETURN(choice.selector, ParseScriptSelector(words[0]));
  words.erase(words.begin());
  MUSTER_ASSIGN_OR_RETURN(const ScriptFields fields, ScriptFields::Parse(words));
  MUSTER_RETURN_IF_ERROR(
      fields.Allow({"cpus", "gpus", "memory", "resource.*", "after", "advance_on"}));
  MUSTER_RETURN_IF_ERROR(ParseScriptResources(fields, /*with_gpus=*/true, choice.resources));
  MUSTER_ASSIGN_OR_RETURN(choice.after, fields.Duration("after", absl::ZeroDuration()));
  if (fields.Has("advance_on")) {
    MUSTER_ASSIGN_OR_RETURN(choice.advance_on, ParseAdvanceOn(fields.Text("advance_on")));
  }
  return choice;
}

// "[{zone: a} gpus=2, {}]".
absl::StatusOr<std::vector<Choice>> ParseChoiceList(absl::string_view text,
                                                    const Resources& primary) {
  std::vector<Choice> choices;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> pieces,
                          PiecesInside(text, '[', ']'));
  for (const absl::string_view piece : pieces) {
    MUSTER_ASSIGN_OR_RETURN(Choice choice, ParseChoice(piece, primary));
    choices.push_back(std::move(choice));
  }
  return choices;
}

absl::StatusOr<Strategy> ParseScriptStrategy(absl::string_view text) {
  Strategy strategy;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> pieces,
                          PiecesInside(text, '[', ']'));
  for (const absl::string_view piece : pieces) {
    MUSTER_ASSIGN_OR_RETURN(Level level, ParseLevel(piece));
    strategy.push_back(std::move(level));
  }
  return strategy;
}

// "{zone: a} gpus=2 count=4", or "count=4 choices=[{zone: a} gpus=2, {}]".
absl::Status ParseBundle(absl::string_view text, std::vector<BundleSpec>& bundles) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<absl::string_view> words, SplitOutsideBrackets(text, ' '));
  Choice choice{.resources = {.cpus = Amount::kUnit}};
  if (!words.empty() && absl::StartsWith(words[0], "{")) {
    MUSTER_ASSIGN_OR_RETURN(choice.selector, ParseScriptSelector(words[0]));
    words.erase(words.begin());
  }
  MUSTER_ASSIGN_OR_RETURN(const ScriptFields fields, ScriptFields::Parse(words));
  MUSTER_RETURN_IF_ERROR(
      fields.Allow({"cpus", "gpus", "memory", "resource.*", "count", "choices"}));
  MUSTER_RETURN_IF_ERROR(ParseScriptResources(fields, /*with_gpus=*/true, choice.resources));
  BundleSpec bundle;
  if (fields.Has("choices")) {
    MUSTER_ASSIGN_OR_RETURN(bundle.choices,
                            ParseChoiceList(fields.Text("choices"), choice.resources));
  } else {
    bundle.choices.push_back(std::move(choice));
  }
  MUSTER_ASSIGN_OR_RETURN(const int count, fields.Int("count", 1, 1, kGroupBundlesMax));
  if (bundles.size() + static_cast<size_t>(count) > kGroupBundlesMax) {
    return absl::InvalidArgumentError("bundles: too many");
  }
  bundles.insert(bundles.end(), static_cast<size_t>(count), bundle);
  return absl::OkStatus();
}

absl::StatusOr<GroupShape> ParseShape(const ScriptFields& fields) {
  GroupShape shape;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> pieces,
                          PiecesInside(fields.Text("bundles"), '[', ']'));
  for (const absl::string_view piece : pieces) {
    MUSTER_RETURN_IF_ERROR(ParseBundle(piece, shape.bundles));
  }
  if (fields.Has("strategy")) {
    MUSTER_ASSIGN_OR_RETURN(shape.strategy, ParseScriptStrategy(fields.Text("strategy")));
  }
  MUSTER_ASSIGN_OR_RETURN(shape.after, fields.Duration("after", absl::ZeroDuration()));
  if (fields.Has("advance_on")) {
    MUSTER_ASSIGN_OR_RETURN(shape.advance_on, ParseAdvanceOn(fields.Text("advance_on")));
  }
  return shape;
}

// bundles=[...] strategy=[...] else=[bundles=[...] strategy=[...] after=2m, ...]
absl::StatusOr<RequestSpec> ParseGroup(const ScriptFields& fields) {
  std::vector<GroupShape> shapes;
  MUSTER_ASSIGN_OR_RETURN(GroupShape first, ParseShape(fields));
  shapes.push_back(std::move(first));
  if (fields.Has("else")) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> pieces,
                            PiecesInside(fields.Text("else"), '[', ']'));
    for (const absl::string_view piece : pieces) {
      MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> words,
                              SplitOutsideBrackets(piece, ' '));
      MUSTER_ASSIGN_OR_RETURN(const ScriptFields shape, ScriptFields::Parse(words));
      MUSTER_RETURN_IF_ERROR(shape.Allow({"bundles", "strategy", "after", "advance_on"}));
      MUSTER_ASSIGN_OR_RETURN(GroupShape next, ParseShape(shape));
      shapes.push_back(std::move(next));
    }
  }
  return GroupSpec(std::move(shapes));
}

// inside=7 (any bundle) or inside=7/0.
absl::StatusOr<InsideGroup> ParseInside(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('/', 1));
  InsideGroup inside;
  if (!absl::SimpleAtoi(parts.first, &inside.group.value) ||
      (absl::StrContains(text, '/') && !absl::SimpleAtoi(parts.second, &inside.bundle))) {
    return absl::InvalidArgumentError("inside: allowed: 7 (any bundle of request 7), 7/0");
  }
  return inside;
}

absl::StatusOr<RequestSpec> ParseChoices(const ScriptFields& fields) {
  RequestSpec spec;
  Resources primary{.cpus = Amount::kUnit};
  MUSTER_RETURN_IF_ERROR(ParseScriptResources(fields, /*with_gpus=*/true, primary));
  if (fields.Has("choices")) {
    MUSTER_ASSIGN_OR_RETURN(spec.choices, ParseChoiceList(fields.Text("choices"), primary));
  } else {
    spec.choices.push_back({.resources = primary});
  }
  MUSTER_ASSIGN_OR_RETURN(spec.bundles, fields.Int("bundles", 1, 1, kBundlesMax));
  if (fields.Has("strategy")) {
    MUSTER_ASSIGN_OR_RETURN(spec.strategy, ParseScriptStrategy(fields.Text("strategy")));
  }
  if (fields.Has("inside")) {
    MUSTER_ASSIGN_OR_RETURN(spec.inside, ParseInside(fields.Text("inside")));
  }
  return spec;
}

}  // namespace

absl::StatusOr<Labels> ParseScriptLabels(absl::string_view text) {
  Labels labels;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> pieces,
                          PiecesInside(text, '{', '}'));
  for (const absl::string_view piece : pieces) {
    const std::pair<absl::string_view, absl::string_view> label =
        absl::StrSplit(piece, absl::MaxSplits('=', 1));
    if (!absl::StrContains(piece, '=')) {
      return absl::InvalidArgumentError(
          absl::StrCat("labels: \"", absl::Utf8SafeCHexEscape(piece), "\" is not key=value"));
    }
    if (!labels.emplace(std::string(label.first), std::string(label.second)).second) {
      return absl::InvalidArgumentError(absl::StrCat("labels: a key is given twice"));
    }
  }
  MUSTER_RETURN_IF_ERROR(ValidateLabels(labels));
  return labels;
}

// A piece without ":" is one more clause of the key before it.
absl::StatusOr<LabelSelector> ParseScriptSelector(absl::string_view text) {
  std::map<std::string, std::string> map;
  std::string* last = nullptr;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<absl::string_view> pieces,
                          PiecesInside(text, '{', '}'));
  for (const absl::string_view piece : pieces) {
    const size_t colon = piece.find(':');
    if (colon == absl::string_view::npos) {
      if (last == nullptr) {
        return absl::InvalidArgumentError("a selector's entries are {key: text, ...}");
      }
      absl::StrAppend(last, ",", piece);
      continue;
    }
    const auto [entry, is_new] =
        map.emplace(std::string(absl::StripAsciiWhitespace(piece.substr(0, colon))),
                    std::string(absl::StripAsciiWhitespace(piece.substr(colon + 1))));
    if (!is_new) return absl::InvalidArgumentError("a selector's key is given twice");
    last = &entry->second;
  }
  return LabelSelector::Parse(map);
}

absl::Status ParseScriptResources(const ScriptFields& fields, bool with_gpus,
                                  Resources& resources) {
  if (fields.Has("cpus")) {
    MUSTER_ASSIGN_OR_RETURN(resources.cpus, ParseAmount("cpus", fields.Text("cpus")));
  }
  if (with_gpus && fields.Has("gpus")) {
    MUSTER_ASSIGN_OR_RETURN(resources.gpus, ParseAmount("gpus", fields.Text("gpus")));
  }
  if (fields.Has("memory")) {
    MUSTER_ASSIGN_OR_RETURN(resources.memory_bytes, ParseMemory(fields.Text("memory")));
  }
  for (const auto& [key, value] : fields.values()) {
    if (!absl::StartsWith(key, kScriptResourcePrefix)) continue;
    const std::string name = key.substr(kScriptResourcePrefix.size());
    MUSTER_ASSIGN_OR_RETURN(const int64_t amount, ParseAmount(key, value));
    resources.custom.erase(name);
    if (amount != 0) resources.custom.emplace(name, amount);
  }
  return Validate(resources);
}

absl::StatusOr<RequestSpec> ParseScriptSpec(const ScriptFields& fields) {
  const bool group = absl::StartsWith(fields.Text("bundles"), "[");
  MUSTER_ASSIGN_OR_RETURN(RequestSpec spec, group ? ParseGroup(fields) : ParseChoices(fields));
  MUSTER_ASSIGN_OR_RETURN(spec.priority, fields.Int("priority", 0, -1'000'000, 1'000'000));
  const absl::string_view on_infeasible = fields.Text("on_infeasible");
  if (fields.Has("on_infeasible") && on_infeasible != "fail" && on_infeasible != "wait") {
    return absl::InvalidArgumentError("on_infeasible: allowed: wait, fail");
  }
  spec.fail_if_infeasible = on_infeasible == "fail";
  if (fields.Has("affinity") && fields.Has("soft_affinity")) {
    return absl::InvalidArgumentError("affinity and soft_affinity exclude each other");
  }
  spec.affinity.soft = fields.Has("soft_affinity");
  spec.affinity.node = std::string(fields.Text(spec.affinity.soft ? "soft_affinity" : "affinity"));
  if (fields.Has("avoid")) {
    MUSTER_ASSIGN_OR_RETURN(const absl::string_view inside, Inside(fields.Text("avoid"), '[', ']'));
    for (const absl::string_view name : absl::StrSplit(inside, ',')) {
      spec.avoid.push_back(std::string(absl::StripAsciiWhitespace(name)));
    }
    std::sort(spec.avoid.begin(), spec.avoid.end());
  }
  spec.tenant = std::string(fields.Text("tenant"));
  spec.job = std::string(fields.Text("job"));
  MUSTER_ASSIGN_OR_RETURN(spec.expected_duration,
                          fields.Duration("expected", spec.expected_duration));
  MUSTER_ASSIGN_OR_RETURN(spec.preemptible, fields.YesNo("preemptible", true));
  ReturnToPreferred& back = spec.return_to_preferred;
  MUSTER_ASSIGN_OR_RETURN(back.moves, fields.Int("moves", 0, 0, kMovesMax));
  MUSTER_ASSIGN_OR_RETURN(back.after, fields.Duration("return_after", back.after));
  MUSTER_ASSIGN_OR_RETURN(back.grace, fields.Duration("return_grace", back.grace));
  if (fields.Has("placement")) {
    MUSTER_ASSIGN_OR_RETURN(spec.placement, ParsePlacementPolicy(fields.Text("placement")));
  }
  spec.name = std::string(fields.Text("name"));
  spec.owner = std::string(fields.Text("owner"));
  MUSTER_RETURN_IF_ERROR(Validate(spec));
  return spec;
}

std::vector<absl::string_view> ScriptSpecFieldsAnd(const std::vector<absl::string_view>& more) {
  std::vector<absl::string_view> all(std::begin(kSpecFields), std::end(kSpecFields));
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace muster::sched
