// Which node with room a bundle gets under the policies pack and spread; see placement_policy.h.
//
// Pack compares, least first: the cost; then as best fit does (what stays free of the device that
// a share goes to, and FreeKey); the node's id. The cost of taking `needs` from a node is
//   kCostUnit * (100 - score) + kScarcity * pressure, where
//   score     100 / (1 + e^(more / kSlope)), cut to a whole number; `more` is by how many GPUs the
//             node's waste (TypicalShapes::Waste) grows: so 50 where nothing is spoiled
//   pressure  of the node's kind, in 1/1000: what is requested by those who name kinds of GPU, in
//             parts of all requested GPUs, over the part of the cluster's GPUs that they may use;
//             summed over what this kind is named in. 1 is a kind that is named as often as its
//             share of the GPUs says
// Nodes differ by their state only: kind, devices, what is free of them, of the CPUs in steps
// (FreeKey::CpuStep) and of the memory in steps of a quarter of the power of two below. Scores are
// reckoned for states, with the least amounts that the step stands for, and known until the typical
// shapes change, which is seldom.
//
// Spread compares, least first: whether GPUs are there although none are needed; GPUs in use; what
// is in use of the device that a share goes to; then the most free (FreeKey), and the node's id.
//
// Cost of a search: for the best few states the blocks that state and selector have in common. All
// who need as much of a kind share one list of its states in order of rank, kept up with each state
// that is new and made again when it is asked for a second time since the typical shapes changed:
// the first search looks at all states of its kinds that may have room. Pressure is the same for
// all states of a kind, so a search walks the lists of the accepted kinds side by side, each with
// its kind's pressure; who is asked for a second time before anything has changed has them merged.
// A change of what is free: a look-up, at the end of the step.
//
// Thread-safety: none; searches file what has changed.
// Source: score as in Weng et al., "Beware of Fragmentation" (USENIX ATC'23), with another slope.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "scheduler/demand.h"
#include "scheduler/free_key.h"
#include "scheduler/node_rows.h"
#include "scheduler/placement_policy.h"
#include "scheduler/resources.h"
#include "scheduler/risen_rows.h"
#include "scheduler/row_set.h"

namespace muster::sched {

struct Node;
struct SchedulingClass;

// What a policy compares, least first; nodes with equal ranks by their ids.
struct PlacementRank {
  int64_t first = 0;   // Pack: the cost. Spread: GPUs in use, and one more bit; best fit: 0.
  int64_t second = 0;  // What stays free of the device, or is in use of it.
  uint64_t third = 0;  // By FreeKey.

  friend bool operator==(const PlacementRank& a, const PlacementRank& b) {
    return std::tie(a.first, a.second, a.third) == std::tie(b.first, b.second, b.third);
  }
  friend bool operator<(const PlacementRank& a, const PlacementRank& b) {
    return std::tie(a.first, a.second, a.third) < std::tie(b.first, b.second, b.third);
  }
};

struct PackKind;

// What nodes have in common that are equal to both policies.
struct PackState {
  PackKind* kind = nullptr;
  FreeKey key{};
  int devices = 0;
  int64_t memory_bytes = 0;                 // The least that its step stands for.
  absl::InlinedVector<uint16_t, 8> left{};  // Of each device in use in part, least first.
  friend bool operator==(const PackState& a, const PackState& b) {
    return a.kind == b.kind && a.key == b.key && a.devices == b.devices &&
           a.memory_bytes == b.memory_bytes && a.left == b.left;
  }
  template <typename H>
  friend H AbslHashValue(H h, const PackState& s) {
    return H::combine(std::move(h), s.kind, s.key.bits(), s.devices, s.memory_bytes, s.left);
  }
};

struct PackBucket {
  RowSet rows{};  // Empty for a while after the last has gone: it may come back soon.
  PackState state{};
  int64_t waste = 0;
  uint64_t waste_version = 0;  // Of the typical shapes, when it was summed up.
  // The last scores: number of the needs, and version and score.
  struct Known {
    uint32_t needs = 0;
    uint32_t version = 0;
    int score = 0;
  };
  static constexpr size_t kKnown = 32;
  std::array<Known, kKnown> known{};
};

// The states of one kind that may hold what is needed, best first.
struct PackList {
  struct Ranked {
    PlacementRank rank{};  // Without what pressure adds.
    PackBucket* bucket = nullptr;
    friend bool operator<(const Ranked& a, const Ranked& b) { return a.rank < b.rank; }
  };
  uint64_t made_at = 0;  // Version of the scores.
  size_t seen = 0;       // Of the kind's new states.
  std::vector<Ranked> ranked{};
};

struct PackKind {
  std::optional<std::string> value{};  // Of kKindLabel.
  int nodes = 0;
  int64_t devices = 0;
  int64_t pressure_milli = 0;
  TypicalShapes::Set typical{};
  std::vector<std::pair<FreeKey, PackBucket*>> buckets{};  // In order of key.
  std::vector<PackBucket*> new_states{};                   // Since the scores changed.
  // By policy and the number of the needs.
  absl::flat_hash_map<std::pair<PlacementPolicy, uint32_t>, std::unique_ptr<PackList>> lists{};
  const std::string* text() const { return value ? &*value : nullptr; }
};

// The lists of some kinds, for one policy and as much needed.
struct PackRanking {
  PlacementPolicy policy{};
  std::vector<PackKind*> kinds{};
  std::vector<PackList*> lists{};  // Of these kinds.
  uint64_t scored_at = 0;          // Version of the scores, when it was last asked for.
  uint64_t lists_at = 0;           // Version of the states, when all lists were kept up.
  uint64_t asked_at = 0;           // Version of the order, when it was last asked for.
  uint64_t merged_at = 0;          // And when these were merged, with pressure:
  std::vector<PackList::Ranked> merged{};
};

// What one choice of a class asks for, looked up once.
struct PackTarget {
  uint32_t needs = 0;          // Their number; 0: not looked up.
  uint64_t kinds_version = 0;  // When `kinds` was made.
  std::vector<PackKind*> kinds{};
  PackRanking* ranking = nullptr;  // Of these kinds; null: not looked up.
};

class Packing {
 public:
  static constexpr int64_t kCostUnit = 1000;
  static constexpr int64_t kScarcity = 80;
  static constexpr int64_t kSlopeMilli = 1500;  // Of a GPU.
  static constexpr size_t kEmptyMax = 256;
  static constexpr size_t kRankingsMax = 4096;
  static constexpr size_t kRankedMax = size_t{4} << 20;  // States in all lists and rankings.

  explicit Packing(const NodeRows& rows) : rows_(rows) {}
  Packing(const Packing&) = delete;
  Packing& operator=(const Packing&) = delete;

  void Add(Node* node);
  void Remove(Node* node);
  void Relabeled(Node* node);
  void Clear();               // Before all nodes are given other rows.
  void Changed(Node* node);   // Its `free`, for the first time since it was filed.
  void FileChanged() const {  // So that the next search need not.
    if (!changed_.empty()) FileAnew();
  }

  // Once filed: the rows that hold more than before.
  const RisenRows& risen() const { return risen_; }

  Demand& demand() { return demand_; }
  const Demand& demand() const { return demand_; }
  PlacementPolicy default_policy() const { return default_; }
  void SetDefault(PlacementPolicy policy) { default_ = policy; }

  // The policy of a class for a choice that needs so much: never kPack where no GPUs are needed.
  PlacementPolicy PolicyOf(const SchedulingClass& of, const Resources& needs) const;

  // The best node now for a choice among `matched`, or null. REQUIRES: not kBestFit.
  Node* Best(PlacementPolicy policy, const SchedulingClass& of, int choice,
             const MatchedRows& matched) const;

  // What Best() finds, if that node has room: it is on its way from memory, and not looked at.
  // Null: there is none, nor will there be until rows have risen.
  Node* Likely(PlacementPolicy policy, const SchedulingClass& of, int choice,
               const MatchedRows& matched) const;

  // REQUIRES: node.free.Fits(needs).
  PlacementRank RankOf(PlacementPolicy policy, const Resources& needs, const Node& node) const;

  // What the cost of pack is made of: the score (0 to 100), and the pressure.
  std::pair<int, int64_t> PartsOf(const Resources& needs, const Node& node) const;

  void CheckInvariants(const std::vector<Node*>& nodes) const;

 private:
  struct Needs {
    int64_t gpus = 0;
    int64_t cpus = 0;
    int64_t memory_bytes = 0;
    friend bool operator==(const Needs& a, const Needs& b) {
      return a.gpus == b.gpus && a.cpus == b.cpus && a.memory_bytes == b.memory_bytes;
    }
    template <typename H>
    friend H AbslHashValue(H h, const Needs& n) {
      return H::combine(std::move(h), n.gpus, n.cpus, n.memory_bytes);
    }
    FreeKey::Least least() const { return FreeKey::LeastFor(gpus, cpus, memory_bytes); }
  };
  struct RankingKey {
    PlacementPolicy policy{};
    uint32_t needs = 0;
    std::vector<PackKind*> kinds{};
    friend bool operator==(const RankingKey& a, const RankingKey& b) {
      return a.policy == b.policy && a.needs == b.needs && a.kinds == b.kinds;
    }
    template <typename H>
    friend H AbslHashValue(H h, const RankingKey& k) {
      return H::combine(std::move(h), k.policy, k.needs, k.kinds);
    }
  };
  static Needs NeedsOf(const Resources& needs) {
    return {.gpus = needs.gpus, .cpus = needs.cpus, .memory_bytes = needs.memory_bytes};
  }
  void FileAnew() const;
  void File(const Node& node, const PackState& state) const;
  PackBucket* BucketOf(const PackState& state) const;
  void Unfile(const Node& node) const;
  void Purge() const;  // Of states without nodes.
  void KindsChanged() const;
  void StatesChanged() const;
  PackState StateOf(const Node& node) const;
  void Enter(Node& node);
  void Leave(Node& node);
  void Refresh() const;  // What follows from the demand and the kinds there are.
  void RefreshPressure() const;
  PackTarget& TargetOf(const SchedulingClass& of, int choice) const;
  uint32_t NumberOf(const Needs& needs) const;
  int ScoreOf(const Needs& needs, const PackState& state, int64_t waste) const;
  int KnownScore(uint32_t number, const Needs& needs, PackBucket& bucket) const;
  int64_t WasteOf(PackBucket& bucket) const;
  // Without what pressure adds, which is Pressure().
  PlacementRank RankWithin(PlacementPolicy policy, uint32_t number, const Needs& needs,
                           PackBucket& bucket) const;
  static int64_t Pressure(PlacementPolicy policy, const PackKind& kind) {
    return policy == PlacementPolicy::kPack ? kScarcity * kind.pressure_milli : 0;
  }
  PlacementRank RankIn(PlacementPolicy policy, uint32_t number, const Needs& needs,
                       PackBucket& bucket) const;
  PackRanking& RankingOf(PlacementPolicy policy, PackTarget& target) const;
  bool KeepUp(PackRanking& ranking, uint32_t number, const Needs& needs) const;
  void KeepUp(PlacementPolicy policy, const PackKind& kind, PackList& list, uint32_t number,
              const Needs& needs) const;
  template <typename Ok>
  Row BestUnranked(const PackRanking& ranking, uint32_t number, const Needs& needs,
                   const MatchedRows& matched, Ok&& ok) const;
  template <typename Ok>
  Row BestRanked(PackRanking& ranking, const MatchedRows& matched, Ok&& ok) const;
  template <typename Ok>
  Row BestOf(const std::vector<PackList::Ranked>& ranked, const MatchedRows& matched,
             Ok&& ok) const;
  template <typename Ok>
  Row BestSideBySide(const PackRanking& ranking, const MatchedRows& matched, Ok&& ok) const;
  template <typename Ok>
  Row BestListed(PlacementPolicy policy, uint32_t number, const Needs& needs,
                 const std::vector<Row>& list, Ok&& ok) const;
  template <typename Ok>
  Row BestRow(PlacementPolicy policy, const SchedulingClass& of, int choice,
              const MatchedRows& matched, Ok&& ok) const;

  const NodeRows& rows_;
  PlacementPolicy default_ = PlacementPolicy::kPack;
  Demand demand_;

  absl::btree_map<std::optional<std::string>, std::unique_ptr<PackKind>> kinds_;
  mutable uint64_t kinds_version_ = 1;  // Which kinds there are.
  int64_t devices_ = 0;
  mutable absl::flat_hash_map<PackState, std::unique_ptr<PackBucket>> buckets_;
  mutable std::vector<PackBucket*> filed_;  // By row: where its node is filed.
  mutable std::vector<std::unique_ptr<PackBucket>> spare_;
  // Those that nodes went to last, by a hash of the state that costs next to nothing.
  static constexpr size_t kRecent = 256;
  mutable std::array<PackBucket*, kRecent> recent_{};
  mutable size_t empty_ = 0;  // Of buckets_, without nodes.
  mutable std::vector<Node*> changed_;
  mutable RisenRows risen_;

  mutable TypicalShapes typical_;
  mutable uint64_t typical_of_ = 0;  // Version of the demand.
  mutable uint32_t version_ = 1;     // Of the scores.
  mutable bool pressure_known_ = false;
  mutable std::vector<std::pair<LabelRequirement, int64_t>> named_;  // GPUs requested, by kinds.
  mutable int64_t requested_ = 0;
  mutable absl::flat_hash_map<Needs, uint32_t> numbers_;
  mutable uint32_t first_number_ = 1;  // Those below are forgotten.
  mutable uint32_t next_number_ = 1;
  mutable absl::flat_hash_map<RankingKey, std::unique_ptr<PackRanking>> rankings_;
  mutable size_t ranked_ = 0;                         // How many states lists and rankings have.
  mutable uint64_t states_version_ = 1;               // Which states there are, and their scores.
  mutable uint64_t order_version_ = 1;                // And the pressure of their kinds.
  mutable std::vector<PackList::Ranked> candidates_;  // Scratch.
  mutable std::vector<Row> left_out_;                 // Scratch.
};

}  // namespace muster::sched
