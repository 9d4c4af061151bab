// Whatever a peer says about requests, leases and nodes is converted or refused with a reason; what
// was converted is valid, and says the same after another trip over the wire.
#include <cstddef>
#include <cstdint>
#include <string>

#include "muster/v1/cluster.pb.h"
#include "runtime/wire/convert.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

void CheckSpec(const v1::RequestSpec& proto) {
  const absl::StatusOr<sched::RequestSpec> spec = FromProto(proto, "app");
  if (!spec.ok()) {
    MUSTER_CHECK(!spec.status().message().empty());
    return;
  }
  MUSTER_CHECK(sched::Validate(*spec).ok());
  const absl::StatusOr<sched::RequestSpec> again = FromProto(ToProto(*spec), "app");
  MUSTER_CHECK(again.ok());
  MUSTER_CHECK(*again == *spec);
}

void CheckHello(const v1::WorkerHello& hello) {
  const absl::StatusOr<sched::Labels> labels = LabelsFromProto(hello.labels());
  if (labels.ok()) MUSTER_CHECK(*LabelsFromProto(LabelsToProto(*labels)) == *labels);
  const absl::StatusOr<sched::NodeResources> total = FromProto(hello.resources());
  if (total.ok()) MUSTER_CHECK(sched::Validate(*total).ok());
  for (const v1::HeldLease& proto : hello.held()) {
    CheckSpec(proto.spec());
    const absl::StatusOr<sched::HeldLease> held = FromProto(proto, NodeId{1}, "app");
    if (!held.ok()) continue;
    MUSTER_CHECK(held->bundle < held->spec->bundles);
    MUSTER_CHECK(FromProto(ToProto(*held, proto.lease(), proto.started()), NodeId{1}, "app").ok());
  }
}

void CheckText(absl::string_view text) {
  const std::string utf8 = ToUtf8(text);
  MUSTER_CHECK(ToUtf8(utf8) == utf8);
  MUSTER_CHECK(utf8.size() == text.size());
  v1::Status status;
  MUSTER_CHECK(status.ParseFromString(ToProto(absl::UnknownError(text)).SerializeAsString()));
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::v1::WorkerHello hello;
  if (hello.ParseFromArray(data, static_cast<int>(size))) muster::CheckHello(hello);
  muster::v1::RequestSpec spec;
  if (spec.ParseFromArray(data, static_cast<int>(size))) muster::CheckSpec(spec);
  muster::CheckText(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
