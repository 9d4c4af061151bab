#include "scheduler/packing.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "scheduler/base/check.h"
#include "scheduler/node.h"
#include "scheduler/prefetch.h"

namespace muster::sched {
namespace {

constexpr size_t kSparesMax = 256;

// The least amount that its step stands for.
int64_t MemoryFloor(int64_t bytes) {
  if (bytes < 4) return std::max<int64_t>(bytes, 0);
  const int shift = static_cast<int>(std::bit_width(static_cast<uint64_t>(bytes))) - 3;
  return bytes >> shift << shift;
}

size_t RecentPlace(const PackState& state) {
  const uint64_t bits = state.key.bits() ^ static_cast<uint64_t>(state.memory_bytes) << 1 ^
                        reinterpret_cast<uintptr_t>(state.kind);
  return static_cast<size_t>(bits * 0x9E3779B97F4A7C15u >> 48);
}

// False: whatever has room in the state `now` had room before.
bool HoldsMore(const PackState& now, const PackState& before) {
  const auto most = [](const PackState& state) {
    return state.left.empty() ? 0 : state.left.back();
  };
  return now.key.HasMoreThan(before.key) || most(now) > most(before);
}

bool Before(const PackBucket& a, const PackBucket& b) {
  return std::tie(a.state.key, a.state.memory_bytes, a.state.devices, a.state.left) <
         std::tie(b.state.key, b.state.memory_bytes, b.state.devices, b.state.left);
}

}  // namespace

// --- Filing ---

void Packing::Add(Node* node) {
  node->repack = false;
  Enter(*node);
  File(*node, StateOf(*node));
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
  filed_.clear();
  recent_ = {};
  empty_ = 0;
  spare_.clear();
  changed_.clear();
  risen_.Clear();
  kinds_.clear();
  devices_ = 0;
  KindsChanged();
  pressure_known_ = false;
}

void Packing::KindsChanged() const {
  ++kinds_version_;
  rankings_.clear();
  ranked_ = 0;
  for (const auto& [value, kind] : kinds_) {
    kind->lists.clear();
    kind->new_states.clear();
  }
}

void Packing::StatesChanged() const {
  ++states_version_;
  ++order_version_;
}

void Packing::Changed(Node* node) {
  PrefetchLines(&filed_[node->row], 1);  // Read once it is filed anew.
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

void Packing::FileAnew() const {
  for (Node* node : changed_) {
    node->repack = false;
    const PackState state = StateOf(*node);
    const PackState& before = filed_[node->row]->state;
    if (state == before) continue;
    if (HoldsMore(state, before)) risen_.Note(node->row, state.key);
    Unfile(*node);
    File(*node, state);
  }
  changed_.clear();
}

void Packing::File(const Node& node, const PackState& state) const {
  PackBucket*& recent = recent_[RecentPlace(state) % kRecent];
  if (recent == nullptr || !(recent->state == state)) recent = BucketOf(state);
  PackBucket* const bucket = recent;
  if (bucket->rows.empty()) --empty_;
  bucket->rows.Add(node.row);
  if (node.row >= filed_.size()) filed_.resize(node.row + 1);
  filed_[node.row] = bucket;
}

PackBucket* Packing::BucketOf(const PackState& state) const {
  const auto known = buckets_.find(state);
  if (known != buckets_.end()) return known->second.get();
  std::unique_ptr<PackBucket> made;
  if (spare_.empty()) {
    made = std::make_unique<PackBucket>();
  } else {
    made = std::move(spare_.back());
    spare_.pop_back();
    made->known.fill({});
    made->waste_version = 0;
  }
  PackBucket* const bucket = made.get();
  bucket->state = state;
  auto& walk = state.kind->buckets;
  const auto place =
      std::lower_bound(walk.begin(), walk.end(), bucket,
                       [](const auto& entry, PackBucket* b) { return Before(*entry.second, *b); });
  walk.insert(place, {state.key, bucket});
  buckets_.emplace(state, std::move(made));
  ++empty_;
  state.kind->new_states.push_back(bucket);
  StatesChanged();
  return bucket;
}

void Packing::Unfile(const Node& node) const {
  PackBucket* const bucket = std::exchange(filed_[node.row], nullptr);
  bucket->rows.Remove(node.row);
  if (!bucket->rows.empty()) return;
  if (++empty_ > kEmptyMax) Purge();
}

void Packing::Purge() const {
  if (empty_ == 0) return;
  recent_ = {};
  const auto is_empty = [](const PackBucket* bucket) { return bucket->rows.empty(); };
  const auto drop_empty = [&](std::vector<PackList::Ranked>& ranked) {
    ranked_ -= std::erase_if(ranked, [&](const auto& each) { return is_empty(each.bucket); });
  };
  for (const auto& [value, kind] : kinds_) {
    std::erase_if(kind->buckets, [&](const auto& entry) { return is_empty(entry.second); });
    auto& fresh = kind->new_states;
    for (const auto& [of, list] : kind->lists) {
      drop_empty(list->ranked);
      const auto seen = fresh.begin() + static_cast<std::ptrdiff_t>(list->seen);
      list->seen -= static_cast<size_t>(std::count_if(fresh.begin(), seen, is_empty));
    }
    std::erase_if(fresh, is_empty);
  }
  for (const auto& [key, ranking] : rankings_) drop_empty(ranking->merged);
  for (auto next = buckets_.begin(); next != buckets_.end();) {
    const auto here = next++;
    if (!here->second->rows.empty()) continue;
    if (spare_.size() < kSparesMax) spare_.push_back(std::move(here->second));
    buckets_.erase(here);
  }
  empty_ = 0;
}

// --- What follows from the demand ---

void Packing::Refresh() const {
  if (typical_of_ != demand_.version()) {
    typical_of_ = demand_.version();
    ++version_;
    StatesChanged();
    typical_ = TypicalShapes(demand_);
    for (const auto& [value, kind] : kinds_) {
      kind->typical = typical_.OfKind(kind->text());
      kind->new_states.clear();
      for (const auto& [needs, list] : kind->lists) list->seen = 0;
    }
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
  if (!same) ++order_version_;
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
    for (size_t i = 0; i < kind->buckets.size(); ++i) {
      const PackBucket& bucket = *kind->buckets[i].second;
      MUSTER_CHECK(bucket.state.kind == kind.get());
      if (bucket.rows.empty()) ++empty;
      if (i > 0) MUSTER_CHECK(Before(*kind->buckets[i - 1].second, bucket));
      filed += bucket.rows.size();
    }
  }
  MUSTER_CHECK(walked == buckets_.size());
  MUSTER_CHECK(empty == empty_ && empty <= kEmptyMax);
  MUSTER_CHECK(filed == nodes.size());
  int64_t devices = 0;
  for (const Node* node : nodes) {
    devices += node->total.gpu_devices;
    MUSTER_CHECK(!node->repack);
    MUSTER_CHECK(filed_[node->row]->state == StateOf(*node));
    MUSTER_CHECK(filed_[node->row]->rows.Contains(node->row));
    const std::string* const value = node->labels.Find(kKindLabel);
    MUSTER_CHECK((value == nullptr) == (node->kind->text() == nullptr));
    if (value != nullptr) MUSTER_CHECK(*value == *node->kind->text());
  }
  MUSTER_CHECK(devices == devices_);
}

}  // namespace muster::sched
