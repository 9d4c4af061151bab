// The second version of the scheduler's rules, for scheduler_oracle_test.cc: brute force over plain
// vectors, nothing kept from event to event but what runs and what waits. It shares no code with
// the scheduler but its plain values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/oracle_packing.h"
#include "scheduler/scheduler.h"
#include "scheduler/test_support.h"

namespace muster::sched {

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
      if (!testing::SlowMatches(text, label == node.labels.end() ? nullptr : &label->second))
        return false;
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
        if (needs.gpus > 0 && needs.gpus < Amount::kUnit) left = node.devices[(*shares)[0].device];
        int64_t free = 0;
        const std::vector<int64_t> seen = node.Seen();
        for (const int64_t device : seen) free += device;
        const int64_t whole = std::count(seen.begin(), seen.end(), Amount::kUnit);
        std::vector<int64_t> parts = {free, whole, SlowCpuStep(node.cpus),
                                      SlowMemoryStep(node.memory)};
        int64_t first = needs.gpus == 0 && !node.devices.empty() ? 1 : 0;
        if (Spreads(r)) {
          for (int64_t& part : parts) part = -part;
          if (needs.gpus > 0)
            first = static_cast<int64_t>(node.devices.size()) * Amount::kUnit - free;
          // In use of the device that the share goes to.
          left = left > 0 ? Amount::kUnit - seen[(*node.Fit(needs, true))[0].device] : 0;
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

}  // namespace muster::sched
