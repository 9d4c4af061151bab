// The second version of the scheduler's rules, for scheduler_oracle_test.cc: nodes, requests, and
// what pack costs by its formula, with nothing kept from one question to the next.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "scheduler/scheduler.h"
#include "scheduler/test_support.h"

namespace muster::sched {

// How many steps of best fit an amount of CPUs is: a sixteenth each up to one CPU, then eight for
// each doubling.
inline int64_t SlowCpuStep(int64_t cpus) {
  int64_t step = 0;
  int64_t sixteenths = 0;
  while (true) {
    int64_t wide = 1;
    while (16 * wide <= sixteenths) wide *= 2;
    sixteenths += wide;
    if (cpus * 16 < sixteenths * Amount::kUnit) return step;
    ++step;
  }
}

// How many of 64 MiB, 128 MiB, ... an amount of memory reaches.
inline int64_t SlowMemoryStep(int64_t bytes) {
  int64_t step = 0;
  for (int64_t reached = int64_t{64} << 20; reached <= bytes; reached *= 2) ++step;
  return step;
}

struct SlowNode {
  uint64_t id = 0;
  std::string name{};
  std::map<std::string, std::string> labels{};
  bool hidden = false;
  bool usable_link = true;
  bool draining = false;
  int64_t cpus = 0;
  int64_t memory = 0;
  int64_t license = 0;
  std::vector<int64_t> devices{};   // Free.
  std::vector<int64_t> total{};     // CPUs, memory, license, devices.
  std::map<int, absl::Time> out{};  // Devices in quarantine, and when they are to be left.
  std::optional<absl::Time> drain_by{};
  bool said_empty = false;

  std::vector<int64_t> Seen() const {  // Of devices, by what is new.
    std::vector<int64_t> seen = devices;
    for (const auto& [device, leave_by] : out) seen[device] = 0;
    return seen;
  }

  SlowNode Emptied() const {
    SlowNode node = *this;
    node.cpus = total[0];
    node.memory = total[1];
    node.license = total[2];
    node.devices.assign(static_cast<size_t>(total[3]), Amount::kUnit);
    return node;
  }

  // Devices that would be taken; nullopt where there is no room.
  std::optional<GpuShares> Fit(const Resources& needs, bool emptiest = false) const {
    const auto custom = needs.custom.find("license");
    if (needs.cpus > 0 && needs.cpus > cpus) return std::nullopt;
    if (needs.memory_bytes > memory) return std::nullopt;
    if (custom != needs.custom.end() && custom->second > license) return std::nullopt;
    GpuShares shares;
    if (needs.gpus == 0) return shares;
    const std::vector<int64_t> seen = Seen();
    const int count = static_cast<int>(seen.size());
    if (needs.gpus < Amount::kUnit) {
      int best = -1;
      for (int d = count - 1; d >= 0; --d) {
        if (seen[d] < needs.gpus) continue;
        if (best < 0 || (emptiest ? seen[d] >= seen[best] : seen[d] <= seen[best])) {
          best = d;
        }
      }
      if (best < 0) return std::nullopt;
      shares.push_back({best, needs.gpus});
      return shares;
    }
    for (int d = 0; d < count; ++d) {
      if (seen[d] == Amount::kUnit &&
          static_cast<int64_t>(shares.size()) * Amount::kUnit < needs.gpus) {
        shares.push_back({d, Amount::kUnit});
      }
    }
    if (static_cast<int64_t>(shares.size()) * Amount::kUnit < needs.gpus) return std::nullopt;
    return shares;
  }

  void Add(const Resources& needs, const GpuShares& shares, int64_t sign, bool with_cpus) {
    const auto custom = needs.custom.find("license");
    if (with_cpus) cpus += sign * needs.cpus;
    memory += sign * needs.memory_bytes;
    if (custom != needs.custom.end()) license += sign * custom->second;
    for (const GpuShare share : shares) devices[share.device] += sign * share.amount;
  }
};

struct SlowRequest {
  uint64_t id = 0;
  RequestSpec spec{};
  std::vector<std::map<std::string, std::string>> texts{};  // By choice.
  std::vector<absl::Time> opened{};                         // As many as are open.
  bool said = false;
  absl::Time since{};
  struct Lease {
    bool running = false;
    bool blocked = false;
    Placement placement{};
    std::optional<Notice> told{};
    bool revoked = false;
  };
  std::vector<Lease> leases{};
};

// The cost of pack from its formula: no tables, no states, in floating point.
class SlowPacking {
 public:
  void Count(const RequestSpec& spec, const std::map<std::string, std::string>& text) {
    const Resources& needs = spec.choices[0].resources;
    if (needs.gpus == 0) return;
    std::string kinds;  // In normal form.
    if (const auto found = text.find(kKindLabel); found != text.end()) {
      kinds = LabelSelector::Parse({*found})->requirements()[0].ToText();
    }
    Shape& shape = shapes_[{needs.gpus, needs.cpus, kinds}];
    shape.count += spec.bundles;
    shape.memory += spec.bundles * (needs.memory_bytes >> 20);
    const bool look = SameStep(counted_) != SameStep(counted_ + spec.bundles);
    counted_ += spec.bundles;
    if (!look || !Drifted()) return;
    for (auto& [key, each] : shapes_) {
      each.typical_count = each.count;
      each.typical_memory = each.memory;
    }
  }

  int64_t Cost(const Resources& needs, const SlowNode& node,
               const std::map<uint64_t, SlowNode>& nodes) const {
    SlowNode before = node;
    before.cpus = CpuFloor(node.cpus);
    before.memory = MemoryFloor(node.memory);
    SlowNode after = before;
    after.cpus = std::max<int64_t>(0, before.cpus - needs.cpus);
    after.memory = std::max<int64_t>(0, before.memory - needs.memory_bytes);
    const auto shares = node.Fit(needs);
    for (const GpuShare share : *shares) after.devices[share.device] -= share.amount;
    const int64_t more = (Waste(after) - Waste(before)) / 65536;
    const int64_t score = static_cast<int64_t>(
        std::floor(100 / (1 + std::exp(static_cast<double>(more * 1000 / 15000) / 1000))));
    return 1000 * (100 - score) + 80 * Pressure(node, nodes);
  }

 private:
  struct Shape {
    int64_t count = 0;
    int64_t memory = 0;
    int64_t typical_count = 0;
    int64_t typical_memory = 0;
  };
  using Key = std::tuple<int64_t, int64_t, std::string>;  // GPUs, CPUs, kinds.

  // The least that lies on the same step of an eighth of the power of two below.
  static int64_t SameStep(int64_t counted) {
    int64_t step = 1;
    while (counted >= step * 16) step *= 2;
    return counted / step * step;
  }
  bool Drifted() const {
    double now = 0;
    double then = 0;
    for (const auto& [key, shape] : shapes_) {
      now += static_cast<double>(shape.count * WeightOfOne(key));
      then += static_cast<double>(Weight(key, shape));
    }
    int64_t apart = 0;
    for (const auto& [key, shape] : shapes_) {
      const int64_t weight = WeightOfOne(key);
      const auto part = [weight](int64_t count, double all) {
        const double parts = static_cast<double>(count * weight) * 1e6;
        return all == 0 ? 0 : static_cast<int64_t>(std::floor(parts / all));
      };
      apart += std::abs(part(shape.count, now) - part(shape.typical_count, then));
      if (shape.typical_count == 0) continue;
      const int64_t memory = shape.memory / shape.count;
      const int64_t usual = shape.typical_memory / shape.typical_count;
      if (memory * 8 > usual * 9 || memory * 9 < usual * 8) {
        apart += std::min(part(shape.count, now), part(shape.typical_count, then));
      }
    }
    return apart >= 62'500;
  }
  static bool Accepts(const std::string& kinds, const SlowNode& node) {
    const auto kind = node.labels.find(kKindLabel);
    return kinds.empty() ||
           testing::SlowMatches(kinds, kind == node.labels.end() ? nullptr : &kind->second);
  }
  static int64_t CpuFloor(int64_t cpus) {
    int64_t floor = std::max<int64_t>(cpus, 0) / 625 * 625;
    while (floor > 0 && SlowCpuStep(floor - 625) == SlowCpuStep(cpus)) floor -= 625;
    return floor;
  }
  static int64_t MemoryFloor(int64_t bytes) {
    int64_t power = 4;
    while (2 * power <= bytes) power *= 2;
    return bytes / (power / 4) * (power / 4);
  }
  int64_t Waste(const SlowNode& node) const {
    int64_t sum = 0;
    for (const auto& [key, shape] : shapes_) sum += Weight(key, shape);
    int64_t waste = 0;
    for (const auto& [key, shape] : shapes_) {
      if (shape.typical_count == 0) continue;
      const auto& [gpus, cpus, kinds] = key;
      Resources typical;
      typical.gpus = gpus;
      typical.cpus = cpus;
      typical.memory_bytes = (shape.typical_memory / shape.typical_count) << 20;
      int64_t useless = 0;
      const bool room = Accepts(kinds, node) && node.Fit(typical).has_value();
      for (const int64_t device : node.Seen()) {
        if (!room || device < std::min(gpus, Amount::kUnit)) useless += device;
      }
      waste += Weight(key, shape) * 65536 / sum * useless;
    }
    return waste;
  }
  static int64_t WeightOfOne(const Key& key) {
    const int64_t whole = std::get<0>(key) / Amount::kUnit;
    return whole > 1 ? whole + 1 : 2;
  }
  static int64_t Weight(const Key& key, const Shape& shape) {
    return shape.typical_count * WeightOfOne(key);
  }
  int64_t Pressure(const SlowNode& node, const std::map<uint64_t, SlowNode>& nodes) const {
    std::map<std::string, int64_t> named;
    int64_t requested = 0;
    for (const auto& [key, shape] : shapes_) {
      const int64_t gpus = std::get<0>(key) / 100 * shape.typical_count;
      requested += gpus;
      if (!std::get<2>(key).empty()) named[std::get<2>(key)] += gpus;
    }
    int64_t pressure = 0;
    for (const auto& [kinds, gpus] : named) {
      int64_t all = 0;
      int64_t theirs = 0;
      for (const auto& [id, other] : nodes) {
        all += other.total[3];
        if (Accepts(kinds, other)) theirs += other.total[3];
      }
      if (theirs == 0 || !Accepts(kinds, node)) continue;
      pressure += gpus * 1000 / std::max<int64_t>(1, requested / 1000) * all / theirs / 1000;
    }
    return pressure;
  }

  std::map<Key, Shape> shapes_;
  int64_t counted_ = 0;
};

}  // namespace muster::sched
