#include "runtime/wire/convert.h"

#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/status_macros.h"

namespace muster {
namespace {

constexpr size_t kNameBytesMax = 4096;
constexpr size_t kNodeNameBytesMax = 256;
constexpr uint32_t kAdvanceOnBits = 1 | 2 | 4 | 8;

// "choices[1].": in front of what `status` says.
absl::Status In(absl::string_view where, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(where, status.message()));
}

absl::Status Bad(absl::string_view field, int64_t value, absl::string_view allowed) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; allowed: ", allowed));
}

using NamedAmounts = google::protobuf::RepeatedPtrField<v1::NamedAmount>;

absl::StatusOr<sched::CustomAmounts> CustomFromProto(const NamedAmounts& amounts) {
  sched::CustomAmounts custom;
  for (const v1::NamedAmount& amount : amounts) {
    if (!custom.emplace(amount.name(), amount.amount()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("custom resource \"", amount.name(), "\" is there twice"));
    }
  }
  return custom;
}

void CustomToProto(const absl::btree_map<std::string, int64_t>& custom, NamedAmounts* amounts) {
  for (const auto& [name, amount] : custom) {
    v1::NamedAmount* const entry = amounts->Add();
    entry->set_name(name);
    entry->set_amount(amount);
  }
}

// Labels and selectors are maps of texts on the wire.
template <typename Map>
absl::StatusOr<Map> MapFromProto(absl::string_view what, const Entries& entries) {
  Map map;
  for (const v1::Entry& entry : entries) {
    if (!map.emplace(entry.key(), entry.value()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " \"", entry.key(), "\" is there twice"));
    }
  }
  return map;
}

template <typename Map>
Entries MapToProto(const Map& map) {
  Entries entries;
  for (const auto& [key, value] : map) {
    v1::Entry* const entry = entries.Add();
    entry->set_key(key);
    entry->set_value(value);
  }
  return entries;
}

}  // namespace

absl::StatusOr<sched::Labels> LabelsFromProto(const Entries& entries) {
  MUSTER_ASSIGN_OR_RETURN(sched::Labels labels, MapFromProto<sched::Labels>("label", entries));
  MUSTER_RETURN_IF_ERROR(sched::ValidateLabels(labels));
  return labels;
}

Entries LabelsToProto(const sched::Labels& labels) { return MapToProto(labels); }

absl::StatusOr<sched::Resources> FromProto(const v1::Resources& proto) {
  sched::Resources resources;
  resources.cpus = proto.cpus();
  resources.gpus = proto.gpus();
  resources.memory_bytes = proto.memory_bytes();
  MUSTER_ASSIGN_OR_RETURN(resources.custom, CustomFromProto(proto.custom()));
  MUSTER_RETURN_IF_ERROR(sched::Validate(resources));
  return resources;
}

v1::Resources ToProto(const sched::Resources& resources) {
  v1::Resources proto;
  proto.set_cpus(resources.cpus);
  proto.set_gpus(resources.gpus);
  proto.set_memory_bytes(resources.memory_bytes);
  CustomToProto(resources.custom, proto.mutable_custom());
  return proto;
}

absl::StatusOr<sched::NodeResources> FromProto(const v1::NodeResources& proto) {
  if (proto.gpus_size() > sched::kGpuDevicesMax) {
    return Bad("gpus", proto.gpus_size(),
               absl::StrCat("at most ", sched::kGpuDevicesMax, " devices"));
  }
  sched::NodeResources total;
  total.cpus = proto.cpus();
  total.gpu_devices = proto.gpus_size();
  total.memory_bytes = proto.memory_bytes();
  MUSTER_ASSIGN_OR_RETURN(total.custom, CustomFromProto(proto.custom()));
  MUSTER_RETURN_IF_ERROR(sched::Validate(total));
  return total;
}

v1::NodeResources ToProto(const sched::NodeResources& total) {
  v1::NodeResources proto;
  proto.set_cpus(total.cpus);
  for (int i = 0; i < total.gpu_devices; ++i) proto.add_gpus();
  proto.set_memory_bytes(total.memory_bytes);
  CustomToProto(total.custom, proto.mutable_custom());
  return proto;
}

absl::StatusOr<sched::LabelSelector> SelectorFromProto(const Entries& entries) {
  using Texts = std::map<std::string, std::string>;
  MUSTER_ASSIGN_OR_RETURN(const Texts texts, MapFromProto<Texts>("label selector", entries));
  return sched::LabelSelector::Parse(texts);
}

Entries SelectorToProto(const sched::LabelSelector& selector) {
  return MapToProto(selector.ToMap());
}

absl::StatusOr<sched::Choice> FromProto(const v1::Choice& proto) {
  sched::Choice choice;
  MUSTER_ASSIGN_OR_RETURN(choice.selector, SelectorFromProto(proto.selector()));
  absl::StatusOr<sched::Resources> resources = FromProto(proto.resources());
  MUSTER_RETURN_IF_ERROR(In("resources.", resources.status()));
  choice.resources = *std::move(resources);
  if (proto.after_ns() < 0) return Bad("after_ns", proto.after_ns(), "0 and more");
  choice.after = absl::Nanoseconds(proto.after_ns());
  if ((proto.advance_on() & ~kAdvanceOnBits) != 0) {
    return Bad("advance_on", proto.advance_on(), "bits 1, 2, 4 and 8");
  }
  choice.advance_on = static_cast<uint8_t>(proto.advance_on());
  return choice;
}

v1::Choice ToProto(const sched::Choice& choice) {
  v1::Choice proto;
  *proto.mutable_selector() = SelectorToProto(choice.selector);
  *proto.mutable_resources() = ToProto(choice.resources);
  proto.set_after_ns(absl::ToInt64Nanoseconds(choice.after));
  proto.set_advance_on(choice.advance_on);
  return proto;
}

using Levels = google::protobuf::RepeatedPtrField<std::string>;

absl::StatusOr<sched::Strategy> StrategyFromProto(const Levels& levels) {
  if (levels.size() > sched::kLevelsMax) {
    return Bad("strategy.size()", levels.size(), absl::StrCat("at most ", sched::kLevelsMax));
  }
  sched::Strategy strategy;
  for (const std::string& text : levels) {
    MUSTER_ASSIGN_OR_RETURN(sched::Level level, sched::ParseLevel(text));
    strategy.push_back(std::move(level));
  }
  return strategy;
}

absl::StatusOr<sched::GroupShape> FromProto(const v1::GroupShape& proto) {
  sched::GroupShape shape;
  MUSTER_ASSIGN_OR_RETURN(shape.strategy, StrategyFromProto(proto.strategy()));
  if (proto.after_ns() < 0) return Bad("after_ns", proto.after_ns(), "0 and more");
  shape.after = absl::Nanoseconds(proto.after_ns());
  if ((proto.advance_on() & ~kAdvanceOnBits) != 0) {
    return Bad("advance_on", proto.advance_on(), "bits 1, 2, 4 and 8");
  }
  shape.advance_on = static_cast<uint8_t>(proto.advance_on());
  for (int i = 0; i < proto.bundles_size(); ++i) {
    const v1::BundleSpec& from = proto.bundles(i);
    const std::string where = absl::StrCat("bundles[", i, "].");
    sched::BundleSpec bundle;
    if (from.choices_size() > sched::kChoicesMax) {
      return Bad(absl::StrCat(where, "choices"), from.choices_size(),
                 absl::StrCat("1 to ", sched::kChoicesMax));
    }
    for (const v1::Choice& one : from.choices()) {
      absl::StatusOr<sched::Choice> choice = FromProto(one);
      MUSTER_RETURN_IF_ERROR(In(where, choice.status()));
      bundle.choices.push_back(*std::move(choice));
    }
    if (shape.bundles.size() + from.count() > sched::kGroupBundlesMax) {
      return Bad(absl::StrCat(where, "count"), from.count(),
                 absl::StrCat("at most ", sched::kGroupBundlesMax, " bundles in all"));
    }
    shape.bundles.insert(shape.bundles.end(), from.count(), bundle);
  }
  return shape;
}

v1::GroupShape ToProto(const sched::GroupShape& shape) {
  v1::GroupShape proto;
  for (const sched::Level& level : shape.strategy) proto.add_strategy(sched::ToText(level));
  proto.set_after_ns(absl::ToInt64Nanoseconds(shape.after));
  proto.set_advance_on(shape.advance_on);
  for (size_t i = 0; i < shape.bundles.size(); ++i) {
    const sched::BundleSpec& bundle = shape.bundles[i];
    if (i > 0 && bundle == shape.bundles[i - 1]) {
      v1::BundleSpec& last = *proto.mutable_bundles(proto.bundles_size() - 1);
      last.set_count(last.count() + 1);
      continue;
    }
    v1::BundleSpec& to = *proto.add_bundles();
    to.set_count(1);
    for (const sched::Choice& choice : bundle.choices) *to.add_choices() = ToProto(choice);
  }
  return proto;
}

absl::StatusOr<sched::NodeAffinity> FromProto(const v1::NodeAffinity& proto) {
  if (proto.node().empty() || proto.node().size() > kNodeNameBytesMax) {
    return Bad("affinity.node.size()", static_cast<int64_t>(proto.node().size()),
               absl::StrCat("1 to ", kNodeNameBytesMax));
  }
  return sched::NodeAffinity{.node = proto.node(), .soft = proto.soft()};
}

absl::StatusOr<sched::RequestSpec> FromProto(const v1::RequestSpec& proto, std::string owner) {
  if (proto.shapes_size() > sched::kChoicesMax) {
    return Bad("shapes", proto.shapes_size(), absl::StrCat("at most ", sched::kChoicesMax));
  }
  if (proto.choices_size() > sched::kChoicesMax) {
    return Bad("choices", proto.choices_size(), absl::StrCat("1 to ", sched::kChoicesMax));
  }
  sched::RequestSpec spec;
  if (proto.shapes_size() > 0) {
    std::vector<sched::GroupShape> shapes;
    for (int i = 0; i < proto.shapes_size(); ++i) {
      absl::StatusOr<sched::GroupShape> shape = FromProto(proto.shapes(i));
      MUSTER_RETURN_IF_ERROR(In(absl::StrCat("shapes[", i, "]."), shape.status()));
      shapes.push_back(*std::move(shape));
    }
    spec = sched::GroupSpec(std::move(shapes));
  }
  MUSTER_ASSIGN_OR_RETURN(spec.strategy, StrategyFromProto(proto.strategy()));
  if (proto.has_inside()) {
    spec.inside =
        sched::InsideGroup{.group = {proto.inside().request()}, .bundle = proto.inside().bundle()};
  }
  for (int i = 0; i < proto.choices_size(); ++i) {
    absl::StatusOr<sched::Choice> choice = FromProto(proto.choices(i));
    MUSTER_RETURN_IF_ERROR(In(absl::StrCat("choices[", i, "]."), choice.status()));
    spec.choices.push_back(*std::move(choice));
  }
  if (proto.bundles() > static_cast<uint32_t>(sched::kBundlesMax)) {
    return Bad("bundles", proto.bundles(), absl::StrCat("1 to ", sched::kBundlesMax));
  }
  if (proto.name().size() > kNameBytesMax) {
    return Bad("name.size()", static_cast<int64_t>(proto.name().size()),
               absl::StrCat("at most ", kNameBytesMax));
  }
  spec.bundles = static_cast<int>(proto.bundles());
  spec.priority = proto.priority();
  spec.fail_if_infeasible = proto.fail_if_infeasible();
  spec.name = proto.name();
  spec.owner = std::move(owner);
  spec.tenant = proto.tenant();
  spec.job = proto.job();
  if (proto.expected_duration_ns() != 0) {
    spec.expected_duration = absl::Nanoseconds(proto.expected_duration_ns());
  }
  spec.preemptible = !proto.not_preemptible();
  if (proto.has_return_to_preferred()) {
    const v1::ReturnToPreferred& back = proto.return_to_preferred();
    if (back.moves() > static_cast<uint32_t>(sched::kMovesMax)) {
      return Bad("return_to_preferred.moves", back.moves(),
                 absl::StrCat("0 to ", sched::kMovesMax));
    }
    spec.return_to_preferred = {.moves = static_cast<int>(back.moves()),
                                .after = absl::Nanoseconds(back.after_ns()),
                                .grace = back.grace_ns() == 0 ? absl::InfiniteDuration()
                                                              : absl::Nanoseconds(back.grace_ns())};
  }
  if (!proto.placement().empty()) {
    MUSTER_ASSIGN_OR_RETURN(spec.placement, sched::ParsePlacementPolicy(proto.placement()));
  }
  if (proto.has_affinity()) {
    MUSTER_ASSIGN_OR_RETURN(spec.affinity, FromProto(proto.affinity()));
  }
  spec.avoid.assign(proto.avoid().begin(), proto.avoid().end());
  MUSTER_RETURN_IF_ERROR(sched::Validate(spec));
  return spec;
}

v1::RequestSpec ToProto(const sched::RequestSpec& spec) {
  v1::RequestSpec proto;
  if (!spec.is_group()) {  // A group's choices follow from its shapes.
    for (const sched::Choice& choice : spec.choices) *proto.add_choices() = ToProto(choice);
  }
  for (const sched::GroupShape& shape : spec.shapes) *proto.add_shapes() = ToProto(shape);
  for (const sched::Level& level : spec.strategy) proto.add_strategy(sched::ToText(level));
  if (spec.inside) {
    proto.mutable_inside()->set_request(spec.inside->group.value);
    proto.mutable_inside()->set_bundle(spec.inside->bundle);
  }
  proto.set_bundles(static_cast<uint32_t>(spec.bundles));
  proto.set_priority(spec.priority);
  proto.set_fail_if_infeasible(spec.fail_if_infeasible);
  proto.set_name(ToUtf8(spec.name));
  proto.set_tenant(spec.tenant);
  proto.set_job(spec.job);
  if (spec.expected_duration != absl::InfiniteDuration()) {
    proto.set_expected_duration_ns(absl::ToInt64Nanoseconds(spec.expected_duration));
  }
  proto.set_not_preemptible(!spec.preemptible);
  if (const sched::ReturnToPreferred& back = spec.return_to_preferred; back.moves > 0) {
    v1::ReturnToPreferred& to = *proto.mutable_return_to_preferred();
    to.set_moves(static_cast<uint32_t>(back.moves));
    to.set_after_ns(absl::ToInt64Nanoseconds(back.after));
    if (back.grace != absl::InfiniteDuration()) {
      to.set_grace_ns(absl::ToInt64Nanoseconds(back.grace));
    }
  }
  if (spec.placement) proto.set_placement(sched::ToString(*spec.placement));
  if (!spec.affinity.node.empty()) {
    proto.mutable_affinity()->set_node(ToUtf8(spec.affinity.node));
    proto.mutable_affinity()->set_soft(spec.affinity.soft);
  }
  for (const std::string& node : spec.avoid) proto.add_avoid(ToUtf8(node));
  return proto;
}

absl::StatusOr<sched::Placement> FromProto(const v1::Placement& proto, NodeId node) {
  if (proto.choice() >= static_cast<uint32_t>(sched::kChoicesMax)) {
    return Bad("choice", proto.choice(), absl::StrCat("0 to ", sched::kChoicesMax - 1));
  }
  sched::Placement placement;
  placement.node = node;
  placement.choice = static_cast<int>(proto.choice());
  absl::StatusOr<sched::Resources> resources = FromProto(proto.resources());
  MUSTER_RETURN_IF_ERROR(In("resources.", resources.status()));
  placement.resources = *std::move(resources);
  int64_t held = 0;
  for (int i = 0; i < proto.devices_size(); ++i) {
    const v1::DeviceShare& share = proto.devices(i);
    const std::string field = absl::StrCat("devices[", i, "].");
    const int64_t first = i == 0 ? 0 : int64_t{proto.devices(i - 1).device()} + 1;
    if (share.device() < first || share.device() >= static_cast<uint32_t>(sched::kGpuDevicesMax)) {
      return Bad(absl::StrCat(field, "device"), share.device(),
                 absl::StrCat(first, " to ", sched::kGpuDevicesMax - 1, ", in order"));
    }
    if (share.amount() < 1 || share.amount() > sched::Amount::kUnit) {
      return Bad(absl::StrCat(field, "amount"), share.amount(),
                 absl::StrCat("1 to ", sched::Amount::kUnit));
    }
    held += share.amount();
    placement.devices.push_back(
        {.device = static_cast<int>(share.device()), .amount = share.amount()});
  }
  if (held != placement.resources.gpus) {
    return Bad("devices' sum", held, absl::StrCat("resources.gpus, ", placement.resources.gpus));
  }
  return placement;
}

v1::Placement ToProto(const sched::Placement& placement) {
  v1::Placement proto;
  proto.set_choice(static_cast<uint32_t>(placement.choice));
  *proto.mutable_resources() = ToProto(placement.resources);
  for (const sched::GpuShare& share : placement.devices) {
    v1::DeviceShare* const device = proto.add_devices();
    device->set_device(static_cast<uint32_t>(share.device));
    device->set_amount(share.amount);
  }
  return proto;
}

absl::StatusOr<sched::HeldLease> FromProto(const v1::HeldLease& proto, NodeId node,
                                           std::string owner) {
  sched::HeldLease held;
  absl::StatusOr<sched::RequestSpec> spec = FromProto(proto.spec(), std::move(owner));
  MUSTER_RETURN_IF_ERROR(In("spec.", spec.status()));
  absl::StatusOr<sched::Placement> placement = FromProto(proto.placement(), node);
  MUSTER_RETURN_IF_ERROR(In("placement.", placement.status()));
  if (placement->choice >= static_cast<int>(spec->choices.size())) {
    return Bad("placement.choice", placement->choice,
               absl::StrCat("0 to ", spec->choices.size() - 1));
  }
  if (placement->resources != spec->choices[placement->choice].resources) {
    return absl::InvalidArgumentError(absl::StrCat(
        "placement.resources is ", sched::ToText(placement->resources), "; its choice needs ",
        sched::ToText(spec->choices[placement->choice].resources)));
  }
  if (proto.lease().bundle() >= static_cast<uint32_t>(spec->bundles)) {
    return Bad("lease.bundle", proto.lease().bundle(), absl::StrCat("0 to ", spec->bundles - 1));
  }
  held.bundle = static_cast<int>(proto.lease().bundle());
  held.spec = *std::move(spec);
  held.placement = *std::move(placement);
  return held;
}

v1::HeldLease ToProto(const sched::HeldLease& held, const v1::LeaseKey& lease, bool started) {
  v1::HeldLease proto;
  *proto.mutable_lease() = lease;
  *proto.mutable_spec() = ToProto(*held.spec);
  *proto.mutable_placement() = ToProto(held.placement);
  proto.set_started(started);
  return proto;
}

}  // namespace muster
