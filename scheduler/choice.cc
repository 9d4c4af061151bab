#include "scheduler/choice.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"

namespace muster::sched {
namespace {

struct NamedFinding {
  Finding finding;
  absl::string_view name;
};
constexpr std::array<NamedFinding, 4> kFindings = {{{Finding::kInfeasible, "infeasible"},
                                                    {Finding::kStockout, "stockout"},
                                                    {Finding::kQuota, "quota"},
                                                    {Finding::kBusy, "busy"}}};
constexpr uint8_t kAllFindings = 1 | 2 | 4 | 8;

absl::Status ValidateOpening(const Choice& choice, bool primary) {
  if (choice.after < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("after must not be negative");
  }
  if (primary && choice.after != absl::ZeroDuration()) {
    return absl::InvalidArgumentError("after: the first choice is open from the start");
  }
  if ((choice.advance_on & ~kAllFindings) != 0) {
    return absl::InvalidArgumentError("advance_on has unknown findings");
  }
  return absl::OkStatus();
}

absl::Status ValidateChoice(const Choice& choice, bool primary) {
  MUSTER_RETURN_IF_ERROR(Validate(choice.resources));
  return ValidateOpening(choice, primary);
}

// What the shape needs by each bundle's first choice.
Resources SumOf(const GroupShape& shape) {
  Resources sum;
  for (const BundleSpec& bundle : shape.bundles) {
    if (bundle.choices.empty()) continue;
    const Resources& needs = bundle.choices[0].resources;
    sum.cpus += needs.cpus;
    sum.gpus += needs.gpus;
    sum.memory_bytes = std::min(sum.memory_bytes + needs.memory_bytes, kMemoryBytesMax);
    for (const auto& [name, amount] : needs.custom) sum.custom[name] += amount;
  }
  return sum;
}

absl::Status ValidateShape(const GroupShape& shape) {
  if (shape.bundles.empty()) return absl::InvalidArgumentError("it has no bundles");
  if (shape.bundles.size() > kGroupBundlesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(shape.bundles.size(), " bundles are too many: at most ", kGroupBundlesMax));
  }
  MUSTER_RETURN_IF_ERROR(Validate(shape.strategy));
  for (size_t i = 0; i < shape.bundles.size(); ++i) {
    const std::vector<Choice>& choices = shape.bundles[i].choices;
    if (choices.empty() || choices.size() > kChoicesMax) {
      return absl::InvalidArgumentError(absl::StrCat("bundle ", i, ": ", choices.size(),
                                                     " choices; allowed: 1 to ", kChoicesMax));
    }
    for (const Choice& choice : choices) {
      if (absl::Status status = ValidateChoice(choice, /*primary=*/true); !status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat("bundle ", i, ": ", status.message()));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateGroup(const RequestSpec& spec) {
  if (spec.bundles != 1 || !spec.strategy.empty() || spec.inside.has_value()) {
    return absl::InvalidArgumentError(
        "a placement group says how many bundles it has, and where, by its shapes alone");
  }
  if (spec.shapes.size() != spec.choices.size()) {
    return absl::InvalidArgumentError("a placement group has one choice for each shape");
  }
  for (size_t i = 0; i < spec.shapes.size(); ++i) {
    const GroupShape& shape = spec.shapes[i];
    if (absl::Status status = ValidateShape(shape); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("shape ", i, ": ", status.message()));
    }
    const Choice& choice = spec.choices[i];
    if (choice.after != shape.after || choice.advance_on != shape.advance_on ||
        !choice.selector.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", i, ": the choice beside it says something else"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

RequestSpec GroupSpec(std::vector<GroupShape> shapes) {
  RequestSpec spec;
  for (const GroupShape& shape : shapes) {
    spec.choices.push_back({.selector = {},
                            .resources = SumOf(shape),
                            .after = shape.after,
                            .advance_on = shape.advance_on});
  }
  spec.shapes = std::move(shapes);
  return spec;
}

absl::StatusOr<uint8_t> ParseAdvanceOn(absl::string_view text) {
  uint8_t bits = 0;
  if (text == "never") return bits;
  for (const absl::string_view word : absl::StrSplit(text, '|')) {
    uint8_t bit = 0;
    for (const NamedFinding& known : kFindings) {
      if (word == known.name) bit = static_cast<uint8_t>(known.finding);
    }
    if (bit == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("advance_on: \"", absl::Utf8SafeCHexEscape(word.substr(0, 80)),
                       "\" is unknown; allowed: infeasible, stockout, quota, busy, joined by "
                       "\"|\", or never"));
    }
    bits |= bit;
  }
  return bits;
}

std::string AdvanceOnToText(uint8_t advance_on) {
  std::string text;
  for (const NamedFinding& known : kFindings) {
    if ((advance_on & static_cast<uint8_t>(known.finding)) == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : "|", known.name);
  }
  return text.empty() ? "never" : text;
}

static absl::Status ValidateReturn(const RequestSpec& spec) {
  const ReturnToPreferred& back = spec.return_to_preferred;
  if (back.moves < 0 || back.moves > kMovesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("return_to_preferred: moves=", back.moves, ": must be from 0 to ", kMovesMax));
  }
  if (back.after < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("return_to_preferred: after must not be negative");
  }
  if (back.grace <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("return_to_preferred: grace must be positive");
  }
  if (back.moves > 0 && (spec.is_group() || spec.inside.has_value())) {
    return absl::InvalidArgumentError(
        "return_to_preferred goes with neither a placement group nor what runs inside one: their "
        "bundles stay where they are");
  }
  return absl::OkStatus();
}

absl::Status Validate(const RequestSpec& spec) {
  if (spec.choices.empty())
    return absl::InvalidArgumentError("a request needs at least one choice");
  if (spec.choices.size() > kChoicesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.choices.size(), " choices are too many: at most ", kChoicesMax));
  }
  if (spec.bundles < 1 || spec.bundles > kBundlesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("bundles=", spec.bundles, ": must be from 1 to ", kBundlesMax));
  }
  if (spec.avoid.size() > kAvoidedNodesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("avoid names ", spec.avoid.size(), " nodes: at most ", kAvoidedNodesMax));
  }
  for (size_t i = 1; i < spec.avoid.size(); ++i) {
    if (!(spec.avoid[i - 1] < spec.avoid[i])) {
      return absl::InvalidArgumentError("avoid: names must be in order, each once");
    }
  }
  if (spec.expected_duration <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("expected_duration must be positive");
  }
  MUSTER_RETURN_IF_ERROR(ValidateReturn(spec));
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("tenant", spec.tenant));
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("job", spec.job));
  for (size_t i = 0; i < spec.choices.size(); ++i) {
    // A group's choices are sums: 1.5 GPUs of several bundles are no mistake.
    const absl::Status status = spec.is_group() ? ValidateOpening(spec.choices[i], i == 0)
                                                : ValidateChoice(spec.choices[i], i == 0);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("choice ", i, ": ", status.message()));
    }
  }
  const bool placed_together = spec.is_group() || !spec.strategy.empty() || spec.inside.has_value();
  if (placed_together && !spec.affinity.node.empty()) {
    return absl::InvalidArgumentError(
        "node affinity does not go with a strategy or a placement group; ask for "
        "ray.io/node-id=NAME in a label selector");
  }
  if (spec.is_group()) return ValidateGroup(spec);
  if (spec.inside.has_value() && (!spec.strategy.empty() || spec.inside->bundle < -1)) {
    return absl::InvalidArgumentError(
        "a request inside a placement group names one of its bundles or any, and has no strategy "
        "of "
        "its own");
  }
  return Validate(spec.strategy);
}

absl::Status ValidateTenantName(absl::string_view what, absl::string_view name) {
  if (name.size() > kTenantNameMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", name.size(), " bytes are too long: at most ", kTenantNameMax));
  }
  for (const char c : name) {
    if (c > ' ' && c < 0x7f && c != ',' && c != ':' && c != '=') continue;
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": \"", absl::Utf8SafeCHexEscape(name),
                     "\": printable ASCII without blanks, commas, colons or \"=\""));
  }
  return absl::OkStatus();
}

}  // namespace muster::sched
