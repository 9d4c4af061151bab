#include "runtime/client/request_spec.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/client/placement_group.h"
#include "runtime/wire/convert.h"
#include "runtime/wire/protocol.h"
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

absl::StatusOr<sched::Strategy> Levels(const std::vector<std::string>& texts) {
  sched::Strategy strategy;
  for (const std::string& text : texts) {
    MUSTER_ASSIGN_OR_RETURN(sched::Level level, sched::ParseLevel(text));
    strategy.push_back(std::move(level));
  }
  return strategy;
}

absl::StatusOr<sched::NodeAffinity> AffinityOf(const TaskOptions& options, bool has_strategy) {
  const NodeAffinity& affinity = options.node_affinity;
  if (affinity.node.empty()) {
    if (!affinity.soft) return sched::NodeAffinity{};
    return absl::InvalidArgumentError("node_affinity.soft is set, but node_affinity.node is empty");
  }
  v1::NodeAffinity proto;
  proto.set_node(ToUtf8(affinity.node));
  proto.set_soft(affinity.soft);
  if (options.placement_group || has_strategy) {
    return absl::InvalidArgumentError(
        absl::StrCat("node_affinity.node is \"", proto.node(), "\", which does not go with a ",
                     options.placement_group ? "placement_group" : "strategy",
                     "; ask for ray.io/node-id=", proto.node(), " in a label_selector"));
  }
  absl::StatusOr<sched::NodeAffinity> checked = FromProto(proto);
  if (checked.ok()) return checked;
  return absl::InvalidArgumentError(absl::StrCat("node_", checked.status().message()));
}

absl::StatusOr<sched::BundleSpec> BundleOf(const Bundle& bundle) {
  if (bundle.count < 1 || bundle.count > sched::kGroupBundlesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("count is ", bundle.count, "; allowed: 1 to ", sched::kGroupBundlesMax));
  }
  sched::BundleSpec spec;
  sched::Choice primary;
  MUSTER_ASSIGN_OR_RETURN(primary.resources, Checked(bundle.resources));
  MUSTER_ASSIGN_OR_RETURN(primary.selector, sched::LabelSelector::Parse(bundle.label_selector));
  spec.choices.push_back(primary);
  for (const Choice& choice : bundle.fallback_strategy) {
    if (choice.after != absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          "after: a bundle's choices are all open; the group's fallback_strategy may wait");
    }
    sched::Choice fallback = primary;
    if (choice.resources.has_value()) {
      MUSTER_ASSIGN_OR_RETURN(fallback.resources, Checked(*choice.resources));
    }
    MUSTER_ASSIGN_OR_RETURN(fallback.selector, sched::LabelSelector::Parse(choice.label_selector));
    spec.choices.push_back(std::move(fallback));
  }
  return spec;
}

}  // namespace

absl::StatusOr<v1::RequestSpec> MakeRequestSpec(const TaskOptions& options, int bundles,
                                                const std::vector<std::string>& strategy,
                                                const ReturnToPreferred& back) {
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
  if (!options.placement.empty()) {
    MUSTER_ASSIGN_OR_RETURN(spec.placement, sched::ParsePlacementPolicy(options.placement));
  }
  MUSTER_ASSIGN_OR_RETURN(spec.affinity, AffinityOf(options, !strategy.empty()));
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
  if (options.placement_group) {
    const internal::PlacementGroupState& group = *options.placement_group.state();
    if (group.number == 0) {
      return absl::FailedPreconditionError("its placement group could not be asked for");
    }
    spec.inside = sched::InsideGroup{.group = {group.request}, .bundle = options.bundle_index};
  } else if (options.bundle_index != -1) {
    return absl::InvalidArgumentError(absl::StrCat("bundle_index is ", options.bundle_index,
                                                   ", but there is no placement_group"));
  }
  MUSTER_ASSIGN_OR_RETURN(spec.strategy, Levels(strategy));
  if (back.moves != 0 && options.fallback_strategy.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("return_to_preferred: moves is ", back.moves,
                                                   ", but there is no fallback_strategy"));
  }
  spec.return_to_preferred = {.moves = back.moves, .after = back.after, .grace = back.grace};
  MUSTER_RETURN_IF_ERROR(sched::Validate(spec));
  return ToProto(spec);
}

absl::StatusOr<v1::RequestSpec> MakeGroupSpec(const PlacementGroupOptions& options) {
  std::vector<sched::GroupShape> shapes;
  const auto add = [&](const std::vector<Bundle>& bundles, const std::vector<std::string>& strategy,
                       absl::Duration after, uint8_t advance_on) -> absl::Status {
    sched::GroupShape shape;
    shape.after = after;
    shape.advance_on = advance_on;
    MUSTER_ASSIGN_OR_RETURN(shape.strategy, Levels(strategy));
    for (size_t i = 0; i < bundles.size(); ++i) {
      absl::StatusOr<sched::BundleSpec> bundle = BundleOf(bundles[i]);
      if (!bundle.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("bundles[", i, "]: ", bundle.status().message()));
      }
      shape.bundles.insert(shape.bundles.end(), static_cast<size_t>(bundles[i].count), *bundle);
    }
    shapes.push_back(std::move(shape));
    return absl::OkStatus();
  };
  MUSTER_RETURN_IF_ERROR(
      add(options.bundles, options.strategy, absl::ZeroDuration(), sched::kDefaultAdvanceOn));
  for (const GroupShape& shape : options.fallback_strategy) {
    MUSTER_RETURN_IF_ERROR(add(shape.bundles, shape.strategy, shape.after, Bits(shape.advance_on)));
  }
  sched::RequestSpec spec = sched::GroupSpec(std::move(shapes));
  spec.priority = options.priority;
  spec.fail_if_infeasible = options.on_infeasible == OnInfeasible::kFail;
  spec.name = options.name;
  MUSTER_RETURN_IF_ERROR(sched::Validate(spec));
  return ToProto(spec);
}

bool SameClass(const TaskOptions& a, const TaskOptions& b) {
  if (!Same(a.resources, b.resources) || a.on_infeasible != b.on_infeasible ||
      a.priority != b.priority || a.expected_duration != b.expected_duration ||
      a.preemptible != b.preemptible || !(a.placement_group == b.placement_group) ||
      a.bundle_index != b.bundle_index || a.placement != b.placement ||
      a.node_affinity.node != b.node_affinity.node || a.node_affinity.soft != b.node_affinity.soft)
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
