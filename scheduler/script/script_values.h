// The values of a script's fields: labels, selectors, resources, and what a request says.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/choice.h"
#include "scheduler/label_selector.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"
#include "scheduler/script/script_fields.h"

namespace muster::sched {

inline constexpr absl::string_view kScriptResourcePrefix = "resource.";  // "resource.tpu=4"

absl::StatusOr<Labels> ParseScriptLabels(absl::string_view text);  // "{zone: a, team: b}"
absl::StatusOr<LabelSelector> ParseScriptSelector(
    absl::string_view text);  // "{zone: in(a,b), team: c}"

// Replaces in `resources` what `fields` give; gpus= is left to the caller for nodes.
absl::Status ParseScriptResources(const ScriptFields& fields, bool with_gpus, Resources& resources);

// A request, or a placement group, from the fields that ScriptSpecFieldsAnd() names; validated.
absl::StatusOr<RequestSpec> ParseScriptSpec(const ScriptFields& fields);
std::vector<absl::string_view> ScriptSpecFieldsAnd(const std::vector<absl::string_view>& more);

}  // namespace muster::sched
