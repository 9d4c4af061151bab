#include "runtime/wire/convert.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace muster {
namespace {

using Custom = google::protobuf::RepeatedPtrField<v1::NamedAmount>;

absl::StatusOr<absl::btree_map<std::string, int64_t>> CustomFromProto(const Custom& custom) {
  absl::btree_map<std::string, int64_t> amounts;
  for (const v1::NamedAmount& entry : custom) {
    if (!amounts.emplace(entry.name(), entry.amount()).second) {
      return absl::InvalidArgumentError(absl::StrCat("resource \"", entry.name(), "\" is given twice"));
    }
  }
  return amounts;
}

void CustomToProto(const absl::btree_map<std::string, int64_t>& amounts, Custom& custom) {
  for (const auto& [name, amount] : amounts) {
    v1::NamedAmount& entry = *custom.Add();
    entry.set_name(name);
    entry.set_amount(amount);
  }
}

absl::StatusOr<sched::Choice> FromProto(const v1::Choice& choice) {
  std::map<std::string, std::string> text;
  for (const v1::Entry& entry : choice.selector()) {
    if (!text.emplace(entry.key(), entry.value()).second) {
      return absl::InvalidArgumentError(absl::StrCat("label selector: key \"", entry.key(), "\" is given twice"));
    }
  }
  sched::Choice value;
  MUSTER_ASSIGN_OR_RETURN(value.selector, sched::LabelSelector::Parse(text));
  MUSTER_ASSIGN_OR_RETURN(value.resources, muster::FromProto(choice.resources()));
  value.after = absl::Nanoseconds(choice.after_ns());
  if (choice.advance_on() > 15) {
    return absl::InvalidArgumentError(absl::StrCat("advance_on is ", choice.advance_on(), "; allowed: 0 to 15"));
  }
  value.advance_on = static_cast<uint8_t>(choice.advance_on());
  return value;
}

}  // namespace

absl::StatusOr<sched::Labels> LabelsFromProto(const google::protobuf::RepeatedPtrField<v1::Entry>& entries) {
  sched::Labels labels;
  for (const v1::Entry& entry : entries) {
    if (!labels.emplace(entry.key(), entry.value()).second) {
      return absl::InvalidArgumentError(absl::StrCat("label \"", entry.key(), "\" is given twice"));
    }
  }
  MUSTER_RETURN_IF_ERROR(sched::ValidateLabels(labels));
  return sched::WithAliases(std::move(labels));
}

google::protobuf::RepeatedPtrField<v1::Entry> LabelsToProto(const sched::Labels& labels) {
  google::protobuf::RepeatedPtrField<v1::Entry> entries;
  for (const auto& [key, value] : labels) {
    v1::Entry& entry = *entries.Add();
    entry.set_key(key);
    entry.set_value(value);
  }
  return entries;
}

absl::StatusOr<sched::Resources> FromProto(const v1::Resources& resources) {
  sched::Resources value;
  value.cpus = resources.cpus();
  value.gpus = resources.gpus();
  value.memory_bytes = resources.memory_bytes();
  MUSTER_ASSIGN_OR_RETURN(value.custom, CustomFromProto(resources.custom()));
  MUSTER_RETURN_IF_ERROR(sched::Validate(value));
  return value;
}

v1::Resources ToProto(const sched::Resources& resources) {
  v1::Resources proto;
  proto.set_cpus(resources.cpus);
  proto.set_gpus(resources.gpus);
  proto.set_memory_bytes(resources.memory_bytes);
  CustomToProto(resources.custom, *proto.mutable_custom());
  return proto;
}

absl::StatusOr<sched::NodeResources> FromProto(const v1::NodeResources& resources) {
  sched::NodeResources value;
  value.cpus = resources.cpus();
  value.gpu_devices = resources.gpus_size();
  value.memory_bytes = resources.memory_bytes();
  MUSTER_ASSIGN_OR_RETURN(value.custom, CustomFromProto(resources.custom()));
  MUSTER_RETURN_IF_ERROR(sched::Validate(value));
  return value;
}

absl::StatusOr<sched::RequestSpec> FromProto(const v1::RequestSpec& spec) {
  sched::RequestSpec value;
  for (const v1::Choice& choice : spec.choices()) {
    MUSTER_ASSIGN_OR_RETURN(sched::Choice one, FromProto(choice));
    value.choices.push_back(std::move(one));
  }
  if (spec.bundles() > static_cast<uint32_t>(sched::kBundlesMax)) {
    return absl::InvalidArgumentError(absl::StrCat("bundles is ", spec.bundles(), "; at most ", sched::kBundlesMax));
  }
  value.bundles = static_cast<int>(spec.bundles());
  value.priority = spec.priority();
  value.fail_if_infeasible = spec.fail_if_infeasible();
  value.name = spec.name();
  MUSTER_RETURN_IF_ERROR(sched::Validate(value));
  return value;
}

v1::RequestSpec ToProto(const sched::RequestSpec& spec) {
  v1::RequestSpec proto;
  for (const sched::Choice& choice : spec.choices) {
    v1::Choice& out = *proto.add_choices();
    for (const auto& [key, text] : choice.selector.ToMap()) {
      v1::Entry& entry = *out.add_selector();
      entry.set_key(key);
      entry.set_value(text);
    }
    *out.mutable_resources() = ToProto(choice.resources);
    out.set_after_ns(absl::ToInt64Nanoseconds(choice.after));
    out.set_advance_on(choice.advance_on);
  }
  proto.set_bundles(static_cast<uint32_t>(spec.bundles));
  proto.set_priority(spec.priority);
  proto.set_fail_if_infeasible(spec.fail_if_infeasible);
  proto.set_name(spec.name);
  return proto;
}

absl::StatusOr<sched::Placement> FromProto(const v1::Placement& placement, NodeId node) {
  sched::Placement value;
  value.node = node;
  value.choice = static_cast<int>(placement.choice());
  MUSTER_ASSIGN_OR_RETURN(value.resources, FromProto(placement.resources()));
  for (const v1::DeviceShare& share : placement.devices()) {
    if (share.device() >= static_cast<uint32_t>(sched::kGpuDevicesMax) || share.amount() <= 0 ||
        share.amount() > sched::Amount::kUnit) {
      return absl::InvalidArgumentError(absl::StrCat("device ", share.device(), " with ", share.amount(), "/10000 cannot be"));
    }
    value.devices.push_back(sched::GpuShare{static_cast<int>(share.device()), share.amount()});
  }
  return value;
}

v1::Placement ToProto(const sched::Placement& placement) {
  v1::Placement proto;
  proto.set_choice(static_cast<uint32_t>(placement.choice));
  *proto.mutable_resources() = ToProto(placement.resources);
  for (const sched::GpuShare& share : placement.devices) {
    v1::DeviceShare& out = *proto.add_devices();
    out.set_device(static_cast<uint32_t>(share.device));
    out.set_amount(share.amount);
  }
  return proto;
}

}  // namespace muster
