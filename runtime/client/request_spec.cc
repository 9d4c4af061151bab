#include "runtime/client/request_spec.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/wire/convert.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"

namespace muster::client {
namespace {

absl::StatusOr<sched::Resources> Checked(const Resources& resources) {
  return sched::MakeResources(resources.cpus, resources.gpus, resources.memory_bytes,
                              resources.custom);
}

bool Same(const Resources& a, const Resources& b) {
  return a.cpus == b.cpus && a.gpus == b.gpus && a.memory_bytes == b.memory_bytes &&
         a.custom == b.custom;
}

bool Same(const Choice& a, const Choice& b) {
  const bool resources = a.resources.has_value() == b.resources.has_value() &&
                         (!a.resources.has_value() || Same(*a.resources, *b.resources));
  return resources && a.after == b.after && a.label_selector == b.label_selector &&
         a.advance_on.infeasible == b.advance_on.infeasible &&
         a.advance_on.stockout == b.advance_on.stockout &&
         a.advance_on.quota == b.advance_on.quota && a.advance_on.busy == b.advance_on.busy;
}

uint8_t Bits(const AdvanceOn& on) {
  uint8_t bits = 0;
  if (on.infeasible) bits |= static_cast<uint8_t>(sched::Finding::kInfeasible);
  if (on.stockout) bits |= static_cast<uint8_t>(sched::Finding::kStockout);
  if (on.quota) bits |= static_cast<uint8_t>(sched::Finding::kQuota);
  if (on.busy) bits |= static_cast<uint8_t>(sched::Finding::kBusy);
  return bits;
}

}  // namespace

absl::StatusOr<v1::RequestSpec> MakeRequestSpec(const TaskOptions& options, int bundles) {
  if (options.max_retries < -1) {
    return absl::InvalidArgumentError(absl::StrCat("max_retries is ", options.max_retries,
                                                   "; allowed: 0 or more, or -1 for no end"));
  }
  if (options.timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timeout is ", absl::FormatDuration(options.timeout), "; it must be longer than 0"));
  }
  if (bundles < 1)
    return absl::InvalidArgumentError(absl::StrCat("ranks is ", bundles, "; allowed: 1 or more"));
  sched::RequestSpec spec;
  spec.bundles = bundles;
  spec.priority = options.priority;
  spec.expected_duration = options.expected_duration;
  spec.preemptible = options.preemptible;
  spec.fail_if_infeasible = options.on_infeasible == OnInfeasible::kFail;
  sched::Choice primary;
  MUSTER_ASSIGN_OR_RETURN(primary.resources, Checked(options.resources));
  MUSTER_ASSIGN_OR_RETURN(primary.selector, sched::LabelSelector::Parse(options.label_selector));
  spec.choices.push_back(primary);
  for (const Choice& choice : options.fallback_strategy) {
    sched::Choice fallback;
    fallback.resources = primary.resources;
    if (choice.resources.has_value()) {
      MUSTER_ASSIGN_OR_RETURN(fallback.resources, Checked(*choice.resources));
    }
    MUSTER_ASSIGN_OR_RETURN(fallback.selector, sched::LabelSelector::Parse(choice.label_selector));
    fallback.after = choice.after;
    fallback.advance_on = Bits(choice.advance_on);
    spec.choices.push_back(std::move(fallback));
  }
  MUSTER_RETURN_IF_ERROR(sched::Validate(spec));
  return ToProto(spec);
}

bool SameClass(const TaskOptions& a, const TaskOptions& b) {
  if (!Same(a.resources, b.resources) || a.on_infeasible != b.on_infeasible ||
      a.priority != b.priority || a.expected_duration != b.expected_duration ||
      a.preemptible != b.preemptible)
    return false;
  if (a.fallback_strategy.size() != b.fallback_strategy.size() ||
      a.label_selector != b.label_selector)
    return false;
  for (size_t i = 0; i < a.fallback_strategy.size(); ++i) {
    if (!Same(a.fallback_strategy[i], b.fallback_strategy[i])) return false;
  }
  return true;
}

}  // namespace muster::client
