#include "scheduler/capacity_index.h"

#include "scheduler/base/check.h"
#include "scheduler/lowest_id.h"
#include "scheduler/prefetch.h"

namespace muster::sched {
namespace {

bool IsShare(const Resources& needs) { return needs.gpus > 0 && needs.gpus < Amount::kUnit; }

}  // namespace

void CapacityIndex::Add(Node* node) {
  node->filed_in = this;
  node->changed = false;
  node->free.BeginWatch(node);
  node->shape->rows.Add(node->row);
  File(*node);
  packing_.Add(node);
}

void CapacityIndex::Remove(Node* node) {
  if (node->changed) FileChanged();  // There may be many, where other searches are rare.
  packing_.Remove(node);
  node->free.BeginWatch(nullptr);
  node->shape->rows.Remove(node->row);
  Unfile(*node);
}

void CapacityIndex::Clear() {
  packing_.Clear();
  keys_.clear();
  by_free_.Clear();
  by_share_.Clear();
  changed_.clear();
  risen_.Clear();
  for (const auto& [total, shape] : shapes_) shape->rows = RowSet();
}

void CapacityIndex::FileAnew() const {
  for (Node* node : changed_) {
    node->changed = false;
    if (node->filed_shares.empty() && !node->free.devices().shared()) {
      FreeKey& filed = keys_[node->row];
      const FreeKey key = node->free.key();
      if (key == filed) continue;
      by_free_.Remove(filed, node->row);
      by_free_.Add(key, node->row);
      if (key.HasMoreThan(filed)) risen_.Note(node->row, key);
      filed = key;
      continue;
    }
    Unfile(*node);
    File(*node);
    risen_.Note(node->row, keys_[node->row]);  // One device may have more while the key has not.
  }
  changed_.clear();
}

void CapacityIndex::File(Node& node) const {
  node.filed_shares.clear();
  const FreeKey key = node.free.key();
  if (node.row >= keys_.size()) keys_.resize(node.row + 1);
  keys_[node.row] = key;
  by_free_.Add(key, node.row);
  const Devices& devices = node.free.devices();
  if (!devices.shared()) return;
  for (int device = 0; device < devices.count(); ++device) {
    const int64_t left = devices.free(device);
    if (left > 0 && left < Amount::kUnit) node.filed_shares.push_back(static_cast<uint16_t>(left));
  }
  auto& shares = node.filed_shares;
  std::sort(shares.begin(), shares.end());
  shares.erase(std::unique(shares.begin(), shares.end()), shares.end());
  for (const uint16_t left : shares) by_share_.Add({.left = left, .node = key}, node.row);
}

void CapacityIndex::Unfile(Node& node) const {
  const FreeKey key = keys_[node.row];
  by_free_.Remove(key, node.row);
  for (const uint16_t left : node.filed_shares) {
    by_share_.Remove({.left = left, .node = key}, node.row);
  }
  node.filed_shares.clear();
}

// By the keys that the nodes are filed under, so that few of them are looked at.
template <typename Ok>
Node* CapacityIndex::BestListed(const std::vector<Row>& list, const Resources& needs,
                                Ok&& ok) const {
  const FreeKey::Least least = FreeKey::LeastFor(needs);
  Row best = kNoRow;
  FreeKey best_key;
  for (const Row row : list) {
    const FreeKey key = keys_[row];
    if (!key.MayHold(least)) continue;
    const bool better =
        best == kNoRow || key < best_key || (key == best_key && rows_.id(row) < rows_.id(best));
    if (!better || !ok(row)) continue;
    best = row;
    best_key = key;
  }
  return best == kNoRow ? nullptr : rows_.node(best);
}

// What is left of single devices is no part of a key.
Node* CapacityIndex::BestListedShare(const std::vector<Row>& list, const Resources& needs) const {
  Node* best = nullptr;
  Capacity::Score best_score;
  for (const Row row : list) {
    Node* const node = rows_.node(row);
    if (!node->usable() || !node->free.Fits(needs)) continue;
    const Capacity::Score score = node->free.ScoreFor(needs);
    if (best != nullptr) {
      if (best_score < score || (score == best_score && best->id < node->id)) continue;
    }
    best = node;
    best_score = score;
  }
  return best;
}

Node* CapacityIndex::BestFit(const MatchedRows& matched, const Resources& needs) const {
  FileChanged();
  const auto has_room = [&](Row row) {
    const Node* const node = rows_.node(row);
    node->Prefetch();
    return node->usable() && node->free.Fits(needs);
  };
  if (matched.listed()) {
    return IsShare(needs) ? BestListedShare(matched.list(), needs)
                          : BestListed(matched.list(), needs, has_room);
  }
  LowestRow best;
  WalkBuckets(needs, [&](const RowSet& bucket, int64_t) {
    return !FindLowestId(rows_, bucket, matched, best, has_room);
  });
  return best.row == kNoRow ? nullptr : rows_.node(best.row);
}

Node* CapacityIndex::Likely(const MatchedRows& matched, const Resources& needs) const {
  FileChanged();
  const auto any = [](Row) { return true; };
  if (matched.listed()) {
    Node* const best = IsShare(needs) ? BestListedShare(matched.list(), needs) : nullptr;
    return best != nullptr ? best : BestListed(matched.list(), needs, any);
  }
  LowestRow likely;
  WalkBuckets(needs, [&](const RowSet& bucket, int64_t) {
    return !FindLowestId(rows_, bucket, matched, likely, any);
  });
  if (likely.row == kNoRow) return nullptr;
  PrefetchLines(&keys_[likely.row], 1);
  Node* const node = rows_.node(likely.row);
  node->Prefetch();
  return node;
}

Node* CapacityIndex::AnyEver(const MatchedRows& matched, const Resources& needs) const {
  Node* found = nullptr;
  for (const auto& [total, shape] : shapes_) {
    if (!shape->empty.Fits(needs)) continue;
    VisitCommon(shape->rows, matched, [&](Row row) {
      found = rows_.node(row);
      return false;
    });
    if (found != nullptr) break;
  }
  return found;
}

NodeShape* CapacityIndex::UseShape(const NodeResources& total, int devices_out) {
  std::unique_ptr<NodeShape>& shape = shapes_[{total, devices_out}];
  if (shape == nullptr) shape = std::make_unique<NodeShape>(total, devices_out);
  ++shape->nodes;
  return shape.get();
}

void CapacityIndex::ReleaseShape(NodeShape* shape) {
  if (--shape->nodes == 0) shapes_.erase({shape->total, shape->devices_out});
}

void CapacityIndex::Reshape(Node* node, int devices_out) {
  node->shape->rows.Remove(node->row);
  if (node->shape != &node->whole) ReleaseShape(node->shape);
  node->shape = devices_out == 0 ? &node->whole : UseShape(node->total, devices_out);
  node->shape->rows.Add(node->row);
}

void CapacityIndex::CheckInvariants(const std::vector<Node*>& nodes) const {
  FileChanged();
  size_t filed = 0;
  size_t shares = 0;
  for (const auto& [key, bucket] : by_free_.all()) filed += bucket->size();
  for (const auto& [key, bucket] : by_share_.all()) shares += bucket->size();
  MUSTER_CHECK(filed == nodes.size());
  for (const Node* node : nodes) {
    MUSTER_CHECK(node->filed_in == this);
    MUSTER_CHECK(rows_.node(node->row) == node);
    MUSTER_CHECK(rows_.id(node->row) == node->id);
    const FreeKey key = keys_[node->row];
    MUSTER_CHECK(key == node->free.key());
    const auto bucket = by_free_.From(key);
    MUSTER_CHECK(bucket != by_free_.all().end());
    MUSTER_CHECK(bucket->first == key);
    MUSTER_CHECK(bucket->second->Contains(node->row));
    MUSTER_CHECK(node->shape->rows.Contains(node->row));
    MUSTER_CHECK(shares >= node->filed_shares.size());
    shares -= node->filed_shares.size();
    for (int device = 0; device < node->free.devices().count(); ++device) {
      const int64_t left = node->free.devices().free(device);
      if (left == 0 || left == Amount::kUnit) continue;
      const auto of_share = by_share_.From({.left = left, .node = key});
      MUSTER_CHECK(of_share != by_share_.all().end());
      MUSTER_CHECK(of_share->first.left == left);
      MUSTER_CHECK(of_share->second->Contains(node->row));
    }
  }
  MUSTER_CHECK(shares == 0);
  packing_.CheckInvariants(nodes);
}

}  // namespace muster::sched
