#include "scheduler/devices.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace muster::sched {

Devices::Devices(int count)
    : free_(static_cast<size_t>(count), uint16_t{Amount::kUnit}),
      free_total_(count * Amount::kUnit),
      empty_(count) {}

int64_t Devices::Count(int64_t gpus, int64_t limit) const {
  if (gpus == 0) return limit;
  if (gpus >= Amount::kUnit) return std::min(limit, empty_ / (gpus / Amount::kUnit));
  int64_t count = 0;
  for (const int64_t free : free_) count += free / gpus;
  return std::min(limit, count);
}

int64_t Devices::LeftOnDevice(int64_t gpus) const {
  if (gpus == 0 || gpus >= Amount::kUnit) return 0;
  const int device = BestDevice(gpus);
  MUSTER_CHECK(device >= 0);
  return free_[device] - gpus;
}

GpuShares Devices::Take(int64_t gpus, DeviceOrder order) {
  GpuShares shares;
  if (gpus == 0) return shares;
  if (gpus < Amount::kUnit) {
    shares.push_back({.device = BestDevice(gpus, order), .amount = gpus});
    MUSTER_CHECK(shares[0].device >= 0);
    Change(shares[0].device, -gpus);
    return shares;
  }
  const size_t wanted = static_cast<size_t>(gpus / Amount::kUnit);
  MUSTER_CHECK(static_cast<size_t>(empty_) >= wanted);
  uint16_t* const free = free_.data();
  for (int device = 0; shares.size() < wanted; ++device) {
    if (free[device] != Amount::kUnit) continue;
    shares.push_back({.device = device, .amount = Amount::kUnit});
    free[device] = 0;
  }
  empty_ -= static_cast<int>(wanted);
  free_total_ -= gpus;
  return shares;
}

bool Devices::TakeExactly(const GpuShares& shares) {
  for (size_t i = 0; i < shares.size(); ++i) {
    const GpuShare share = shares[i];
    const bool free = share.device >= 0 && share.device < count() && share.amount > 0 &&
                      share.amount <= free_[share.device];
    if (!free) {
      for (size_t taken = 0; taken < i; ++taken) Change(shares[taken].device, shares[taken].amount);
      return false;
    }
    Change(share.device, -share.amount);
  }
  return true;
}

void Devices::Give(const GpuShares& shares) {
  for (const GpuShare share : shares) {
    Out* const out = out_.empty() ? nullptr : out_.Find(share.device);
    if (out == nullptr) {
      Change(share.device, share.amount);
    } else {
      out->left += share.amount;
    }
  }
}

void Devices::SetOut(int device, bool out) {
  Out* const found = out_.Find(device);
  if (out == (found != nullptr)) return;
  const int64_t left = out ? free_[device] : found->left;
  if (out) {
    out_.Add({.device = device, .left = left});
    Change(device, -left);
  } else {
    out_.Remove(device);
    Change(device, left);
  }
}

int64_t Devices::kept_aside() const {
  int64_t left = 0;
  if (out_.empty()) return left;
  for (const Out& out : out_.all()) left += out.left;
  return left;
}

Devices::Out* Devices::OutList::Find(int device) {
  if (list_ == nullptr) return nullptr;
  for (Out& out : *list_) {
    if (out.device == device) return &out;
  }
  return nullptr;
}

void Devices::OutList::Add(Out out) {
  if (list_ == nullptr) list_ = std::make_unique<std::vector<Out>>();
  list_->push_back(out);
}

void Devices::OutList::Remove(int device) {
  std::erase_if(*list_, [&](const Out& out) { return out.device == device; });
  if (list_->empty()) list_.reset();
}

int Devices::BestDevice(int64_t share, DeviceOrder order) const {
  int best = -1;
  for (int device = 0; device < count(); ++device) {
    if (free_[device] < share) continue;
    const bool better = order == DeviceOrder::kFullest ? free_[device] < free_[best < 0 ? 0 : best]
                                                       : free_[device] > free_[best < 0 ? 0 : best];
    if (best < 0 || better) best = device;
  }
  return best;
}

void Devices::Change(int device, int64_t by) {
  int64_t free = free_[device];
  if (free == Amount::kUnit) --empty_;
  free += by;
  free_total_ += by;
  MUSTER_CHECK(free >= 0);
  MUSTER_CHECK(free <= Amount::kUnit);
  if (free == Amount::kUnit) ++empty_;
  free_[device] = static_cast<uint16_t>(free);
}

}  // namespace muster::sched
