#include "scheduler/node.h"

#include <algorithm>

#include "scheduler/capacity_index.h"

namespace muster::sched {

Capacity::Capacity(const NodeResources& total)
    : cpus_(total.cpus),
      memory_bytes_(total.memory_bytes),
      devices_(total.gpu_devices),
      custom_(total.custom) {}

int64_t Capacity::Count(const Resources& needs, int64_t limit) const {
  int64_t count = limit;
  if (needs.cpus > 0) count = std::min(count, std::max(cpus_, int64_t{0}) / needs.cpus);
  if (needs.memory_bytes > 0) count = std::min(count, memory_bytes_ / needs.memory_bytes);
  for (const auto& [name, amount] : needs.custom) count = std::min(count, custom(name) / amount);
  return devices_.Count(needs.gpus, count);
}

FreeKey Capacity::key() const {
  return FreeKey::Of(devices_.count() > 0, devices_.free(), devices_.empty_devices(), cpus_,
                     memory_bytes_);
}

Capacity::Score Capacity::ScoreFor(const Resources& needs) const {
  return {devices_.LeftOnDevice(needs.gpus), key()};
}

GpuShares Capacity::Take(const Resources& needs, DeviceOrder order) {
  TakeWithoutDevices(needs);
  return devices_.Take(needs.gpus, order);
}

void Capacity::Give(const Resources& needs, const GpuShares& devices) {
  cpus_ += needs.cpus;
  memory_bytes_ += needs.memory_bytes;
  if (!needs.custom.empty()) ChangeCustom(needs, +1);
  devices_.Give(devices);
  watch_.Changed();
}

bool Capacity::TakeHeld(const Resources& needs, const GpuShares& devices) {
  int64_t held = 0;
  for (const GpuShare share : devices) held += share.amount;
  if (held != needs.gpus || !FitsWithoutCpus(needs) || !devices_.TakeExactly(devices)) return false;
  TakeWithoutDevices(needs);
  return true;
}

int64_t Capacity::custom(const std::string& name) const {
  const auto found = custom_.find(name);
  return found == custom_.end() ? 0 : found->second;
}

bool Capacity::FitsCustom(const Resources& needs) const {
  for (const auto& [name, amount] : needs.custom) {
    if (amount > custom(name)) return false;
  }
  return true;
}

void Capacity::ChangeCustom(const Resources& needs, int64_t sign) {
  for (const auto& [name, amount] : needs.custom) custom_[name] += sign * amount;
}

void Capacity::TakeWithoutDevices(const Resources& needs) {
  cpus_ -= needs.cpus;
  memory_bytes_ -= needs.memory_bytes;
  if (!needs.custom.empty()) ChangeCustom(needs, -1);
  watch_.Changed();
}

void Watch::Changed() {
  if (node_ == nullptr) return;
  if (!node_->repack) node_->filed_in->packing().Changed(node_);
  if (node_->changed) return;
  node_->changed = true;
  node_->filed_in->Changed(node_);
}

void LeaseSet::emplace(RequestId request, int bundle) {
  const LeaseId lease(request, bundle);
  if (leases_.empty() || leases_.back() < lease) {
    leases_.push_back(lease);
  } else {
    leases_.insert(std::lower_bound(leases_.begin(), leases_.end(), lease), lease);
  }
}

void LeaseSet::erase(LeaseId lease) {
  const auto found = std::lower_bound(leases_.begin(), leases_.end(), lease);
  if (found != leases_.end() && *found == lease) leases_.erase(found);
}

bool LeaseSet::contains(LeaseId lease) const {
  return std::binary_search(leases_.begin(), leases_.end(), lease);
}

Node::Node(NodeId id_in, std::string name_in, LabelTable& table, NodeShape& shape_in)
    : id(id_in), free(shape_in.total), name(std::move(name_in)), labels(table), whole(shape_in) {}

NodeShape::NodeShape(NodeResources total_in, int devices_out_in)
    : total(std::move(total_in)), devices_out(devices_out_in), empty([this] {
        Capacity capacity(total);
        for (int device = 0; device < devices_out; ++device) capacity.SetDeviceOut(device, true);
        return capacity;
      }()) {}

NodeState Node::state() const {
  if (draining) return NodeState::kDraining;
  return reachable ? NodeState::kAlive : NodeState::kUnreachable;
}

NodeView Node::View() const {
  NodeView view{.node = id,
                .name = name,
                .state = state(),
                .labels = labels,
                .total = total,
                .used = {},
                .deadline = deadline,
                .drain_reason = drain_reason,
                .empty = leases.empty(),
                .quarantined = {}};
  view.used.cpus = total.cpus - free.cpus();
  view.used.gpus =
      total.gpu_devices * Amount::kUnit - free.devices().free() - free.devices().kept_aside();
  for (const Quarantine& out : quarantined) {
    view.quarantined.push_back(
        {.device = out.device, .reason = out.reason, .leave_by = out.leave_by});
  }
  view.used.memory_bytes = total.memory_bytes - free.memory_bytes();
  for (const auto& [resource, amount] : total.custom) {
    const int64_t used = amount - free.custom(resource);
    if (used != 0) view.used.custom.emplace(resource, used);
  }
  return view;
}

}  // namespace muster::sched
