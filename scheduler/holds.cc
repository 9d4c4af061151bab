#include "scheduler/holds.h"

#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"

namespace muster::sched {

void HoldPart::Fill() {
  Resources more;
  const auto missing = [](int64_t need, int64_t has_now, int64_t free) {
    return std::clamp(need - has_now, int64_t{0}, std::max(free, int64_t{0}));
  };
  more.cpus = missing(needs.cpus, has.cpus, node->free.cpus());
  more.memory_bytes = missing(needs.memory_bytes, has.memory_bytes, node->free.memory_bytes());
  for (const auto& [name, need] : needs.custom) {
    const int64_t amount = missing(need, AmountOf(has, name), node->free.custom(name));
    if (amount > 0) more.custom.emplace(name, amount);
  }
  const int64_t gpus = needs.gpus - has.gpus;
  if (needs.gpus < Amount::kUnit) {  // A share lives on one device: all of it or nothing.
    if (gpus > 0 && node->free.devices().Fits(gpus)) more.gpus = gpus;
  } else {
    more.gpus = std::min(gpus, node->free.devices().empty_devices() * Amount::kUnit);
  }
  for (const GpuShare share : node->free.Take(more)) devices.push_back(share);
  has.cpus += more.cpus;
  has.gpus += more.gpus;
  has.memory_bytes += more.memory_bytes;
  for (const auto& [name, amount] : more.custom) has.custom[name] += amount;
}

void HoldPart::Empty() {
  node->free.Give(has, devices);
  has = Resources{};
  devices.clear();
}

bool Hold::full() const {
  return std::all_of(parts.begin(), parts.end(), [](const HoldPart& part) { return part.full(); });
}

bool Hold::IsOn(const Node& node) const {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const HoldPart& part) { return part.node == &node; });
}

Hold& Holds::Add(Hold hold) {
  hold.id = next_++;
  const auto [at, added] = holds_.emplace(hold.id, std::move(hold));
  MUSTER_CHECK(added);
  return at->second;
}

int Holds::CountOf(const SchedulingClass& of) const {
  int count = 0;
  for (const auto& [id, hold] : holds_) count += hold.of == &of && !hold.returns() ? 1 : 0;
  return count;
}

Hold* Holds::ReturnOf(RequestId request) {
  for (auto& [id, hold] : holds_) {
    if (hold.returns() && hold.request == request) return &hold;
  }
  return nullptr;
}

absl::Time Holds::NextEnd() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, hold] : holds_) next = std::min(next, hold.until);
  return next;
}

bool Holds::Claims(LeaseId lease) const {
  for (const auto& [id, hold] : holds_) {
    if (std::find(hold.victims.begin(), hold.victims.end(), lease) != hold.victims.end()) {
      return true;
    }
  }
  return false;
}

bool Holds::ClaimsAt(LeaseId lease, int priority) const {
  for (const auto& [id, hold] : holds_) {
    if (hold.of->spec.priority < priority) continue;
    if (std::find(hold.victims.begin(), hold.victims.end(), lease) != hold.victims.end()) {
      return true;
    }
  }
  return false;
}

}  // namespace muster::sched
