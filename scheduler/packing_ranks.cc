// What Packing compares, and how it finds the best; packing.cc keeps what it looks at.
#include <algorithm>
#include <array>
#include <iterator>

#include "scheduler/lowest_id.h"
#include "scheduler/node.h"
#include "scheduler/packing.h"
#include "scheduler/prefetch.h"
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

// [by]: how many of kSigmoid but the first are below it.
constexpr auto kSigmoidSteps = [] {
  std::array<int8_t, kSigmoid[std::size(kSigmoid) - 1] + 2> steps{};
  size_t above = 1;
  for (size_t by = 0; by < steps.size(); ++by) {
    while (above < std::size(kSigmoid) && kSigmoid[above] < static_cast<int>(by)) ++above;
    steps[by] = static_cast<int8_t>(above - 1);
  }
  return steps;
}();
static_assert(kSigmoidSteps.back() == std::size(kSigmoid) - 1);

// 100 / (1 + e^more), cut to a whole number; `more` in 1/1000.
int Sigmoid(int64_t more) {
  const auto by = static_cast<uint64_t>(more < 0 ? -more : more);
  const int steps = kSigmoidSteps[std::min<uint64_t>(by, kSigmoidSteps.size() - 1)];
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

// `least` of what is needed.
bool MayHold(const PackState& state, const FreeKey::Least& least) {
  if (!state.key.MayHoldWithoutGpus(least)) return false;
  if (least.gpus == 0 || state.key.whole_gpus() * Amount::kUnit >= least.gpus) return true;
  return least.gpus < Amount::kUnit && !state.left.empty() && state.left.back() >= least.gpus;
}

// Calls visit(PackBucket&) for the buckets from `first` on; they come from memory a few ahead of
// it, with what is known of their score for the needs of that number.
template <typename Visit>
void ForEachBucket(const std::vector<std::pair<FreeKey, PackBucket*>>& buckets, size_t first,
                   uint32_t number, Visit&& visit) {
  constexpr size_t kAhead = 4;
  for (size_t i = first; i < buckets.size(); ++i) {
    if (i + kAhead < buckets.size()) {
      const PackBucket* const soon = buckets[i + kAhead].second;
      PrefetchLines(&soon->state, 2);
      PrefetchLines(&soon->known[number % PackBucket::kKnown], 1);
    }
    visit(*buckets[i].second);
  }
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
    auto device = std::lower_bound(left.begin(), left.end(), needs.gpus);
    if (device == left.end()) {
      --whole;
      left.push_back(uint16_t{Amount::kUnit});
      device = left.end() - 1;
    }
    const auto stays = static_cast<uint16_t>(*device - needs.gpus);
    if (stays == 0) {
      left.erase(device);
    } else {  // Moved to its place among those that have less.
      for (; device != left.begin() && *(device - 1) > stays; --device) *device = *(device - 1);
      *device = stays;
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

PlacementRank Packing::RankWithin(PlacementPolicy policy, uint32_t number, const Needs& needs,
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
  return {.first = kCostUnit * (100 - score), .second = left, .third = state.key.bits()};
}

PlacementRank Packing::RankIn(PlacementPolicy policy, uint32_t number, const Needs& needs,
                              PackBucket& bucket) const {
  PlacementRank rank = RankWithin(policy, number, needs, bucket);
  rank.first += Pressure(policy, *bucket.state.kind);
  return rank;
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
  const Needs of = NeedsOf(needs);
  const uint32_t number = policy == PlacementPolicy::kPack ? NumberOf(of) : 0;
  return RankIn(policy, number, of, *filed_[node.row]);
}

std::pair<int, int64_t> Packing::PartsOf(const Resources& needs, const Node& node) const {
  FileChanged();
  Refresh();
  const Needs of = NeedsOf(needs);
  return {KnownScore(NumberOf(of), of, *filed_[node.row]), node.kind->pressure_milli};
}

// --- Searching ---

PackTarget& Packing::TargetOf(const SchedulingClass& of, int choice) const {
  if (of.pack_targets.empty()) of.pack_targets.resize(of.spec.choices.size());
  PackTarget& target = of.pack_targets[static_cast<size_t>(choice)];
  const Choice& wanted = of.spec.choices[static_cast<size_t>(choice)];
  if (target.needs < first_number_) {
    target.ranking = nullptr;
    target.needs = NumberOf(NeedsOf(wanted.resources));
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
  const Resources& needs = of.spec.choices[static_cast<size_t>(choice)].resources;
  const Row best = BestRow(policy, of, choice, matched, [&](Row row) {
    const Node* const node = rows_.node(row);
    node->Prefetch();
    return node->usable() && node->free.Fits(needs);
  });
  return best == kNoRow ? nullptr : rows_.node(best);
}

Node* Packing::Likely(PlacementPolicy policy, const SchedulingClass& of, int choice,
                      const MatchedRows& matched) const {
  const Row likely = BestRow(policy, of, choice, matched, [](Row) { return true; });
  if (likely == kNoRow) return nullptr;
  PrefetchLines(&filed_[likely], 1);
  Node* const node = rows_.node(likely);
  node->Prefetch();
  return node;
}

template <typename Ok>
Row Packing::BestRow(PlacementPolicy policy, const SchedulingClass& of, int choice,
                     const MatchedRows& matched, Ok&& ok) const {
  FileChanged();
  Refresh();
  const Needs needs = NeedsOf(of.spec.choices[static_cast<size_t>(choice)].resources);
  PackTarget& target = TargetOf(of, choice);
  if (matched.listed()) return BestListed(policy, target.needs, needs, matched.list(), ok);
  PackRanking& ranking = RankingOf(policy, target);
  return KeepUp(ranking, target.needs, needs)
             ? BestRanked(ranking, matched, ok)
             : BestUnranked(ranking, target.needs, needs, matched, ok);
}

PackRanking& Packing::RankingOf(PlacementPolicy policy, PackTarget& target) const {
  const auto known = [&] { return target.ranking != nullptr && target.ranking->policy == policy; };
  if (ranked_ > kRankedMax || (!known() && rankings_.size() >= kRankingsMax)) {
    KindsChanged();  // All look theirs up again.
    target.kinds_version = kinds_version_;
    target.ranking = nullptr;
  }
  if (!known()) {
    std::unique_ptr<PackRanking>& ranking =
        rankings_[{.policy = policy, .needs = target.needs, .kinds = target.kinds}];
    if (ranking == nullptr) {
      ranking = std::make_unique<PackRanking>();
      ranking->policy = policy;
      ranking->kinds = target.kinds;
      for (PackKind* kind : target.kinds) {
        std::unique_ptr<PackList>& list = kind->lists[{policy, target.needs}];
        if (list == nullptr) list = std::make_unique<PackList>();
        ranking->lists.push_back(list.get());
      }
    }
    target.ranking = ranking.get();
  }
  return *target.ranking;
}

// False: its lists are not made for one search.
bool Packing::KeepUp(PackRanking& ranking, uint32_t number, const Needs& needs) const {
  if (ranking.lists_at == states_version_) return true;
  if (std::exchange(ranking.scored_at, version_) != version_) {
    const auto is_new = [&](const PackList* list) { return list->made_at == version_; };
    if (!std::all_of(ranking.lists.begin(), ranking.lists.end(), is_new)) return false;
  }
  ranking.lists_at = states_version_;
  for (size_t i = 0; i < ranking.kinds.size(); ++i) {
    KeepUp(ranking.policy, *ranking.kinds[i], *ranking.lists[i], number, needs);
  }
  return true;
}

void Packing::KeepUp(PlacementPolicy policy, const PackKind& kind, PackList& list, uint32_t number,
                     const Needs& needs) const {
  auto& ranked = list.ranked;
  const FreeKey::Least least = needs.least();
  const auto rank = [&](PackBucket& bucket) {
    if (!MayHold(bucket.state, least)) return;
    ranked.push_back({.rank = RankWithin(policy, number, needs, bucket), .bucket = &bucket});
  };
  const size_t before = ranked.size();
  if (list.made_at != version_) {
    list.made_at = version_;
    list.seen = kind.new_states.size();
    ranked.clear();
    ForEachBucket(kind.buckets, 0, number, rank);
    std::sort(ranked.begin(), ranked.end());
  } else if (list.seen < kind.new_states.size()) {
    for (; list.seen < kind.new_states.size(); ++list.seen) rank(*kind.new_states[list.seen]);
    const auto middle = ranked.begin() + static_cast<std::ptrdiff_t>(before);
    std::sort(middle, ranked.end());
    std::inplace_merge(ranked.begin(), middle, ranked.end());
  }
  ranked_ += ranked.size() - before;
}

template <typename Ok>
Row Packing::BestUnranked(const PackRanking& ranking, uint32_t number, const Needs& needs,
                          const MatchedRows& matched, Ok&& ok) const {
  candidates_.clear();
  const FreeKey::Least least = needs.least();
  const FreeKey first = needs.gpus > 0 ? FreeKey::FirstWithGpus(needs.gpus) : FreeKey();
  for (const PackKind* kind : ranking.kinds) {
    const auto& walk = kind->buckets;
    const auto from =
        std::lower_bound(walk.begin(), walk.end(), first,
                         [](const auto& entry, FreeKey key) { return entry.first < key; });
    const auto consider = [&](PackBucket& bucket) {
      if (bucket.rows.empty() || !MayHold(bucket.state, least)) return;
      candidates_.push_back(
          {.rank = RankIn(ranking.policy, number, needs, bucket), .bucket = &bucket});
    };
    ForEachBucket(walk, static_cast<size_t>(from - walk.begin()), number, consider);
  }
  // The first few by looking for the least; where these hold no node that will do, in order.
  constexpr size_t kFew = 4;
  LowestRow best;
  PlacementRank best_rank;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const auto from = candidates_.begin() + static_cast<std::ptrdiff_t>(i);
    if (i < kFew) {
      std::iter_swap(from, std::min_element(from, candidates_.end()));
    } else if (i == kFew) {
      std::sort(from, candidates_.end());
    }
    const PackList::Ranked& candidate = candidates_[i];
    if (best.row != kNoRow && !(candidate.rank == best_rank)) break;
    if (FindLowestId(rows_, candidate.bucket->rows, matched, best, ok)) best_rank = candidate.rank;
  }
  return best.row;
}

template <typename Ok>
Row Packing::BestRanked(PackRanking& ranking, const MatchedRows& matched, Ok&& ok) const {
  if (ranking.lists.size() == 1) return BestOf(ranking.lists.front()->ranked, matched, ok);
  if (ranking.merged_at != order_version_) {
    if (std::exchange(ranking.asked_at, order_version_) != order_version_) {
      return BestSideBySide(ranking, matched, ok);
    }
    ranking.merged_at = order_version_;
    ranked_ -= ranking.merged.size();
    ranking.merged.clear();
    for (size_t i = 0; i < ranking.lists.size(); ++i) {
      const int64_t pressure = Pressure(ranking.policy, *ranking.kinds[i]);
      for (PackList::Ranked ranked : ranking.lists[i]->ranked) {
        ranked.rank.first += pressure;
        ranking.merged.push_back(ranked);
      }
    }
    ranked_ += ranking.merged.size();
    std::sort(ranking.merged.begin(), ranking.merged.end());
  }
  return BestOf(ranking.merged, matched, ok);
}

template <typename Ok>
Row Packing::BestOf(const std::vector<PackList::Ranked>& ranked, const MatchedRows& matched,
                    Ok&& ok) const {
  LowestRow best;
  const PlacementRank* rank = nullptr;
  for (const PackList::Ranked& candidate : ranked) {
    if (rank != nullptr && !(candidate.rank == *rank)) break;
    if (candidate.bucket->rows.empty()) continue;
    if (FindLowestId(rows_, candidate.bucket->rows, matched, best, ok)) rank = &candidate.rank;
  }
  return best.row;
}

template <typename Ok>
Row Packing::BestSideBySide(const PackRanking& ranking, const MatchedRows& matched, Ok&& ok) const {
  struct Walk {
    const PackList::Ranked* at = nullptr;
    const PackList::Ranked* end = nullptr;
    int64_t pressure = 0;

    bool SkipEmpty() {  // False: it is at its end.
      while (at != end && at->bucket->rows.empty()) ++at;
      return at != end;
    }
    PlacementRank rank() const {
      PlacementRank rank = at->rank;
      rank.first += pressure;
      return rank;
    }
  };
  absl::InlinedVector<Walk, 8> walks;
  for (size_t i = 0; i < ranking.kinds.size(); ++i) {
    const std::vector<PackList::Ranked>& ranked = ranking.lists[i]->ranked;
    Walk walk{.at = ranked.data(),
              .end = ranked.data() + ranked.size(),
              .pressure = Pressure(ranking.policy, *ranking.kinds[i])};
    if (walk.SkipEmpty()) walks.push_back(walk);
  }
  LowestRow best;
  PlacementRank best_rank;
  while (!walks.empty()) {
    Walk* next = walks.data();
    PlacementRank rank = next->rank();
    for (Walk* other = next + 1; other != walks.data() + walks.size(); ++other) {
      if (rank.first < other->at->rank.first + other->pressure) continue;
      const PlacementRank theirs = other->rank();
      if (!(theirs < rank)) continue;
      next = other;
      rank = theirs;
    }
    if (best.row != kNoRow && !(rank == best_rank)) break;
    if (FindLowestId(rows_, next->at->bucket->rows, matched, best, ok)) best_rank = rank;
    ++next->at;
    if (next->SkipEmpty()) continue;
    *next = walks.back();
    walks.pop_back();
  }
  return best.row;
}

// By the states of the rows alone: only the best is looked at, and the next where it will not do.
template <typename Ok>
Row Packing::BestListed(PlacementPolicy policy, uint32_t number, const Needs& needs,
                        const std::vector<Row>& list, Ok&& ok) const {
  left_out_.clear();
  const FreeKey::Least least = needs.least();
  while (true) {
    LowestRow best;
    PlacementRank best_rank;
    for (const Row row : list) {
      PackBucket& bucket = *filed_[row];
      if (!MayHold(bucket.state, least)) continue;
      if (std::find(left_out_.begin(), left_out_.end(), row) != left_out_.end()) continue;
      const PlacementRank rank = RankIn(policy, number, needs, bucket);
      if (best.row != kNoRow) {
        if (best_rank < rank || (rank == best_rank && best.id < rows_.id(row))) continue;
      }
      best = {.row = row, .id = rows_.id(row)};
      best_rank = rank;
    }
    if (best.row == kNoRow || ok(best.row)) return best.row;
    left_out_.push_back(best.row);
  }
}

}  // namespace muster::sched
