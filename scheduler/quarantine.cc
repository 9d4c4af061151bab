// Devices in quarantine: see DeviceHealth in events.h.
#include <algorithm>

#include "scheduler/scheduler_impl.h"

namespace muster::sched {

void Scheduler::Impl::On(const DeviceHealth& event) {
  if (Node* const node = cluster_.FindNode(event.node)) SetHealth(*node, event);
}

void Scheduler::Impl::SetHealth(Node& node, const DeviceHealth& event) {
  if (event.device < 0 || event.device >= node.total.gpu_devices) return;
  const auto at = std::lower_bound(node.quarantined.begin(), node.quarantined.end(), event.device,
                                   [](const Quarantine& out, int d) { return out.device < d; });
  const bool known = at != node.quarantined.end() && at->device == event.device;
  if (event.healthy) {
    if (!known) return;
    node.quarantined.erase(at);
  } else if (known) {
    at->reason = event.reason;
    return;
  } else {
    node.quarantined.insert(at, {.device = event.device,
                                 .reason = event.reason,
                                 .leave_by = now_ + config_.quarantine_grace});
  }
  ReservedNodeChanged(node);
  DropHoldsOn(node);  // They may have kept some of it.
  node.free.SetDeviceOut(event.device, !event.healthy);
  ApplyQuarantine(node);
  if (event.healthy) Grew(node);
  TellLeases(node);
}

void Scheduler::Impl::ApplyQuarantine(Node& node) {
  cluster_.CountQuarantined(&node);
  topology_changed_ = true;  // What could ever be held.
}

}  // namespace muster::sched
