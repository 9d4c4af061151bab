#include "scheduler/quotas.h"

namespace muster::sched {

const std::string* Quotas::Entry::Exceeded(const Resources& needs, int64_t times) const {
  for (const auto& [name, limit] : quota.limits) {
    const int64_t amount = AmountOf(needs, name);
    if (amount > 0 && amount > (limit - used.at(name)) / times) return &name;
  }
  return nullptr;
}

void Quotas::Set(const Quota& quota) {
  Entry& entry = entries_[quota.name];
  entry = Entry{.quota = quota};
  for (const auto& [name, limit] : quota.limits) entry.used.emplace(name, 0);
}

bool Quotas::Remove(const std::string& name) { return entries_.erase(name) > 0; }

void Quotas::ForgetUse() {
  for (auto& [name, entry] : entries_) {
    for (auto& [limit, used] : entry.used) used = 0;
  }
}

void Quotas::AddNode(const Node& node) {
  for (auto& [name, entry] : entries_) {
    if (entry.quota.selector.Matches(node.labels)) entry.nodes.insert(node.id);
  }
}

void Quotas::RemoveNode(NodeId node) {
  for (auto& [name, entry] : entries_) entry.nodes.erase(node);
}

bool Quotas::Charge(const RequestSpec& spec, NodeId node, const Resources& held, int64_t sign) {
  bool any = false;
  for (auto& [name, entry] : entries_) {
    if (!entry.Covers(spec) || !entry.nodes.contains(node)) continue;
    for (auto& [limit, used] : entry.used) used += sign * AmountOf(held, limit);
    any = true;
  }
  return any;
}

std::vector<const Quotas::Entry*> Quotas::Closed(const RequestSpec& spec, int choice) const {
  std::vector<const Entry*> closed;
  for (const auto& [name, entry] : entries_) {
    if (!entry.Covers(spec)) continue;
    if (entry.Exceeded(spec.choices[choice].resources, spec.bundles) != nullptr) {
      closed.push_back(&entry);
    }
  }
  return closed;
}

}  // namespace muster::sched
