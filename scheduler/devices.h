// The GPU devices of one node, and what is free of each. A share below 1 lives on one device; whole
// GPUs take empty devices.
//
// Invariant: 0 <= free <= 1 for each device.
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "scheduler/resources.h"

namespace muster::sched {

class Devices {
 public:
  explicit Devices(int count = 0);

  int count() const { return static_cast<int>(free_.size()); }
  int64_t free() const { return free_total_; }              // Summed, 1/10000.
  int64_t free(int device) const { return free_[device]; }  // 1/10000.
  int empty_devices() const { return empty_; }
  bool shared() const { return free_total_ != empty_ * Amount::kUnit; }  // Some is in use in part.

  // Whether `gpus` (1/10000; below 1 or whole) could be had now.
  bool Fits(int64_t gpus) const {
    if (gpus == 0) return true;
    if (gpus >= Amount::kUnit) return empty_ >= gpus / Amount::kUnit;
    return empty_ > 0 || BestDevice(gpus) >= 0;
  }

  // How many times `gpus` could be had, one after another, at most `limit`.
  int64_t Count(int64_t gpus, int64_t limit) const;

  // What would stay free of the device that a share below 1 would go to; 0 for whole GPUs.
  // REQUIRES: Fits(gpus).
  int64_t LeftOnDevice(int64_t gpus) const;

  // Takes `gpus`: whole GPUs from the lowest empty devices, a share from the fullest device that
  // has room, the lowest on ties. Returned lowest first. REQUIRES: Fits(gpus).
  GpuShares Take(int64_t gpus);

  // Takes exactly `shares`; false (and nothing taken) where they are not free or not devices of
  // this node.
  bool TakeExactly(const GpuShares& shares);

  // Gives back what was taken.
  void Give(const GpuShares& shares);

 private:
  int BestDevice(int64_t share) const;  // -1: none.
  void Change(int device, int64_t by);

  absl::InlinedVector<uint16_t, 8> free_;  // By device.
  int64_t free_total_ = 0;
  int empty_ = 0;
};

}  // namespace muster::sched
