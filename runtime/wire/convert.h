// Proto to the scheduler's values and back. What comes from others is validated here, once: past it the
// values are valid.
//
// Errors: kInvalidArgument, naming the field and its value.
#pragma once

#include "absl/status/statusor.h"
#include "muster/v1/common.pb.h"
#include "scheduler/events.h"

namespace muster {

absl::StatusOr<sched::Labels> LabelsFromProto(const google::protobuf::RepeatedPtrField<v1::Entry>& entries);
google::protobuf::RepeatedPtrField<v1::Entry> LabelsToProto(const sched::Labels& labels);

absl::StatusOr<sched::Resources> FromProto(const v1::Resources& resources);
v1::Resources ToProto(const sched::Resources& resources);

absl::StatusOr<sched::NodeResources> FromProto(const v1::NodeResources& resources);  // Devices are counted.

absl::StatusOr<sched::RequestSpec> FromProto(const v1::RequestSpec& spec);
v1::RequestSpec ToProto(const sched::RequestSpec& spec);

absl::StatusOr<sched::Placement> FromProto(const v1::Placement& placement, NodeId node);
v1::Placement ToProto(const sched::Placement& placement);

}  // namespace muster
