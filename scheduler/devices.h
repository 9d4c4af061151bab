// The GPU devices of one node, and what is free of each. A share below 1 lives on one device; whole
// GPUs take empty devices.
//
// A device that is out (in quarantine) has nothing free: what is given back to it is kept aside
// until it is in again.
//
// Invariant: 0 <= free <= 1 for each device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "scheduler/resources.h"

namespace muster::sched {

// Which device a share goes to, of those that have room; the lowest on ties.
enum class DeviceOrder { kFullest, kEmptiest };

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

  // Takes `gpus`: whole GPUs from the lowest empty devices, a share from a device by `order`.
  // Returned lowest first. REQUIRES: Fits(gpus).
  GpuShares Take(int64_t gpus, DeviceOrder order = DeviceOrder::kFullest);

  // Takes exactly `shares`; false (and nothing taken) where they are not free or not devices of
  // this node.
  bool TakeExactly(const GpuShares& shares);

  // Gives back what was taken.
  void Give(const GpuShares& shares);

  void SetOut(int device, bool out);
  int64_t kept_aside() const;  // Summed, 1/10000: of devices that are out, what nobody holds.

 private:
  int BestDevice(int64_t share, DeviceOrder order = DeviceOrder::kFullest) const;  // -1: none.
  void Change(int device, int64_t by);
  struct Out {
    int device = 0;
    int64_t left = 0;  // What nobody holds.
  };
  // Mostly none: one pointer, so that a node's free capacity stays in few cache lines.
  class OutList {
   public:
    OutList() = default;
    OutList(const OutList& other)
        : list_(other.list_ ? std::make_unique<std::vector<Out>>(*other.list_) : nullptr) {}
    OutList& operator=(const OutList& other) {
      if (this != &other) *this = OutList(other);
      return *this;
    }
    OutList(OutList&&) = default;
    OutList& operator=(OutList&&) = default;

    bool empty() const { return list_ == nullptr; }
    const std::vector<Out>& all() const { return *list_; }  // REQUIRES: !empty().
    Out* Find(int device);                                  // Null: it is in.
    void Add(Out out);
    void Remove(int device);

   private:
    std::unique_ptr<std::vector<Out>> list_;
  };

  absl::InlinedVector<uint16_t, 8> free_;  // By device.
  int64_t free_total_ = 0;
  int empty_ = 0;
  OutList out_;
};

}  // namespace muster::sched
