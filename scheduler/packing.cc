#include "scheduler/packing.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "scheduler/base/check.h"
#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {
namespace {

constexpr size_t kSparesMax = 256;
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

// The least amount that its step stands for.
int64_t MemoryFloor(int64_t bytes) {
  if (bytes < 4) return std::max<int64_t>(bytes, 0);
  const int shift = static_cast<int>(std::bit_width(static_cast<uint64_t>(bytes))) - 3;
  return bytes >> shift << shift;
}

int64_t CpuFloor(uint64_t step) {
  if (step < 16) return static_cast<int64_t>(step) * Amount::kUnit / 16;
  const uint64_t shift = step / 8 - 1;
  return static_cast<int64_t>((8 + step % 8) << shift) * Amount::kUnit / 16;
}

bool Before(const PackBucket& a, const PackBucket& b) {
  return std::tie(a.state.key, a.state.memory_bytes, a.state.devices, a.state.left) <
         std::tie(b.state.key, b.state.memory_bytes, b.state.devices, b.state.left);
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

// --- Filing ---

void Packing::Add(Node* node) {
  node->repack = false;
  Enter(*node);
  File(*node);
}

void Packing::Remove(Node* node) {
  if (node->repack) FileChanged();
  Unfile(*node);
  Leave(*node);
}

void Packing::Relabeled(Node* node) {
  const std::string* const value = node->labels.Find(kKindLabel);
  const std::string* const before = node->kind->text();
  if (value == nullptr ? before == nullptr : before != nullptr && *before == *value) return;
  Remove(node);
  Add(node);
}

void Packing::Clear() {
  buckets_.clear();
  empty_ = 0;
  spare_.clear();
  changed_.clear();
  kinds_.clear();
  devices_ = 0;
  KindsChanged();
  pressure_known_ = false;
}

void Packing::KindsChanged() const {
  ++kinds_version_;
  rankings_.clear();
  RanksChanged();
}

void Packing::RanksChanged() const {
  ++ranks_version_;
  new_states_.clear();
}

void Packing::Changed(Node* node) {
  node->repack = true;
  changed_.push_back(node);
}

void Packing::Enter(Node& node) {
  const std::string* const value = node.labels.Find(kKindLabel);
  std::unique_ptr<PackKind>& kind =
      kinds_[value == nullptr ? std::nullopt : std::optional<std::string>(*value)];
  if (kind == nullptr) {
    kind = std::make_unique<PackKind>();
    if (value != nullptr) kind->value = *value;
    kind->typical = typical_.OfKind(kind->text());
    KindsChanged();
  }
  node.kind = kind.get();
  ++kind->nodes;
  kind->devices += node.total.gpu_devices;
  devices_ += node.total.gpu_devices;
  pressure_known_ = false;
}

void Packing::Leave(Node& node) {
  PackKind* const kind = std::exchange(node.kind, nullptr);
  kind->devices -= node.total.gpu_devices;
  devices_ -= node.total.gpu_devices;
  pressure_known_ = false;
  if (--kind->nodes > 0) return;
  Purge();
  kinds_.erase(kind->value);
  KindsChanged();
}

PackState Packing::StateOf(const Node& node) const {
  const Devices& devices = node.free.devices();
  PackState state{.kind = node.kind,
                  .key = node.free.key(),
                  .devices = devices.count(),
                  .memory_bytes = MemoryFloor(node.free.memory_bytes()),
                  .left = {}};
  if (!devices.shared()) return state;
  for (int device = 0; device < devices.count(); ++device) {
    const int64_t left = devices.free(device);
    if (left > 0 && left < Amount::kUnit) state.left.push_back(static_cast<uint16_t>(left));
  }
  std::sort(state.left.begin(), state.left.end());
  return state;
}

void Packing::FileChanged() const {
  for (Node* node : changed_) {
    node->repack = false;
    if (StateOf(*node) == node->packed->state) continue;
    Unfile(*node);
    File(*node);
  }
  changed_.clear();
}

void Packing::File(Node& node) const {
  PackState state = StateOf(node);
  const auto known = buckets_.find(state);
  PackBucket* bucket = known == buckets_.end() ? nullptr : known->second.get();
  if (bucket == nullptr) {
    std::unique_ptr<PackBucket> made;
    if (spare_.empty()) {
      made = std::make_unique<PackBucket>();
    } else {
      made = std::move(spare_.back());
      spare_.pop_back();
      made->known.fill({});
      made->waste_version = 0;
    }
    bucket = made.get();
    bucket->state = state;
    auto& walk = state.kind->buckets;
    const auto place = std::lower_bound(
        walk.begin(), walk.end(), bucket,
        [](const auto& entry, PackBucket* b) { return Before(*entry.second, *b); });
    walk.insert(place, {bucket->state.key, bucket});
    buckets_.emplace(std::move(state), std::move(made));
    ++empty_;
    new_states_.push_back(bucket);
  }
  if (bucket->rows.empty()) {
    --empty_;
    ++bucket->state.kind->states;
  }
  bucket->rows.Add(node.row);
  node.packed = bucket;
}

void Packing::Unfile(Node& node) const {
  PackBucket* const bucket = std::exchange(node.packed, nullptr);
  bucket->rows.Remove(node.row);
  if (!bucket->rows.empty()) return;
  --bucket->state.kind->states;
  if (++empty_ > kEmptyMax) Purge();
}

void Packing::Purge() const {
  if (empty_ == 0) return;
  for (const auto& [value, kind] : kinds_) {
    auto& walk = kind->buckets;
    const auto is_empty = [](const auto& entry) { return entry.second->rows.empty(); };
    walk.erase(std::remove_if(walk.begin(), walk.end(), is_empty), walk.end());
  }
  for (auto next = buckets_.begin(); next != buckets_.end();) {
    const auto here = next++;
    if (!here->second->rows.empty()) continue;
    if (spare_.size() < kSparesMax) spare_.push_back(std::move(here->second));
    buckets_.erase(here);
  }
  empty_ = 0;
  RanksChanged();
}

// --- What follows from the demand ---

void Packing::Refresh() const {
  if (typical_of_ != demand_.version()) {
    typical_of_ = demand_.version();
    ++version_;
    RanksChanged();
    typical_ = TypicalShapes(demand_);
    for (const auto& [value, kind] : kinds_) kind->typical = typical_.OfKind(kind->text());
    absl::btree_map<LabelRequirement, int64_t> named;
    requested_ = 0;
    for (const auto& [shape, of] : demand_.shapes()) {
      const int64_t gpus = shape.gpus / 100 * of->typical_count;
      requested_ += gpus;
      if (!shape.kinds.key.empty()) named[shape.kinds] += gpus;
    }
    named_.assign(named.begin(), named.end());
    pressure_known_ = false;
  }
  if (!pressure_known_) RefreshPressure();
}

void Packing::RefreshPressure() const {
  pressure_known_ = true;
  std::vector<int64_t> before;
  for (const auto& [value, kind] : kinds_) {
    before.push_back(std::exchange(kind->pressure_milli, 0));
  }
  for (const auto& [kinds, gpus] : named_) {
    int64_t devices = 0;
    for (const auto& [value, kind] : kinds_) {
      if (kinds.Matches(kind->text())) devices += kind->devices;
    }
    if (devices == 0) continue;
    const int64_t part_ppm = gpus * 1000 / std::max<int64_t>(1, requested_ / 1000);
    const int64_t pressure = part_ppm * devices_ / devices / 1000;
    for (const auto& [value, kind] : kinds_) {
      if (kinds.Matches(kind->text())) kind->pressure_milli += pressure;
    }
  }
  const bool same = std::equal(
      kinds_.begin(), kinds_.end(), before.begin(), before.end(),
      [](const auto& entry, int64_t pressure) { return entry.second->pressure_milli == pressure; });
  if (!same) RanksChanged();
}

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

void Packing::CheckInvariants(const std::vector<Node*>& nodes) const {
  FileChanged();
  demand_.CheckInvariants();
  size_t filed = 0;
  size_t walked = 0;
  size_t empty = 0;
  for (const auto& [value, kind] : kinds_) {
    MUSTER_CHECK(kind->nodes > 0);
    walked += kind->buckets.size();
    size_t states = 0;
    for (size_t i = 0; i < kind->buckets.size(); ++i) {
      const PackBucket& bucket = *kind->buckets[i].second;
      MUSTER_CHECK(bucket.state.kind == kind.get());
      (bucket.rows.empty() ? empty : states) += 1;
      if (i > 0) MUSTER_CHECK(Before(*kind->buckets[i - 1].second, bucket));
      filed += bucket.rows.size();
    }
    MUSTER_CHECK(states == kind->states);
  }
  MUSTER_CHECK(walked == buckets_.size());
  MUSTER_CHECK(empty == empty_ && empty <= kEmptyMax);
  MUSTER_CHECK(filed == nodes.size());
  int64_t devices = 0;
  for (const Node* node : nodes) {
    devices += node->total.gpu_devices;
    MUSTER_CHECK(!node->repack);
    MUSTER_CHECK(node->packed->state == StateOf(*node));
    MUSTER_CHECK(node->packed->rows.Contains(node->row));
    const std::string* const value = node->labels.Find(kKindLabel);
    MUSTER_CHECK((value == nullptr) == (node->kind->text() == nullptr));
    if (value != nullptr) MUSTER_CHECK(*value == *node->kind->text());
  }
  MUSTER_CHECK(devices == devices_);
}

}  // namespace muster::sched
