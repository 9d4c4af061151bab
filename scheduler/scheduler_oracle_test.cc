// The scheduler against a second version of its rules: brute force over plain vectors, nothing kept
// from event to event but what runs and what waits. Random events, and after each the same actions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"
#include "scheduler/test_support.h"

namespace muster::sched {
namespace {

using ::muster::testing::Chance;
using ::muster::testing::SlowMatches;

constexpr int64_t kUnit = Amount::kUnit;
constexpr int64_t kSomeMemory = int64_t{50} << 20;

// --- The second version ---

// How many steps of best fit an amount of CPUs is: a sixteenth each up to one CPU, then eight for
// each doubling.
int64_t SlowCpuStep(int64_t cpus) {
  int64_t step = 0;
  int64_t sixteenths = 0;
  while (true) {
    int64_t wide = 1;
    while (16 * wide <= sixteenths) wide *= 2;
    sixteenths += wide;
    if (cpus * 16 < sixteenths * kUnit) return step;
    ++step;
  }
}

// How many of 64 MiB, 128 MiB, ... an amount of memory reaches.
int64_t SlowMemoryStep(int64_t bytes) {
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
    node.devices.assign(static_cast<size_t>(total[3]), kUnit);
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
    if (needs.gpus < kUnit) {
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
      if (seen[d] == kUnit && static_cast<int64_t>(shares.size()) * kUnit < needs.gpus) {
        shares.push_back({d, kUnit});
      }
    }
    if (static_cast<int64_t>(shares.size()) * kUnit < needs.gpus) return std::nullopt;
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
    counted_ += spec.bundles;
    if (counted_ < next_) return;
    next_ = counted_ + std::max<int64_t>(1, counted_ / 8);
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

  static bool Accepts(const std::string& kinds, const SlowNode& node) {
    const auto kind = node.labels.find(kKindLabel);
    return kinds.empty() || SlowMatches(kinds, kind == node.labels.end() ? nullptr : &kind->second);
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
        if (!room || device < std::min(gpus, kUnit)) useless += device;
      }
      waste += Weight(key, shape) * 65536 / sum * useless;
    }
    return waste;
  }
  static int64_t Weight(const Key& key, const Shape& shape) {
    const int64_t whole = std::get<0>(key) / kUnit;
    return shape.typical_count * (whole > 1 ? whole + 1 : 2);
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
  int64_t next_ = 1;
};

class Oracle {
 public:
  Oracle(absl::Time grace_end, absl::Duration avoid_for, PlacementPolicy placement)
      : grace_end_(grace_end), avoid_for_(avoid_for), placement_(placement) {}

  std::vector<Action> Step(const Event& event,
                           const std::vector<std::map<std::string, std::string>>& texts) {
    actions_.clear();
    now_ = event.at;
    Settle();
    std::visit([&](const auto& what) { On(what, texts); }, event.what);
    Settle();
    SayEmpty();
    RevokeDue();
    return actions_;
  }

  absl::Time NextDue() const {
    absl::Time due = absl::InfiniteFuture();
    bool waits = false;
    std::set<std::string> classes;
    for (const SlowRequest& r : requests_) {
      for (const SlowRequest::Lease& lease : r.leases) {
        if (lease.running && lease.told && !lease.revoked) {
          due = std::min(due, *lease.told->deadline);
        }
      }
      if (!r.leases.empty()) continue;
      waits = true;
      // Only the oldest of a class is looked at.
      if (classes.insert(r.spec.name).second && HasAvoided(r) && r.since + avoid_for_ > now_) {
        due = std::min(due, r.since + avoid_for_);
      }
      if (r.opened.size() < r.spec.choices.size()) {
        due = std::min(due, r.opened.back() + r.spec.choices[r.opened.size()].after);
      }
    }
    return waits && now_ < grace_end_ ? std::min(due, grace_end_) : due;
  }

  const std::vector<SlowRequest>& requests() const { return requests_; }
  const std::map<uint64_t, SlowNode>& nodes() const { return nodes_; }

 private:
  using Texts = std::vector<std::map<std::string, std::string>>;

  void On(const NodeJoined& e, const Texts&) {
    if (nodes_.count(e.node.value) > 0) return;
    SlowNode node{.id = e.node.value, .name = e.name};
    node.labels = {e.labels.begin(), e.labels.end()};
    const auto license = e.total.custom.find("license");
    node.total = {e.total.cpus, e.total.memory_bytes,
                  license == e.total.custom.end() ? 0 : license->second, e.total.gpu_devices};
    nodes_[node.id] = node.Emptied();
  }
  void On(const NodeChanged& e, const Texts&) {
    if (nodes_.count(e.node.value) == 0) return;
    nodes_[e.node.value].labels = {e.labels.begin(), e.labels.end()};
  }
  void On(const NodeReachable& e, const Texts&) {
    if (nodes_.count(e.node.value) > 0) nodes_[e.node.value].usable_link = e.reachable;
  }
  void On(const NodeDraining& e, const Texts&) {
    if (nodes_.count(e.node.value) == 0) return;
    SlowNode& node = nodes_[e.node.value];
    if (!node.draining && !e.draining) return;
    node.draining = e.draining;
    node.drain_by = e.draining ? e.deadline : std::nullopt;
    if (!e.draining) node.said_empty = false;
    Tell(node);
  }
  void On(const DeviceHealth& e, const Texts&) {
    if (nodes_.count(e.node.value) == 0) return;
    SlowNode& node = nodes_[e.node.value];
    if (e.device < 0 || e.device >= static_cast<int>(node.devices.size())) return;
    if (e.healthy) {
      node.out.erase(e.device);
    } else {
      node.out.emplace(e.device, now_ + SchedulerConfig().quarantine_grace);
    }
    Tell(node);
  }

  // --- Who must leave, found anew from the nodes each time ---
  static std::optional<Notice> Wanted(const SlowNode& node, const SlowRequest::Lease& lease) {
    std::optional<Notice> notice;
    if (node.draining && node.drain_by) {
      notice = Notice{.reason = LeavingReason::kDraining,
                      .deadline = node.drain_by,
                      .why = absl::StrCat("node ", node.name, " is draining")};
    }
    for (const auto& [device, leave_by] : node.out) {
      for (const GpuShare share : lease.placement.devices) {
        if (share.device != device || (notice && *notice->deadline <= leave_by)) continue;
        notice = Notice{
            .reason = LeavingReason::kUnhealthy,
            .deadline = leave_by,
            .why = absl::StrCat("GPU ", device, " of node ", node.name, " is in quarantine")};
      }
    }
    return notice;
  }
  std::map<std::pair<uint64_t, int>, SlowRequest::Lease*> LeasesIn(const SlowNode* node) {
    std::map<std::pair<uint64_t, int>, SlowRequest::Lease*> leases;
    for (SlowRequest& r : requests_) {
      for (size_t b = 0; b < r.leases.size(); ++b) {
        const bool there = node == nullptr || r.leases[b].placement.node.value == node->id;
        if (r.leases[b].running && there) leases[{r.id, static_cast<int>(b)}] = &r.leases[b];
      }
    }
    return leases;
  }
  void Tell(const SlowNode& node) {
    for (const auto& [key, lease] : LeasesIn(&node)) {
      std::optional<Notice> notice = Wanted(node, *lease);
      if (lease->revoked || (!notice && !lease->told)) continue;
      if (!notice) {
        lease->told.reset();
        actions_.push_back(NoticeWithdrawn{.request = {key.first}, .bundle = key.second});
        continue;
      }
      notice->request = {key.first};
      notice->bundle = key.second;
      const bool same = lease->told && lease->told->deadline == notice->deadline &&
                        lease->told->reason == notice->reason;
      if (same) continue;
      lease->told = notice;
      actions_.push_back(*notice);
    }
  }
  void SayEmpty() {
    for (auto& [id, node] : nodes_) {
      if (!node.draining || node.said_empty || !LeasesIn(&node).empty()) continue;
      node.said_empty = true;
      actions_.push_back(NodeEmpty{.node = {id}});
    }
  }
  void RevokeDue() {
    std::map<std::tuple<absl::Time, uint64_t, int>, SlowRequest::Lease*> due;
    for (const auto& [key, lease] : LeasesIn(nullptr)) {
      if (!lease->told || lease->revoked || *lease->told->deadline > now_) continue;
      due[{*lease->told->deadline, key.first, key.second}] = lease;
    }
    for (const auto& [key, lease] : due) {
      lease->revoked = true;
      actions_.push_back(Revoke{.request = lease->told->request,
                                .bundle = lease->told->bundle,
                                .reason = lease->told->reason,
                                .why = lease->told->why});
    }
  }
  void On(const NodeLost& e, const Texts&) {
    if (nodes_.count(e.node.value) == 0) return;
    std::map<std::pair<uint64_t, int>, bool> lost;
    for (SlowRequest& r : requests_) {
      for (size_t b = 0; b < r.leases.size(); ++b) {
        if (!r.leases[b].running || r.leases[b].placement.node != e.node) continue;
        r.leases[b].running = false;
        lost[{r.id, static_cast<int>(b)}] = true;
      }
    }
    for (const auto& [lease, unused] : lost) {
      actions_.push_back(
          LeaseLost{.request = {lease.first}, .bundle = lease.second, .node = e.node});
    }
    nodes_.erase(e.node.value);
    DropEnded();
  }
  void On(const Requested& e, const Texts& texts) {
    for (const SlowRequest& r : requests_) {
      if (r.id != e.request.value) continue;
      const bool all = std::all_of(r.leases.begin(), r.leases.end(),
                                   [](const SlowRequest::Lease& l) { return l.running; });
      if (!r.leases.empty() && all) SayGrant(r);
      return;
    }
    packing_.Count(*e.spec, texts[0]);
    requests_.push_back(
        {.id = e.request.value, .spec = *e.spec, .texts = texts, .opened = {now_}, .since = now_});
  }
  void On(const RequestCancelled& e, const Texts&) {
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i].id != e.request.value) continue;
      for (SlowRequest::Lease& lease : requests_[i].leases) End(lease);
      requests_.erase(requests_.begin() + static_cast<int64_t>(i));
      return;
    }
  }
  void On(const LeaseFinished& e, const Texts&) {
    if (SlowRequest::Lease* lease = Find(e.request.value, e.bundle)) End(*lease);
    DropEnded();
  }
  void On(const LeaseBlocked& e, const Texts&) {
    SlowRequest::Lease* lease = Find(e.request.value, e.bundle);
    if (lease == nullptr || lease->blocked == e.blocked) return;
    lease->blocked = e.blocked;
    SlowNode& node = nodes_.at(lease->placement.node.value);
    node.cpus += (e.blocked ? 1 : -1) * lease->placement.resources.cpus;
  }
  void On(const TenantSet&, const Texts&) {}
  void On(const QuotaSet&, const Texts&) {}
  void On(const QuotaRemoved&, const Texts&) {}
  void On(const Tick&, const Texts&) {}

  SlowRequest::Lease* Find(uint64_t id, int bundle) {
    for (SlowRequest& r : requests_) {
      if (r.id != id || bundle >= static_cast<int>(r.leases.size())) continue;
      return r.leases[bundle].running ? &r.leases[bundle] : nullptr;
    }
    return nullptr;
  }
  void End(SlowRequest::Lease& lease) {
    if (!lease.running) return;
    nodes_.at(lease.placement.node.value)
        .Add(lease.placement.resources, lease.placement.devices, +1, !lease.blocked);
    lease.running = false;
  }
  void DropEnded() {
    requests_.erase(std::remove_if(requests_.begin(), requests_.end(),
                                   [](const SlowRequest& r) {
                                     return !r.leases.empty() &&
                                            std::none_of(r.leases.begin(), r.leases.end(),
                                                         [](const auto& l) { return l.running; });
                                   }),
                    requests_.end());
  }

  static bool Matches(const SlowRequest& r, size_t choice, const SlowNode& node) {
    for (const auto& [key, text] : r.texts[choice]) {
      const auto label = node.labels.find(key);
      if (!SlowMatches(text, label == node.labels.end() ? nullptr : &label->second)) return false;
    }
    return true;
  }

  PlacementPolicy PolicyOf(const SlowRequest& r) const {
    return r.spec.placement.value_or(placement_);
  }
  bool Spreads(const SlowRequest& r) const { return PolicyOf(r) == PlacementPolicy::kSpread; }

  static bool HasAvoided(const SlowRequest& r) {
    return !r.spec.avoid.empty() && !r.spec.affinity.hard();
  }
  static bool IsWanted(const SlowRequest& r, const SlowNode& node) {
    return node.name == r.spec.affinity.node;
  }
  // What it avoids is out of question: others could hold it, and it has not waited long enough.
  bool Avoids(const SlowRequest& r) const {
    if (!HasAvoided(r) || r.since + avoid_for_ <= now_) return false;
    size_t held = 0;
    for (const auto& [id, node] : nodes_) {
      const auto& avoid = r.spec.avoid;
      if (std::find(avoid.begin(), avoid.end(), node.name) != avoid.end()) continue;
      held +=
          BestFill(r, r.opened.size(), node.Emptied(), static_cast<size_t>(r.spec.bundles)).size();
    }
    return held >= static_cast<size_t>(r.spec.bundles);
  }

  // One bundle on `nodes`: the one it wants, then any.
  std::optional<Placement> PlaceOne(const SlowRequest& r,
                                    std::map<uint64_t, SlowNode>& nodes) const {
    if (r.spec.affinity.node.empty()) return PlaceOne(r, nodes, false);
    const auto there = PlaceOne(r, nodes, true);
    return there || !r.spec.affinity.soft ? there : PlaceOne(r, nodes, false);
  }
  std::optional<Placement> PlaceOne(const SlowRequest& r, std::map<uint64_t, SlowNode>& nodes,
                                    bool wanted) const {
    for (size_t c = 0; c < r.opened.size(); ++c) {
      const Resources& needs = r.spec.choices[c].resources;
      std::optional<std::pair<std::vector<int64_t>, uint64_t>> best;
      for (const auto& [id, node] : nodes) {
        if (!node.usable_link || node.draining || node.hidden || !Matches(r, c, node)) continue;
        if (wanted && !IsWanted(r, node)) continue;
        const auto shares = node.Fit(needs);
        if (!shares) continue;
        int64_t left = 0;
        if (needs.gpus > 0 && needs.gpus < kUnit) left = node.devices[(*shares)[0].device];
        int64_t free = 0;
        const std::vector<int64_t> seen = node.Seen();
        for (const int64_t device : seen) free += device;
        const int64_t whole = std::count(seen.begin(), seen.end(), kUnit);
        std::vector<int64_t> parts = {free, whole, SlowCpuStep(node.cpus),
                                      SlowMemoryStep(node.memory)};
        int64_t first = needs.gpus == 0 && !node.devices.empty() ? 1 : 0;
        if (Spreads(r)) {
          for (int64_t& part : parts) part = -part;
          if (needs.gpus > 0) first = static_cast<int64_t>(node.devices.size()) * kUnit - free;
          // In use of the device that the share goes to.
          left = left > 0 ? kUnit - seen[(*node.Fit(needs, true))[0].device] : 0;
        } else if (PolicyOf(r) == PlacementPolicy::kPack && needs.gpus > 0) {
          first = packing_.Cost(needs, node, nodes);
        }
        parts.insert(parts.begin(), {first, left});
        const auto score = std::pair(std::move(parts), id);
        if (!best || score < *best) best = score;
      }
      if (!best) continue;
      SlowNode& node = nodes.at(best->second);
      Placement placement{.node = {node.id}, .choice = static_cast<int>(c), .resources = needs};
      placement.devices = *node.Fit(needs, Spreads(r));
      node.Add(needs, placement.devices, -1, true);
      return placement;
    }
    return std::nullopt;
  }

  // Fills one node with choices start, start + 1, ...; one bundle after another.
  std::vector<Placement> Fill(const SlowRequest& r, size_t open, size_t start, SlowNode node,
                              size_t limit) const {
    std::vector<Placement> placed;
    for (size_t c = start; c < open; ++c) {
      if (!Matches(r, c, node)) continue;
      const Resources& needs = r.spec.choices[c].resources;
      while (placed.size() < limit) {
        const auto shares = node.Fit(needs);  // Dense, whatever the policy.
        if (!shares) break;
        node.Add(needs, *shares, -1, true);
        placed.push_back({.node = {node.id},
                          .choice = static_cast<int>(c),
                          .resources = needs,
                          .devices = *shares});
      }
    }
    return placed;
  }
  std::vector<Placement> BestFill(const SlowRequest& r, size_t open, const SlowNode& node,
                                  size_t limit) const {
    std::vector<Placement> best;
    if (r.spec.affinity.hard() && !IsWanted(r, node)) return best;
    for (size_t start = 0; start < open; ++start) {
      std::vector<Placement> placed = Fill(r, open, start, node, limit);
      if (placed.size() > best.size()) best = std::move(placed);
    }
    return best;
  }

  bool Place(SlowRequest& r) {
    if (HasAvoided(r)) {
      for (auto& [id, node] : nodes_) {
        node.hidden =
            std::find(r.spec.avoid.begin(), r.spec.avoid.end(), node.name) != r.spec.avoid.end();
      }
      const bool placed = PlaceVisible(r);
      for (auto& [id, node] : nodes_) node.hidden = false;
      if (placed || Avoids(r)) return placed;
    }
    return PlaceVisible(r);
  }
  bool PlaceVisible(SlowRequest& r) {
    const size_t bundles = static_cast<size_t>(r.spec.bundles);
    std::map<uint64_t, SlowNode> tried = nodes_;
    std::vector<Placement> placed;
    while (placed.size() < bundles) {
      std::optional<Placement> one = PlaceOne(r, tried);
      if (!one) break;
      placed.push_back(*std::move(one));
    }
    if (placed.size() < bundles) {
      tried = nodes_;
      placed.clear();
      std::vector<SlowNode*> order;
      for (auto& [id, node] : tried) order.push_back(&node);
      std::stable_sort(order.begin(), order.end(), [&](const SlowNode* a, const SlowNode* b) {
        return IsWanted(r, *a) && !IsWanted(r, *b);
      });
      for (SlowNode* each : order) {
        SlowNode& node = *each;
        if (!node.usable_link || node.draining || node.hidden) continue;
        for (Placement& one : BestFill(r, r.opened.size(), node, bundles - placed.size())) {
          node.Add(one.resources, one.devices, -1, true);
          placed.push_back(std::move(one));
        }
      }
    }
    if (placed.size() < bundles) return false;
    // Ranks follow the nodes: nothing here has labels of the hierarchy.
    std::stable_sort(placed.begin(), placed.end(),
                     [](const Placement& a, const Placement& b) { return a.node < b.node; });
    nodes_ = std::move(tried);
    for (Placement& one : placed) {
      r.leases.push_back({.running = true, .placement = std::move(one)});
    }
    SayGrant(r);
    return true;
  }

  void SayGrant(const SlowRequest& r) {
    Grant grant{.request = {r.id}};
    for (const SlowRequest::Lease& lease : r.leases) grant.placements.push_back(lease.placement);
    actions_.push_back(std::move(grant));
  }

  bool Feasible(const SlowRequest& r, size_t open) const {
    size_t held = 0;
    for (const auto& [id, node] : nodes_) {
      held += BestFill(r, open, node.Emptied(), static_cast<size_t>(r.spec.bundles)).size();
    }
    return held >= static_cast<size_t>(r.spec.bundles);
  }

  bool OpenByFindings(SlowRequest& r) {
    const size_t open = r.opened.size();
    if (!r.leases.empty() || open == r.spec.choices.size()) return false;
    const uint8_t allowed = r.spec.choices[open].advance_on;
    const bool set_feasible = Feasible(r, open);
    for (size_t c = 0; c < open; ++c) {
      bool possible = false;
      for (const auto& [id, node] : nodes_) {
        if (r.spec.affinity.hard() && !IsWanted(r, node)) continue;
        possible = possible || (Matches(r, c, node) &&
                                node.Emptied().Fit(r.spec.choices[c].resources).has_value());
      }
      const bool infeasible = !possible || !set_feasible;
      if (infeasible && now_ < grace_end_) return false;
      const Finding finding = infeasible ? Finding::kInfeasible : Finding::kBusy;
      if ((allowed & static_cast<uint8_t>(finding)) == 0) return false;
    }
    r.opened.push_back(now_);
    return true;
  }

  void OpenByTime() {
    for (SlowRequest& r : requests_) {
      while (r.leases.empty() && r.opened.size() < r.spec.choices.size()) {
        const absl::Time due = r.opened.back() + r.spec.choices[r.opened.size()].after;
        if (due > now_) break;
        r.opened.push_back(due);
      }
    }
  }

  void Settle() {
    bool again = true;
    while (again) {
      OpenByTime();
      std::vector<SlowRequest*> order;
      for (SlowRequest& r : requests_) {
        if (r.leases.empty()) order.push_back(&r);
      }
      std::stable_sort(order.begin(), order.end(), [](const SlowRequest* a, const SlowRequest* b) {
        return a->spec.priority > b->spec.priority;
      });
      for (SlowRequest* r : order) Place(*r);
      again = false;
      for (SlowRequest& r : requests_) again = OpenByFindings(r) || again;
    }
    if (now_ < grace_end_) return;
    for (size_t i = 0; i < requests_.size();) {
      SlowRequest& r = requests_[i];
      if (!r.leases.empty() || Feasible(r, r.spec.choices.size())) {
        r.said = false;
      } else if (!r.said) {
        r.said = true;
        actions_.push_back(Infeasible{.request = {r.id}, .failed = r.spec.fail_if_infeasible});
        if (r.spec.fail_if_infeasible) {
          requests_.erase(requests_.begin() + static_cast<int64_t>(i));
          continue;
        }
      }
      ++i;
    }
  }

  const absl::Time grace_end_;
  const absl::Duration avoid_for_;
  const PlacementPolicy placement_;
  SlowPacking packing_;
  absl::Time now_ = absl::InfinitePast();
  std::map<uint64_t, SlowNode> nodes_;
  std::vector<SlowRequest> requests_;  // In order of arrival.
  std::vector<Action> actions_;
};

// --- Random events ---

using Texts = std::vector<std::map<std::string, std::string>>;
struct Spec {
  RequestSpec spec{};
  Texts texts{};
};

class World {
 public:
  explicit World(uint64_t seed) : chance_(seed) {
    avoids_ = chance_.OneIn(3);
    const int specs = 1 + chance_.Below(10);
    for (int i = 0; i < specs; ++i) specs_.push_back(RandomSpec());
    gpu_nodes_ = !chance_.OneIn(4);
    loses_nodes_ = !chance_.OneIn(3);
    quarantines_ = chance_.OneIn(2);
  }

  Chance& chance() { return chance_; }

  PlacementPolicy RandomPolicy() {
    return chance_.Of<PlacementPolicy>(
        {PlacementPolicy::kPack, PlacementPolicy::kBestFit, PlacementPolicy::kSpread});
  }

  Labels RandomLabels() {
    Labels labels;
    for (const char* key : {"zone", kKindLabel}) {
      if (!chance_.OneIn(4)) labels.emplace(key, chance_.Of<std::string>({"a", "b", "c"}));
    }
    if (chance_.OneIn(2)) labels.emplace("n", std::to_string(chance_.Below(5)));
    return labels;
  }

  std::pair<Event, Texts> Next(const Oracle& oracle, absl::Time now) {
    Event event;
    Texts texts;
    const uint64_t request = 1 + chance_.Next() % next_request_;
    const uint64_t node = 1 + chance_.Next() % next_node_;
    constexpr size_t kNodesMax = 6;  // The slow version is slow.
    constexpr size_t kRequestsMax = 16;
    if (oracle.nodes().size() > kNodesMax) {
      event.what = NodeLost{.node = {oracle.nodes().begin()->first}};
      return {event, texts};
    }
    if (oracle.requests().size() > kRequestsMax) {
      event.what = RequestCancelled{.request = {oracle.requests()[chance_.Below(4)].id}};
      return {event, texts};
    }
    switch (chance_.Below(16)) {
      case 0:
      case 1:
        event.what = RandomJoin();
        break;
      case 2:
        event.what = NodeChanged{.node = {node}, .labels = RandomLabels()};
        break;
      case 3:
        event.what = NodeReachable{.node = {node}, .reachable = !chance_.OneIn(3)};
        break;
      case 4:
        if (loses_nodes_ && chance_.OneIn(3)) {
          NodeDraining drain{.node = {node}, .draining = !chance_.OneIn(3)};
          if (drain.draining && chance_.OneIn(2)) {
            drain.deadline = now + absl::Seconds(chance_.Below(30));
          }
          event.what = drain;
        } else if (quarantines_ && chance_.OneIn(2)) {
          event.what = DeviceHealth{.node = {node},
                                    .device = chance_.Below(4) - (chance_.OneIn(20) ? 1 : 0),
                                    .healthy = chance_.OneIn(3)};
        } else if (loses_nodes_ && chance_.OneIn(2)) {
          event.what = NodeLost{.node = {node}};
        } else {
          event.what = Tick{};
        }
        break;
      case 5:
      case 6:
      case 7:
      case 8:
      case 9: {
        const Spec& spec = chance_.Of(specs_);
        const bool repeat = chance_.OneIn(20);
        event.what = Requested{.request = {repeat ? request : next_request_++}, .spec = spec.spec};
        texts = spec.texts;
        break;
      }
      case 10:
        event.what = RequestCancelled{.request = {request}};
        break;
      case 11:
        event.what = LeaseBlocked{.request = RunningOr(oracle, request),
                                  .bundle = chance_.Below(3),
                                  .blocked = chance_.OneIn(2)};
        break;
      case 12:
      case 13:
      case 14:
        event.what =
            LeaseFinished{.request = RunningOr(oracle, request), .bundle = chance_.Below(3)};
        break;
      default:
        event.what = Tick{};
        break;
    }
    return {event, texts};
  }

 private:
  RequestId RunningOr(const Oracle& oracle, uint64_t otherwise) {
    std::vector<uint64_t> running;
    for (const SlowRequest& r : oracle.requests()) {
      if (!r.leases.empty()) running.push_back(r.id);
    }
    return {running.empty() ? otherwise : chance_.Of(running)};
  }

  NodeJoined RandomJoin() {
    NodeJoined join{.node = {chance_.OneIn(10) ? 1 + chance_.Next() % next_node_ : next_node_++}};
    join.name = absl::StrCat("n", join.node.value);
    join.labels = RandomLabels();
    join.total.cpus = kUnit * chance_.Below(5);
    join.total.gpu_devices = gpu_nodes_ ? chance_.Below(4) : 0;
    join.total.memory_bytes = kSomeMemory * chance_.Below(4);
    if (chance_.OneIn(3)) join.total.custom["license"] = kUnit;
    return join;
  }

  Resources RandomResources() {
    Resources r;
    r.cpus = chance_.Of<int64_t>({0, kUnit / 2, kUnit, kUnit, 2 * kUnit});
    r.gpus = chance_.Of<int64_t>({0, 0, kUnit / 4, kUnit / 2, 7000, kUnit, 2 * kUnit});
    r.memory_bytes = chance_.OneIn(3) ? kSomeMemory * chance_.Below(3) : 0;
    if (chance_.OneIn(6)) r.custom["license"] = kUnit / 2;
    return r;
  }

  Spec RandomSpec() {
    Spec made;
    const int choices = 1 + chance_.Below(4);
    Resources primary = RandomResources();
    for (int i = 0; i < choices; ++i) {
      Choice choice;
      std::map<std::string, std::string> text;
      for (const char* key : {"zone", kKindLabel}) {
        if (chance_.OneIn(2)) {
          text[key] = chance_.Of<std::string>(
              {"a", "b", "!a", "in(a,b)", "!in(b,c)", "exists()", "!exists()", "in(a,b),!b"});
        }
      }
      if (chance_.OneIn(6)) text["n"] = chance_.Of<std::string>({"gt(1)", "lt(3)", "gt(0),lt(4)"});
      choice.selector = *LabelSelector::Parse(text);
      choice.resources = chance_.OneIn(3) ? RandomResources() : primary;
      if (i > 0)
        choice.after = chance_.Of<absl::Duration>({absl::ZeroDuration(), absl::ZeroDuration(),
                                                   absl::Seconds(5), absl::Seconds(20),
                                                   absl::InfiniteDuration()});
      if (i > 0) choice.advance_on = chance_.Of<uint8_t>({7, 7, 15, 8, 1, 0});
      made.spec.choices.push_back(std::move(choice));
      made.texts.push_back(std::move(text));
    }
    made.spec.bundles = chance_.OneIn(3) ? 1 + chance_.Below(4) : 1;
    made.spec.priority = chance_.OneIn(4) ? chance_.Below(3) - 1 : 0;
    made.spec.fail_if_infeasible = chance_.OneIn(5);
    if (chance_.OneIn(3)) made.spec.placement = RandomPolicy();
    if (chance_.OneIn(4)) {
      made.spec.affinity = {.node = absl::StrCat("n", 1 + chance_.Below(5)),
                            .soft = chance_.OneIn(2)};
    }
    for (int n = 1; n < 6 && avoids_; ++n) {
      if (chance_.OneIn(4)) made.spec.avoid.push_back(absl::StrCat("n", n));
    }
    made.spec.name = std::to_string(specs_.size());
    return made;
  }

  Chance chance_;
  std::vector<Spec> specs_;
  bool gpu_nodes_ = true;
  bool loses_nodes_ = true;
  bool avoids_ = false;
  bool quarantines_ = false;
  uint64_t next_request_ = 1;
  uint64_t next_node_ = 1;
};

// Which requests are infeasible is compared, not the words nor the order in which classes are told.
std::vector<std::string> Comparable(const std::vector<Action>& actions) {
  std::vector<std::string> lines;
  std::vector<std::string> infeasible;
  for (const Action& action : actions) {
    if (const auto* said = std::get_if<Infeasible>(&action)) {
      infeasible.push_back(
          absl::StrCat("infeasible ", said->request.value, said->failed ? " failed" : ""));
    } else {
      lines.push_back(ToString(action));
    }
  }
  std::sort(infeasible.begin(), infeasible.end());
  lines.insert(lines.end(), infeasible.begin(), infeasible.end());
  return lines;
}

// What is said about waiting requests and nodes agrees with what there is.
void CheckReports(const Scheduler& scheduler, const Oracle& oracle, absl::Time now) {
  size_t waiting = 0;
  for (const SlowRequest& r : oracle.requests()) {
    const std::optional<Explanation> explanation = scheduler.Explain({r.id}, now);
    ASSERT_TRUE(explanation.has_value());
    ASSERT_EQ(explanation->granted, !r.leases.empty());
    ASSERT_FALSE(ToText(*explanation, "Score", now).empty());
    if (explanation->granted) continue;
    ++waiting;
    ASSERT_EQ(explanation->choices.size(), r.spec.choices.size());
    for (size_t c = 0; c < r.spec.choices.size(); ++c) {
      ASSERT_EQ(explanation->choices[c].state == ChoiceState::kOpen, c < r.opened.size());
      ASSERT_FALSE(explanation->choices[c].why.empty());
    }
  }
  size_t listed = 0;
  for (const WaitingClass& row : scheduler.Waiting(now)) listed += row.requests.size();
  ASSERT_EQ(listed, waiting);
  ASSERT_EQ(scheduler.HasWaiting(), waiting > 0);
  size_t there = 0;
  for (const NodeView& view : scheduler.Nodes()) {
    if (view.state == NodeState::kLost) continue;
    ++there;
    ASSERT_EQ(view.used.cpus, view.total.cpus - oracle.nodes().at(view.node.value).cpus);
  }
  ASSERT_EQ(there, oracle.nodes().size());
}

constexpr int kCasesPerSeed = 150;  // An event each, and all that follows from it.

void CompareWithTheSlowVersion(uint64_t seed) {
  World world(seed);
  const bool grace = world.chance().OneIn(3);
  const absl::Time start = absl::UnixEpoch();
  SchedulerConfig config{.start = start,
                         .infeasible_grace = grace ? absl::Seconds(15) : absl::ZeroDuration()};
  config.idle_classes_kept = world.chance().Below(4);
  config.overtaken_max = 0;  // Reservations have tests of their own.
  config.reservation_after = absl::InfiniteDuration();
  config.avoid_for = absl::Seconds(world.chance().Below(3) * 7);
  config.placement = world.RandomPolicy();
  Scheduler scheduler(config);
  auto twin = std::make_unique<Scheduler>(config);
  Oracle oracle(start + config.infeasible_grace, config.avoid_for, config.placement);
  absl::Time now = start;
  std::string history;
  for (int step = 0; step < kCasesPerSeed; ++step) {
    auto [event, texts] = world.Next(oracle, now);
    if (world.chance().OneIn(3)) now += absl::Seconds(world.chance().Below(8));
    // Mostly the shell ticks in time; sometimes it is late.
    if (!world.chance().OneIn(4) && scheduler.NextTick() < now) {
      now = std::max(scheduler.NextTick(), start);
      event.what = Tick{};
    }
    event.at = now;
    absl::StrAppend(&history, step, " ", absl::FormatDuration(now - start), " ", ToString(event),
                    "\n");
    std::vector<Action> actions;
    scheduler.Step(event, actions);
    std::vector<Action> again;
    twin->Step(event, again);
    const std::vector<std::string> expected = Comparable(oracle.Step(event, texts));
    ASSERT_EQ(Comparable(actions), expected) << history;
    ASSERT_EQ(actions.size(), again.size());
    for (size_t i = 0; i < actions.size(); ++i) ASSERT_EQ(ToString(actions[i]), ToString(again[i]));
    ASSERT_EQ(scheduler.NextTick(), oracle.NextDue()) << history;
    scheduler.CheckInvariants();
    CheckReports(scheduler, oracle, now);
    if (world.chance().OneIn(10)) {  // The twin goes on from a snapshot.
      std::vector<Action> loading;
      absl::StatusOr<std::unique_ptr<Scheduler>> loaded =
          Scheduler::Load(twin->TakeSnapshot(), loading);
      ASSERT_TRUE(loaded.ok()) << loaded.status() << "\n" << history;
      ASSERT_TRUE(loading.empty()) << ToString(loading[0]) << "\n" << history;
      twin = *std::move(loaded);
      twin->CheckInvariants();
    }
  }
}

class SchedulerOracleTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(SchedulerOracleTest, DecidesAsTheSlowVersionDoes) { CompareWithTheSlowVersion(GetParam()); }

// MUSTER_ORACLE_CASES=100000 compares so many; CI has the seeds below.
TEST(SchedulerOracleAtLength, DecidesAsTheSlowVersionDoes) {
  const char* const wanted = std::getenv("MUSTER_ORACLE_CASES");
  if (wanted == nullptr) GTEST_SKIP() << "MUSTER_ORACLE_CASES says how many; none were asked for";
  const uint64_t cases = std::strtoull(wanted, nullptr, 10);
  ASSERT_GT(cases, 0) << wanted;
  for (uint64_t seed = 1000; (seed - 1000) * kCasesPerSeed < cases; ++seed) {
    SCOPED_TRACE(seed);
    CompareWithTheSlowVersion(seed);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulerOracleTest, ::testing::Range<uint64_t>(1, 61));

}  // namespace
}  // namespace muster::sched
