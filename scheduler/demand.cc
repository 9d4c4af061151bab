#include "scheduler/demand.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "scheduler/base/check.h"

namespace muster::sched {
namespace {

constexpr int64_t kMib = int64_t{1} << 20;
constexpr int64_t kBundlesCounted = 4096;  // Of one request, at most.

LabelRequirement KindsOf(const LabelSelector& selector) {
  for (const LabelRequirement& requirement : selector.requirements()) {
    if (requirement.key == kKindLabel) return requirement;
  }
  return {};
}

// Where the step of about an eighth that `counted` lies on ends: there are 8 between two powers of
// two.
int64_t EndOfStep(int64_t counted) {
  const int shift =
      std::max(0, static_cast<int>(std::bit_width(static_cast<uint64_t>(counted))) - 4);
  return ((counted >> shift) + 1) << shift;
}

}  // namespace

// --- Counting ---

DemandUses::DemandUses(const RequestSpec& spec) {
  if (spec.inside) return;  // It takes what its group has reserved.
  const auto add = [this](const Choice& choice, int64_t bundles) {
    if (choice.resources.gpus == 0) return;
    Use use{.shape = {.gpus = choice.resources.gpus,
                      .cpus = choice.resources.cpus,
                      .kinds = KindsOf(choice.selector)},
            .memory_mib = choice.resources.memory_bytes / kMib,
            .bundles = std::min(bundles, kBundlesCounted)};
    for (Use& known : uses_) {
      if (!(known.shape == use.shape) || known.memory_mib != use.memory_mib) continue;
      known.bundles = std::min(known.bundles + use.bundles, kBundlesCounted);
      return;
    }
    uses_.push_back(std::move(use));
  };
  if (!spec.is_group()) {
    add(spec.choices.front(), spec.bundles);
    return;
  }
  for (const BundleSpec& bundle : spec.shapes.front().bundles) add(bundle.choices.front(), 1);
}

void Demand::Count(DemandUses& uses) {
  for (DemandUses::Use& use : uses.uses_) {
    if (uses.generation_ != generation_) use.counted = nullptr;
    if (use.counted == nullptr) {
      const auto found = shapes_.find(use.shape);
      if (found != shapes_.end()) {
        use.counted = found->second.get();
      } else if (shapes_.size() < kShapesMax) {
        std::unique_ptr<DemandCount>& made = shapes_[use.shape];
        made = std::make_unique<DemandCount>();
        use.counted = made.get();
      } else {
        continue;
      }
    }
    use.counted->count += use.bundles;
    use.counted->memory_mib += use.bundles * use.memory_mib;
    counted_ += use.bundles;
  }
  uses.generation_ = generation_;
  if (counted_ >= next_look_) Look();
}

void Demand::Look() {
  bool forgotten = false;  // Of what is typical.
  if (counted_ >= kHalveAt) {
    counted_ = 0;
    for (auto next = shapes_.begin(); next != shapes_.end();) {
      DemandCount& of = *next->second;
      of.memory_mib -= of.memory_mib / of.count * (of.count - of.count / 2);
      of.count /= 2;
      counted_ += of.count;
      forgotten = forgotten || (of.count == 0 && of.typical_count > 0);
      next = of.count == 0 ? shapes_.erase(next) : std::next(next);
    }
    ++generation_;
  }
  next_look_ = EndOfStep(counted_);
  if (!forgotten && !Drifted()) return;
  for (const auto& [shape, of] : shapes_) {
    of->typical_count = of->count;
    of->typical_memory_mib = of->memory_mib;
  }
  ++version_;
}

bool Demand::Drifted() const {
  constexpr int64_t kMillion = 1'000'000;
  int64_t now = 0;
  int64_t then = 0;
  for (const auto& [shape, of] : shapes_) {
    now += of->count * shape.weight();
    then += of->typical_count * shape.weight();
  }
  if (then == 0) return now > 0;
  int64_t apart = 0;
  for (const auto& [shape, of] : shapes_) {
    const int64_t part = of->count * shape.weight() * kMillion / now;
    const int64_t typical = of->typical_count * shape.weight() * kMillion / then;
    apart += part < typical ? typical - part : part - typical;
    if (of->count == 0 || of->typical_count == 0) continue;
    const int64_t memory = of->memory_mib / of->count;
    const int64_t usual = of->typical_memory_mib / of->typical_count;
    if (memory * 8 > usual * 9 || memory * 9 < usual * 8) apart += std::min(part, typical);
  }
  return apart >= kDriftPpm;
}

bool Demand::Restore(const DemandShape& shape, const DemandCount& count) {
  constexpr int64_t kMemoryMax = kMemoryBytesMax / kMib;
  const auto sensible = [](int64_t counted, int64_t memory) {
    return counted >= 0 && counted <= 2 * kHalveAt && memory >= 0 && memory <= counted * kMemoryMax;
  };
  if (shape.gpus <= 0 || shape.cpus < 0 || count.count == 0 || shapes_.size() >= kShapesMax) {
    return false;
  }
  if (!shape.kinds.key.empty() && shape.kinds.key != kKindLabel) return false;
  if (!sensible(count.count, count.memory_mib)) return false;
  if (!sensible(count.typical_count, count.typical_memory_mib)) return false;
  std::unique_ptr<DemandCount>& slot = shapes_[shape];
  if (slot != nullptr) return false;
  slot = std::make_unique<DemandCount>(count);
  counted_ += count.count;
  return true;
}

void Demand::Restored() {
  next_look_ = EndOfStep(counted_);
  ++version_;
}

void Demand::CheckInvariants() const {
  int64_t counted = 0;
  for (const auto& [shape, of] : shapes_) {
    MUSTER_CHECK(of->count > 0);
    MUSTER_CHECK(of->typical_count >= 0);
    MUSTER_CHECK(shape.gpus > 0);
    counted += of->count;
  }
  MUSTER_CHECK(counted == counted_);
  MUSTER_CHECK(shapes_.size() <= kShapesMax);
}

// --- What is typical ---

TypicalShapes::TypicalShapes(const Demand& demand) {
  for (const auto& [shape, of] : demand.shapes()) {
    if (of->typical_count == 0) continue;
    shapes_.push_back({.shape = shape,
                       .memory_bytes = of->typical_memory_mib / of->typical_count * kMib,
                       .weight = of->typical_count * shape.weight()});
  }
  std::stable_sort(shapes_.begin(), shapes_.end(),
                   [](const Shape& a, const Shape& b) { return a.weight > b.weight; });
  if (shapes_.size() > kMax) shapes_.resize(kMax);
  int64_t sum = 0;
  for (const Shape& shape : shapes_) sum += shape.weight;
  std::vector<std::pair<int64_t, size_t>> cpus, memory, whole, shares;
  for (size_t i = 0; i < shapes_.size(); ++i) {
    Shape& shape = shapes_[i];
    shape.weight = shape.weight * kWeight / sum;
    all_ += shape.weight;
    cpus.emplace_back(shape.shape.cpus, i);
    memory.emplace_back(shape.memory_bytes, i);
    const int64_t gpus = shape.shape.gpus;
    whole.emplace_back(std::max<int64_t>(1, gpus / Amount::kUnit), i);
    if (gpus < Amount::kUnit) shares.emplace_back(gpus, i);
    for (size_t bits = 0; bits < 256; ++bits) {
      if ((bits >> (i % 8) & 1) != 0) weights_[i / 8][bits] += static_cast<uint32_t>(shape.weight);
    }
  }
  by_cpus_.Make(std::move(cpus));
  by_memory_.Make(std::move(memory));
  by_whole_.Make(std::move(whole));
  by_share_.Make(std::move(shares));
}

void TypicalShapes::Steps::Make(std::vector<std::pair<int64_t, size_t>> shapes) {
  std::sort(shapes.begin(), shapes.end());
  from = {-1};
  sets = {Set{}};
  for (const auto& [amount, shape] : shapes) {
    if (amount != from.back()) {
      from.push_back(amount);
      sets.push_back(Set(sets.back()));
    }
    sets.back()[shape / 64] |= uint64_t{1} << (shape % 64);
  }
  from.resize(std::bit_ceil(from.size()), std::numeric_limits<int64_t>::max());  // For At().
}

const TypicalShapes::Set& TypicalShapes::Steps::At(int64_t amount) const {
  // The last that is no larger, by halves, without a branch that could be guessed wrong.
  size_t at = 0;
  for (size_t half = from.size() / 2; half > 0; half /= 2) {
    at += from[at + half] <= amount ? half : 0;
  }
  return sets[at];
}

TypicalShapes::Set TypicalShapes::OfKind(const std::string* kind) const {
  Set set{};
  for (size_t i = 0; i < shapes_.size(); ++i) {
    if (shapes_[i].shape.Accepts(kind)) set[i / 64] |= uint64_t{1} << (i % 64);
  }
  return set;
}

int64_t TypicalShapes::WeightOf(const Set& set) const {
  int64_t weight = 0;
  for (size_t word = 0; word < set.size(); ++word) {
    if (set[word] == 0) continue;
    for (size_t i = 0; i < 8; ++i) weight += weights_[word * 8 + i][set[word] >> (i * 8) & 0xFF];
  }
  return weight;
}

int64_t TypicalShapes::Waste(const Set& kind, int64_t cpus, int64_t memory_bytes, int64_t whole,
                             absl::Span<const uint16_t> left) const {
  if (shapes_.empty()) return 0;
  const Set& by_cpus = by_cpus_.At(cpus);
  const Set& by_memory = by_memory_.At(memory_bytes);
  const Set& by_whole = by_whole_.At(whole);
  const Set& by_share = by_share_.At(left.empty() ? 0 : left.back());
  Set room;
  for (size_t i = 0; i < room.size(); ++i) {
    room[i] = kind[i] & by_cpus[i] & by_memory[i] & (by_whole[i] | by_share[i]);
  }
  int64_t free = whole * Amount::kUnit;
  int64_t too_little = 0;
  uint16_t last = 0;
  int64_t weight = 0;  // Of what has no room on a device with so much left.
  for (const uint16_t share : left) {
    free += share;
    if (share != last) {
      last = share;
      const Set& fit = by_share_.At(share);
      Set not_there;
      for (size_t i = 0; i < room.size(); ++i) not_there[i] = room[i] & ~fit[i];
      weight = WeightOf(not_there);
    }
    too_little += share * weight;
  }
  return free * (all_ - WeightOf(room)) + too_little;
}

}  // namespace muster::sched
