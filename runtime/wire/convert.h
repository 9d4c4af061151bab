// Messages of proto/muster/v1 to the scheduler's values, and back.
//
// What comes from a peer is validated here, once: what these functions return the scheduler may
// rely on.
// Errors: kInvalidArgument naming the field and its value ("choices[1].resources.cpus is -3: ...").
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "muster/v1/cluster.pb.h"
#include "muster/v1/common.pb.h"
#include "scheduler/choice.h"
#include "scheduler/events.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"

namespace muster {

using Entries = google::protobuf::RepeatedPtrField<v1::Entry>;

// Keys and values are checked; aliases are not added. A key twice is an error.
absl::StatusOr<sched::Labels> LabelsFromProto(const Entries& entries);
Entries LabelsToProto(const sched::Labels& labels);

absl::StatusOr<sched::Resources> FromProto(const v1::Resources& proto);
v1::Resources ToProto(const sched::Resources& resources);

// One device each. The devices' ids and models stay in the message.
absl::StatusOr<sched::NodeResources> FromProto(const v1::NodeResources& proto);
v1::NodeResources ToProto(const sched::NodeResources& total);  // Devices without id and model.

absl::StatusOr<sched::LabelSelector> SelectorFromProto(const Entries& entries);
Entries SelectorToProto(const sched::LabelSelector& selector);

absl::StatusOr<sched::Choice> FromProto(const v1::Choice& proto);
v1::Choice ToProto(const sched::Choice& choice);

absl::StatusOr<sched::NodeAffinity> FromProto(const v1::NodeAffinity& proto);

// `owner` is not on the wire: it is whose link the spec came by. `inside` names the group by the
// driver's number for it: the head puts its own there.
absl::StatusOr<sched::RequestSpec> FromProto(const v1::RequestSpec& proto, std::string owner);
v1::RequestSpec ToProto(const sched::RequestSpec& spec);

// `node` is not on the wire: the message goes to it or comes from it. Devices are in order, none
// twice, each share within one device.
absl::StatusOr<sched::Placement> FromProto(const v1::Placement& proto, NodeId node);
v1::Placement ToProto(const sched::Placement& placement);

// Without `request`, which the head gives; `lease` stays in the message. The placement must be one
// of the spec's choices.
absl::StatusOr<sched::HeldLease> FromProto(const v1::HeldLease& proto, NodeId node,
                                           std::string owner);
v1::HeldLease ToProto(const sched::HeldLease& held, const v1::LeaseKey& lease, bool started);

}  // namespace muster
