// A node's place in best-fit order, as one integer: what is free of it, the least first. Nodes with
// one key are equal to best fit, and the lowest id among them is taken.
//
// In order of weight: whether it has GPUs at all; free GPUs summed, then how many of them are
// whole; free CPUs in steps (of 1/16 below one CPU, whole CPUs from 8 to 16, an eighth of the power
// of two below beyond); free memory by powers of two from 64 MiB on.
#pragma once

#include <bit>
#include <cstdint>

#include "scheduler/resources.h"

namespace muster::sched {

class FreeKey {
 public:
  FreeKey() = default;
  static FreeKey Of(bool has_gpus, int64_t gpus, int whole_gpus, int64_t cpus, int64_t memory) {
    return FreeKey(
        static_cast<uint64_t>(has_gpus ? 1 : 0) << kHasGpus | static_cast<uint64_t>(gpus) << kGpus |
        static_cast<uint64_t>(whole_gpus) << kWhole | CpuStep(cpus) << kCpus | MemoryStep(memory));
  }
  // Below the keys of all nodes with GPUs of which `gpus` are free.
  static FreeKey FirstWithGpus(int64_t gpus) { return Of(true, gpus, 0, 0, 0); }

  uint64_t bits() const { return bits_; }
  uint64_t cpu_step() const { return bits_ >> kCpus & 0x1FF; }
  int64_t gpus() const { return static_cast<int64_t>(bits_ >> kGpus & 0x3FFFFFF); }
  int64_t whole_gpus() const { return static_cast<int64_t>(bits_ >> kWhole & 0x1FFF); }

  // False: whatever has room on a node with this key has room on one with `other`.
  bool HasMoreThan(FreeKey other) const {
    const auto more = [&](int from, uint64_t mask) {
      return (bits_ >> from & mask) > (other.bits_ >> from & mask);
    };
    return more(kGpus, (uint64_t{1} << (kHasGpus - kGpus)) - 1) || more(kWhole, 0x1FFF) ||
           more(kCpus, 0x1FF) || more(0, 0x3F);
  }

  // What a key must have at least, reckoned once for many keys.
  struct Least {
    int64_t gpus = 0;
    int64_t whole_gpus = 0;
    uint64_t cpu_step = 0;
    uint64_t memory_step = 0;
  };
  static Least LeastFor(int64_t gpus, int64_t cpus, int64_t memory) {
    return {.gpus = gpus,
            .whole_gpus = gpus < Amount::kUnit ? 0 : gpus / Amount::kUnit,
            .cpu_step = CpuStep(cpus),
            .memory_step = MemoryStep(memory)};
  }
  static Least LeastFor(const Resources& needs) {
    return LeastFor(needs.gpus, needs.cpus, needs.memory_bytes);
  }

  // False: no node with this key has room for so much. True: it may have.
  bool MayHold(const Least& least) const {
    return gpus() >= least.gpus && whole_gpus() >= least.whole_gpus && MayHoldWithoutGpus(least);
  }
  bool MayHoldWithoutGpus(const Least& least) const {
    return cpu_step() >= least.cpu_step && (bits_ & 0x3F) >= least.memory_step;
  }

  friend bool operator==(FreeKey a, FreeKey b) { return a.bits_ == b.bits_; }
  friend bool operator!=(FreeKey a, FreeKey b) { return a.bits_ != b.bits_; }
  friend bool operator<(FreeKey a, FreeKey b) { return a.bits_ < b.bits_; }

  // Both never fall as the amount grows.
  static uint64_t CpuStep(int64_t cpus) {
    if (cpus <= 0) return 0;
    const uint64_t sixteenths = static_cast<uint64_t>(cpus) * 16 / Amount::kUnit;
    if (sixteenths < 16) return sixteenths;
    const int shift =
        static_cast<int>(std::bit_width(sixteenths)) - 4;  // So that 8 to 15 are left.
    return static_cast<uint64_t>(shift) * 8 + (sixteenths >> shift);
  }
  static uint64_t MemoryStep(int64_t bytes) {
    return bytes <= 0 ? 0
                      : static_cast<uint64_t>(std::bit_width(static_cast<uint64_t>(bytes) >> 26));
  }

 private:
  // Bits: memory 6, CPUs 9, whole GPUs 13, GPUs 26, has GPUs 1.
  static constexpr int kCpus = 6;
  static constexpr int kWhole = 15;
  static constexpr int kGpus = 28;
  static constexpr int kHasGpus = 54;
  static_assert(kGpuDevicesMax < 1 << 13);
  static_assert(kGpuDevicesMax * Amount::kUnit < int64_t{1} << 26);

  explicit FreeKey(uint64_t bits) : bits_(bits) {}

  uint64_t bits_ = 0;
};

}  // namespace muster::sched
