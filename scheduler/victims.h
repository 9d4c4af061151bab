// Which running requests to end so that a waiting one can be placed: whole requests, with all their
// bundles, and never one more than is needed.
//
// The least damage wins: of one set against another, compared in order: the highest rank in it (for
// preemption: the highest priority), the number of leases, the time that they have run, their GPUs,
// CPUs and memory; then the earlier choice of the waiting request and the lower node id. For one
// bundle the best set is found on every node that has at most kExactMax eligible requests; on
// others, and for several bundles (placement groups among them), requests are added from the least
// damaging on until there is room, and given back from the most damaging on where there still is.
// Thread-safety: none. Changes nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"
#include "scheduler/group_placer.h"
#include "scheduler/node.h"
#include "scheduler/placer.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {

struct Damage {
  int64_t rank = INT64_MIN;  // Of nothing.
  int64_t leases = 0;
  absl::Duration run{};  // Summed over the leases.
  int64_t gpus = 0;
  int64_t cpus = 0;
  int64_t memory_bytes = 0;

  void Add(const Damage& more);
  friend bool operator<(const Damage& a, const Damage& b) {
    return std::tie(a.rank, a.leases, a.run, a.gpus, a.cpus, a.memory_bytes) <
           std::tie(b.rank, b.leases, b.run, b.gpus, b.cpus, b.memory_bytes);
  }
};
// What the end of all running bundles of the request would cost.
Damage DamageOf(const Request& request, int64_t rank, absl::Time now);

struct Taking {
  std::vector<Room> places{};       // By bundle: where it is to go.
  std::vector<Request*> victims{};  // In order of id.
  Damage damage{};
};

class VictimSearch {
 public:
  static constexpr size_t kExactMax = 10;

  struct Rules {
    // The rank of a running request; nullopt: it is not to be ended.
    std::function<std::optional<int64_t>(const Request&)> rank;
    // What a node has for the waiting request without new victims: what is free, and what is on its
    // way to it.
    std::function<Capacity(const Node&)> room;
    std::function<Request*(RequestId)> find;
    // For a class whose bundles have places relative to each other (SchedulingClass::shaped()):
    // whether there is room for them in what the view says, and where.
    std::function<bool(CapacityView, std::vector<Room>&)> layout{};
    absl::Time now{};
    bool longest_first = false;  // Who has run longest goes first, not last.
  };
  explicit VictimSearch(Rules rules) : rules_(std::move(rules)) {}

  // For a request of class `of` with its first `open` choices, among usable nodes of `nodes` (in
  // order of id). nullopt: ending every eligible request would not make room.
  std::optional<Taking> Find(const SchedulingClass& of, int open,
                             std::span<Node* const> nodes) const;

 private:
  struct Candidate {
    Request* request = nullptr;
    Damage damage{};
  };
  static bool LessDamaging(const Candidate& a, const Candidate& b);
  std::vector<Candidate> CandidatesOn(const Node& node) const;  // Least damaging first.
  static void GiveBack(const Bundle& bundle, Capacity& capacity);
  void GiveBack(const Request& request, const Node& node, Capacity& capacity) const;
  std::optional<std::vector<Candidate>> LeastOn(const Node& node, const Resources& needs,
                                                const std::vector<Candidate>& candidates) const;
  void Search(const Node& node, const Resources& needs, const std::vector<Candidate>& candidates,
              size_t next, const Capacity& capacity, const Damage& damage,
              std::vector<size_t>& chosen, std::optional<Damage>& least,
              std::vector<size_t>& best) const;
  std::optional<Taking> FindForOne(const SchedulingClass& of, int open,
                                   std::span<Node* const> nodes) const;
  std::optional<Taking> FindForGroup(const SchedulingClass& of, int open,
                                     std::span<Node* const> nodes) const;
  std::optional<Taking> FindForShaped(std::span<Node* const> nodes) const;
  static std::vector<Candidate> InOrder(const absl::btree_map<RequestId, Candidate>& known);
  // Leaves of `candidates`, in order of damage, those that are needed; `fits(taken, count, spared)`
  // is whether the first `count` of them without number `spared` are enough. False: all are not.
  template <typename Fits>
  static bool Reduce(std::vector<Candidate>& candidates, const Fits& fits);

  const Rules rules_;
};

}  // namespace muster::sched
