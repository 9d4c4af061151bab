#include "scheduler/choice.h"

#include <array>

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

absl::Status ValidateChoice(const Choice& choice, bool primary) {
  MUSTER_RETURN_IF_ERROR(Validate(choice.resources));
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

}  // namespace

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
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("tenant", spec.tenant));
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("job", spec.job));
  for (size_t i = 0; i < spec.choices.size(); ++i) {
    if (absl::Status status = ValidateChoice(spec.choices[i], i == 0); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("choice ", i, ": ", status.message()));
    }
  }
  return absl::OkStatus();
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
