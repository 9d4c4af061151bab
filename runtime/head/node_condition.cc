// Drains, and GPUs in quarantine: what operators and health reports say of nodes. The head keeps it
// only in memory; each worker keeps its own, for a head that forgets.
#include "runtime/head/node_condition.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/convert.h"

namespace muster::head {
namespace {

constexpr size_t kReasonBytesMax = 256;

}  // namespace

absl::Status CheckReason(const std::string& reason) {
  if (reason.size() <= kReasonBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the reason has ", reason.size(), " bytes; allowed: at most ", kReasonBytesMax));
}

absl::Status CheckGpu(const v1::WorkerHello& node, const v1::GpuHealth& health) {
  const int gpus = node.resources().gpus_size();
  if (static_cast<int64_t>(health.gpu()) >= gpus) {
    return absl::InvalidArgumentError(
        gpus == 0 ? absl::StrCat("there is no GPU ", health.gpu(), ": the node has none")
                  : absl::StrCat("there is no GPU ", health.gpu(), ": the node has ", gpus,
                                 ", numbered from 0 to ", gpus - 1));
  }
  return CheckReason(health.reason());
}

absl::Status HeadCore::CheckControl(const v1::ControlNodeRequest& request) const {
  const Node* const node = FindNode(request.node());
  if (node == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no node \"", request.node(), "\"; muster nodes lists them"));
  }
  switch (request.what_case()) {
    case v1::ControlNodeRequest::kDrain:
      if (request.drain().deadline_in_ns() < 0) {
        return absl::InvalidArgumentError("the deadline is in the past");
      }
      if (node->ends) {
        return absl::FailedPreconditionError(
            absl::StrCat("node ", node->name, " was told to end, and drains for that"));
      }
      return CheckReason(request.drain().reason());
    case v1::ControlNodeRequest::kHealth:
      return CheckGpu(node->hello, request.health());
    default:
      return absl::InvalidArgumentError("nothing is asked of the node");
  }
}

void HeadCore::On(const NodeControl& control) {
  if (!CheckControl(control.request).ok()) return;
  Node& node = nodes_.at(FindNode(control.request.node())->id);
  if (control.request.has_health()) return SetHealth(node, control.request.health());
  const v1::WorkerDrain& drain = control.request.drain();
  std::optional<absl::Time> deadline;
  if (drain.has_deadline_in_ns()) deadline = now_ + absl::Nanoseconds(drain.deadline_in_ns());
  SetDrain(node, drain.draining(), deadline, drain.reason());
}

void HeadCore::SetDrain(Node& node, bool draining, std::optional<absl::Time> deadline,
                        const std::string& reason) {
  node.draining = draining;
  node.drain_by = deadline;
  node.condition.set_draining(draining);
  node.condition.set_drain_reason(reason);
  SendCondition(node);
  SayLine(absl::StrCat("node ", node.name, draining ? " is draining" : " is not draining any more",
                       reason.empty() ? "" : ": ", reason));
  Schedule(sched::NodeDraining{
      .node = node.id, .deadline = deadline, .reason = reason, .draining = draining});
}

void HeadCore::SetHealth(Node& node, const v1::GpuHealth& health) {
  auto& unhealthy = *node.condition.mutable_unhealthy();
  unhealthy.erase(
      std::remove_if(unhealthy.begin(), unhealthy.end(),
                     [&](const v1::GpuHealth& known) { return known.gpu() == health.gpu(); }),
      unhealthy.end());
  if (!health.healthy()) *unhealthy.Add() = health;
  SendCondition(node);
  SayLine(absl::StrCat("GPU ", health.gpu(), " of node ", node.name,
                       health.healthy() ? " is out of quarantine" : " is in quarantine",
                       health.reason().empty() ? "" : ": ", health.reason()),
          !health.healthy());
  Schedule(sched::DeviceHealth{.node = node.id,
                               .device = static_cast<int>(health.gpu()),
                               .healthy = health.healthy(),
                               .reason = health.reason()});
}

// As a worker kept it for a head that has forgotten; it is not trusted to fit.
void HeadCore::TakeCondition(Node& node, const v1::NodeCondition& condition,
                             sched::NodeJoined& joined) {
  if (condition.draining()) {
    node.draining = true;
    node.condition.set_draining(true);
    node.condition.set_drain_reason(condition.drain_reason());
    if (condition.deadline_in_ns() > 0) {
      node.drain_by = now_ + absl::Nanoseconds(condition.deadline_in_ns());
    }
    joined.drain = sched::NodeDraining{
        .node = node.id, .deadline = node.drain_by, .reason = condition.drain_reason()};
  }
  for (const v1::GpuHealth& health : condition.unhealthy()) {
    if (health.healthy() || !CheckGpu(node.hello, health).ok()) continue;
    *node.condition.add_unhealthy() = health;
    joined.unhealthy.push_back({.node = node.id,
                                .device = static_cast<int>(health.gpu()),
                                .healthy = false,
                                .reason = health.reason()});
  }
}

void HeadCore::SendCondition(const Node& node) {
  v1::ToWorker message;
  *message.mutable_condition() = node.condition;
  if (node.drain_by) {
    message.mutable_condition()->set_deadline_in_ns(
        std::max(absl::ToInt64Nanoseconds(*node.drain_by - now_), int64_t{1}));
  }
  Tell(node, std::move(message));
}

// Said again to a driver that may not have heard of it.
void HeadCore::TellNotice(const Request& request, int bundle) {
  const std::optional<sched::Notice>& notice = request.leases[bundle].notice;
  if (!notice) return;
  v1::ToDriver message;
  v1::LeaseDraining& draining = *message.mutable_draining();
  *draining.mutable_lease() = KeyOf(request, bundle);
  if (notice->deadline) {  // 0 would say that there is none.
    draining.set_deadline_in_ns(
        std::max(absl::ToInt64Nanoseconds(*notice->deadline - now_), int64_t{1}));
  }
  draining.set_reason(ToString(notice->reason));
  draining.set_why(notice->why);
  if (notice->reason == sched::LeavingReason::kReturnToPreferred) {
    draining.set_kept_for(request.id.value);
  }
  Tell(drivers_.at(request.driver), std::move(message));
}

void HeadCore::Apply(const sched::NoticeWithdrawn& withdrawn) {
  const auto found = requests_.find(withdrawn.request);
  if (found == requests_.end()) return;
  found->second.leases[withdrawn.bundle].notice.reset();
  v1::ToDriver message;
  *message.mutable_stays()->mutable_lease() = KeyOf(found->second, withdrawn.bundle);
  Tell(drivers_.at(found->second.driver), std::move(message));
}

void HeadCore::Apply(const sched::NodeEmpty& empty) {
  SayLine(absl::StrCat("node ", NameOf(empty.node), " is empty, and may be taken away"));
}

const HeadCore::Node* HeadCore::FindNode(const std::string& name) const {
  for (const auto& [id, node] : nodes_) {
    const bool there = node.presence == Presence::kConnected || node.presence == Presence::kAway;
    if (there && node.name == name) return &node;
  }
  return nullptr;
}

v1::NodeStatus HeadCore::NodeStatusOf(const sched::NodeView& view, const Node& known,
                                      absl::Time now) const {
  v1::NodeStatus node;
  node.set_id(view.name);
  node.set_state(view.state == sched::NodeState::kUnreachable ? "alive"
                                                              : sched::ToString(view.state));
  *node.mutable_labels() = LabelsToProto(view.labels);
  *node.mutable_total() = known.hello.resources();
  *node.mutable_used() = ToProto(view.used);
  node.set_pid(known.hello.pid());
  node.set_host_id(known.hello.host_id());
  node.set_empty(view.empty);
  if (view.state == sched::NodeState::kDraining) {
    node.set_drain_reason(view.drain_reason);
    if (view.deadline) {
      node.set_deadline_in_ns(std::max(absl::ToInt64Nanoseconds(*view.deadline - now), int64_t{0}));
    }
  }
  for (const sched::QuarantineView& out : view.quarantined) {
    v1::GpuHealth& health = *node.add_unhealthy();
    health.set_gpu(static_cast<uint32_t>(out.device));
    health.set_reason(out.reason);
  }
  return node;
}

v1::NodeStatus HeadCore::NodeStatusOf(const std::string& name, absl::Time now) const {
  const Node* const node = FindNode(name);
  for (const sched::NodeView& view : scheduler_.Nodes()) {
    if (node != nullptr && view.node == node->id) return NodeStatusOf(view, *node, now);
  }
  return {};
}

}  // namespace muster::head
