// What Packing compares, and how it finds the best; packing.cc keeps what it looks at.
#include <algorithm>
#include <iterator>

#include "scheduler/node.h"
#include "scheduler/packing.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {
namespace {

constexpr size_t kNumbersMax = 1 << 16;

// [i]: how much makes a difference of i to the score, in 1/1000: ln((50 + i) / (50 - i)), cut.
constexpr int kSigmoid[] = {0,    40,   80,   120,  160,  200,  241,  281,  322,  363,
                            405,  447,  489,  532,  575,  619,  663,  708,  753,  800,
                            847,  895,  944,  994,  1045, 1098, 1152, 1208, 1265, 1324,
                            1386, 1450, 1516, 1585, 1658, 1734, 1815, 1900, 1992, 2090,
                            2197, 2313, 2442, 2586, 2751, 2944, 3178, 3476, 3891, 4595};

// 100 / (1 + e^more), cut to a whole number; `more` in 1/1000.
int Sigmoid(int64_t more) {
  const int64_t by = more < 0 ? -more : more;
  const auto above = std::lower_bound(std::begin(kSigmoid) + 1, std::end(kSigmoid), by);
  const int steps = static_cast<int>(above - std::begin(kSigmoid)) - 1;
  return more <= 0 ? 50 + steps : 49 - steps;
}

int64_t CpuFloor(uint64_t step) {
  if (step < 16) return static_cast<int64_t>(step) * Amount::kUnit / 16;
  const uint64_t shift = step / 8 - 1;
  return static_cast<int64_t>((8 + step % 8) << shift) * Amount::kUnit / 16;
}

// What stays free of the device that a share goes to, the fullest that has room.
int64_t LeftOfFullest(const PackState& state, int64_t share) {
  const auto device = std::lower_bound(state.left.begin(), state.left.end(), share);
  return (device == state.left.end() ? Amount::kUnit : *device) - share;
}

bool MayHold(const PackState& state, int64_t gpus, int64_t cpus, int64_t memory) {
  if (!state.key.MayHold(cpus, memory)) return false;
  if (gpus == 0 || state.key.whole_gpus() * Amount::kUnit >= gpus) return true;
  return gpus < Amount::kUnit && !state.left.empty() && state.left.back() >= gpus;
}

}  // namespace

// --- Ranks ---

PlacementPolicy Packing::PolicyOf(const SchedulingClass& of, const Resources& needs) const {
  const PlacementPolicy policy = of.spec.placement.value_or(default_);
  return policy == PlacementPolicy::kPack && needs.gpus == 0 ? PlacementPolicy::kBestFit : policy;
}

int64_t Packing::WasteOf(PackBucket& bucket) const {
  if (bucket.waste_version == version_) return bucket.waste;
  const PackState& state = bucket.state;
  bucket.waste = typical_.Waste(state.kind->typical, CpuFloor(state.key.cpu_step()),
                                state.memory_bytes, state.key.whole_gpus(), state.left);
  bucket.waste_version = version_;
  return bucket.waste;
}

int Packing::ScoreOf(const Needs& needs, const PackState& state, int64_t waste) const {
  int64_t whole = state.key.whole_gpus();
  absl::InlinedVector<uint16_t, 8> left = state.left;
  if (needs.gpus >= Amount::kUnit) {
    whole -= needs.gpus / Amount::kUnit;
  } else {
    const auto device = std::lower_bound(left.begin(), left.end(), needs.gpus);
    int64_t stays = -needs.gpus;
    if (device == left.end()) {
      stays += Amount::kUnit;
      --whole;
    } else {
      stays += *device;
      left.erase(device);
    }
    if (stays > 0) {
      const uint16_t share = static_cast<uint16_t>(stays);
      left.insert(std::lower_bound(left.begin(), left.end(), share), share);
    }
  }
  const int64_t after = typical_.Waste(
      state.kind->typical, std::max<int64_t>(0, CpuFloor(state.key.cpu_step()) - needs.cpus),
      std::max<int64_t>(0, state.memory_bytes - needs.memory_bytes), whole, left);
  // From 1/10000 GPU times kWeight to 1/1000 of the slope.
  const int64_t more = (after - waste) / TypicalShapes::kWeight;
  return Sigmoid(more * 1000 / (kSlopeMilli * Amount::kUnit / 1000));
}

int Packing::KnownScore(uint32_t number, const Needs& needs, PackBucket& bucket) const {
  PackBucket::Known& known = bucket.known[number % PackBucket::kKnown];
  if (known.needs != number || known.version != version_) {
    known = {.needs = number,
             .version = version_,
             .score = ScoreOf(needs, bucket.state, WasteOf(bucket))};
  }
  return known.score;
}

PlacementRank Packing::RankIn(PlacementPolicy policy, uint32_t number, const Needs& needs,
                              PackBucket& bucket) const {
  const PackState& state = bucket.state;
  const bool share = needs.gpus > 0 && needs.gpus < Amount::kUnit;
  if (policy == PlacementPolicy::kSpread) {
    const int64_t free = state.key.gpus();
    const bool empty = state.key.whole_gpus() > 0;
    return {.first = needs.gpus == 0 ? (state.devices > 0 ? 1 : 0)
                                     : state.devices * Amount::kUnit - free,
            .second = share && !empty ? Amount::kUnit - state.left.back() : 0,
            .third = ~state.key.bits()};
  }
  const int64_t left = share ? LeftOfFullest(state, needs.gpus) : 0;
  if (policy == PlacementPolicy::kBestFit) return {.second = left, .third = state.key.bits()};
  const int score = KnownScore(number, needs, bucket);
  return {.first = kCostUnit * (100 - score) + kScarcity * state.kind->pressure_milli,
          .second = left,
          .third = state.key.bits()};
}

uint32_t Packing::NumberOf(const Needs& needs) const {
  const auto known = numbers_.find(needs);
  if (known != numbers_.end()) return known->second;
  if (numbers_.size() >= kNumbersMax) {
    numbers_.clear();
    first_number_ = next_number_;
  }
  return numbers_.emplace(needs, next_number_++).first->second;
}

PlacementRank Packing::RankOf(PlacementPolicy policy, const Resources& needs,
                              const Node& node) const {
  FileChanged();
  Refresh();
  const Needs of{.gpus = needs.gpus, .cpus = needs.cpus, .memory_bytes = needs.memory_bytes};
  const uint32_t number = policy == PlacementPolicy::kPack ? NumberOf(of) : 0;
  return RankIn(policy, number, of, *node.packed);
}

std::pair<int, int64_t> Packing::PartsOf(const Resources& needs, const Node& node) const {
  FileChanged();
  Refresh();
  const Needs of{.gpus = needs.gpus, .cpus = needs.cpus, .memory_bytes = needs.memory_bytes};
  return {KnownScore(NumberOf(of), of, *node.packed), node.kind->pressure_milli};
}

// --- Searching ---

PackTarget& Packing::TargetOf(const SchedulingClass& of, int choice) const {
  if (of.pack_targets.empty()) of.pack_targets.resize(of.spec.choices.size());
  PackTarget& target = of.pack_targets[static_cast<size_t>(choice)];
  const Choice& wanted = of.spec.choices[static_cast<size_t>(choice)];
  if (target.needs < first_number_) {
    target.ranking = nullptr;
    target.needs = NumberOf({.gpus = wanted.resources.gpus,
                             .cpus = wanted.resources.cpus,
                             .memory_bytes = wanted.resources.memory_bytes});
  }
  if (target.kinds_version != kinds_version_) {
    target.kinds_version = kinds_version_;
    target.ranking = nullptr;
    target.kinds.clear();
    const LabelRequirement* about = nullptr;
    for (const LabelRequirement& requirement : wanted.selector.requirements()) {
      if (requirement.key == kKindLabel) about = &requirement;
    }
    for (const auto& [value, kind] : kinds_) {
      if (about == nullptr || about->Matches(kind->text())) target.kinds.push_back(kind.get());
    }
  }
  return target;
}

Node* Packing::Best(PlacementPolicy policy, const SchedulingClass& of, int choice,
                    const MatchedRows& matched) const {
  FileChanged();
  Refresh();
  const Resources& needs = of.spec.choices[static_cast<size_t>(choice)].resources;
  PackTarget& target = TargetOf(of, choice);
  if (matched.listed()) return BestListed(policy, target.needs, needs, matched);
  const Needs wanted{.gpus = needs.gpus, .cpus = needs.cpus, .memory_bytes = needs.memory_bytes};
  PackRanking& ranking = RankingOf(policy, target);
  if (KeepUp(ranking, target.needs, wanted)) return BestRanked(ranking, needs, matched);

  candidates_.clear();
  const FreeKey first = needs.gpus > 0 ? FreeKey::FirstWithGpus(needs.gpus) : FreeKey();
  for (PackKind* kind : target.kinds) {
    const auto& walk = kind->buckets;
    auto next = std::lower_bound(walk.begin(), walk.end(), first,
                                 [](const auto& entry, FreeKey key) { return entry.first < key; });
    size_t looked_at = 0;
    for (; next != walk.end() && looked_at < kStatesMax; ++next) {
      PackBucket& bucket = *next->second;
      if (bucket.rows.empty()) continue;
      if (!MayHold(bucket.state, needs.gpus, needs.cpus, needs.memory_bytes)) continue;
      ++looked_at;
      candidates_.push_back(
          {.rank = RankIn(policy, target.needs, wanted, bucket), .bucket = &bucket});
    }
  }
  // The first few by looking for the least; where these hold no node that will do, in order.
  constexpr size_t kFew = 4;
  Node* best = nullptr;
  PlacementRank rank;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i < kFew) {
      std::iter_swap(candidates_.begin() + i,
                     std::min_element(candidates_.begin() + i, candidates_.end()));
    } else if (i == kFew) {
      std::sort(candidates_.begin() + i, candidates_.end());
    }
    const PackRanking::Ranked& candidate = candidates_[i];
    if (best != nullptr && !(candidate.rank == rank)) break;
    Node* const found = LowestId(candidate.bucket->rows, matched, needs, best);
    if (found == nullptr) continue;
    best = found;
    rank = candidate.rank;
  }
  return best;
}

PackRanking& Packing::RankingOf(PlacementPolicy policy, PackTarget& target) const {
  if (target.ranking != nullptr && target.ranking->policy == policy) return *target.ranking;
  if (rankings_.size() >= kRankingsMax) {
    KindsChanged();  // All look theirs up again.
    target.kinds_version = kinds_version_;
  }
  std::unique_ptr<PackRanking>& ranking =
      rankings_[{.policy = policy, .needs = target.needs, .kinds = target.kinds}];
  if (ranking == nullptr) {
    ranking = std::make_unique<PackRanking>();
    ranking->policy = policy;
    ranking->kinds = target.kinds;
  }
  target.ranking = ranking.get();
  return *ranking;
}

// False: there is none now.
bool Packing::KeepUp(PackRanking& ranking, uint32_t number, const Needs& needs) const {
  for (const PackKind* kind : ranking.kinds) {
    if (kind->states > kStatesMax) return false;
  }
  if (ranking.made_at != ranks_version_) {
    if (std::exchange(ranking.asked_at, ranks_version_) != ranks_version_) return false;
    ranking.made_at = ranks_version_;
    ranking.seen = new_states_.size();
    ranking.ranked.clear();
    for (const PackKind* kind : ranking.kinds) {
      for (const auto& [key, bucket] : kind->buckets) Rank(ranking, *bucket, number, needs);
    }
    std::sort(ranking.ranked.begin(), ranking.ranked.end());
    return true;
  }
  if (ranking.seen == new_states_.size()) return true;
  const auto before = static_cast<std::ptrdiff_t>(ranking.ranked.size());
  for (; ranking.seen < new_states_.size(); ++ranking.seen) {
    PackBucket& bucket = *new_states_[ranking.seen];
    const auto& kinds = ranking.kinds;
    if (std::find(kinds.begin(), kinds.end(), bucket.state.kind) == kinds.end()) continue;
    Rank(ranking, bucket, number, needs);
  }
  const auto begin = ranking.ranked.begin();
  std::sort(begin + before, ranking.ranked.end());
  std::inplace_merge(begin, begin + before, ranking.ranked.end());
  return true;
}

void Packing::Rank(PackRanking& ranking, PackBucket& bucket, uint32_t number,
                   const Needs& needs) const {
  if (!MayHold(bucket.state, needs.gpus, needs.cpus, needs.memory_bytes)) return;
  ranking.ranked.push_back(
      {.rank = RankIn(ranking.policy, number, needs, bucket), .bucket = &bucket});
}

Node* Packing::BestRanked(const PackRanking& ranking, const Resources& needs,
                          const MatchedRows& matched) const {
  Node* best = nullptr;
  PlacementRank rank;
  for (const PackRanking::Ranked& candidate : ranking.ranked) {
    if (best != nullptr && !(candidate.rank == rank)) break;
    if (candidate.bucket->rows.empty()) continue;
    Node* const found = LowestId(candidate.bucket->rows, matched, needs, best);
    if (found == nullptr) continue;
    best = found;
    rank = candidate.rank;
  }
  return best;
}

Node* Packing::BestListed(PlacementPolicy policy, uint32_t number, const Resources& needs,
                          const MatchedRows& matched) const {
  const Needs wanted{.gpus = needs.gpus, .cpus = needs.cpus, .memory_bytes = needs.memory_bytes};
  Node* best = nullptr;
  PlacementRank best_rank;
  for (const Row row : matched.list()) {
    Node* const node = rows_.node(row);
    if (!node->usable() || !node->free.Fits(needs)) continue;
    const PlacementRank rank = RankIn(policy, number, wanted, *node->packed);
    if (best != nullptr) {
      if (best_rank < rank || (rank == best_rank && best->id < node->id)) continue;
    }
    best = node;
    best_rank = rank;
  }
  return best;
}

// The node of the lowest id, below that of `best`, of what both have, that can be used; null: none.
Node* Packing::LowestId(const RowSet& bucket, const MatchedRows& matched, const Resources& needs,
                        Node* best) const {
  const Node* const before = best;
  const auto look = [&](Row row) {
    if (best != nullptr && !(rows_.id(row) < best->id)) return false;
    Node* const node = rows_.node(row);
    if (!node->usable() || !node->free.Fits(needs)) return false;
    best = node;
    return true;
  };
  if (bucket.listed()) {
    for (const Row row : bucket.list()) {
      if (matched.Contains(row)) look(row);
    }
  } else {
    const size_t summaries = std::min(bucket.summary().size(), matched.summary().size());
    for (size_t i = 0; i < summaries; ++i) {
      uint64_t both = bucket.summary()[i] & matched.summary()[i];
      for (; both != 0; both &= both - 1) {
        const size_t block = i * kBlock + static_cast<size_t>(LowestBit(both));
        // While rows are ordered ids rise from block to block, and within each.
        if (best != nullptr && rows_.ordered() && best->id < rows_.first_id(block)) {
          return best == before ? nullptr : best;
        }
        uint64_t word = bucket.words()[block] & matched.word(block);
        for (; word != 0; word &= word - 1) {
          if (look(static_cast<Row>(block * kBlock + LowestBit(word))) && rows_.ordered()) break;
        }
      }
    }
  }
  return best == before ? nullptr : best;
}

}  // namespace muster::sched
