// What is free of the nodes, in best-fit order: finds the best node for a shape among the rows that
// a selector matches, without looking at the others.
//
// Nodes are filed by FreeKey, and those with a GPU in use in part also by what is left of it. A
// change of a node's `free` is noticed by itself (Capacity::Watch) and filed before the next
// search, or when asked to. Whether a node may be used at all is asked of the node when it is a
// candidate, so it may change at any time. Cost of a search: the buckets between what is needed and
// what is found, times the blocks that bucket and selector have in common; not the number of nodes.
//
// Thread-safety: none; searches file what has changed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "scheduler/free_key.h"
#include "scheduler/node.h"
#include "scheduler/node_rows.h"
#include "scheduler/packing.h"
#include "scheduler/risen_rows.h"
#include "scheduler/row_set.h"

namespace muster::sched {

// Row sets by key, in order of key, empty ones left out.
template <typename Key>
class Buckets {
 public:
  using Map = absl::btree_map<Key, std::unique_ptr<RowSet>>;

  void Add(const Key& key, Row row) {
    std::unique_ptr<RowSet>& rows = sets_[key];
    if (rows == nullptr) {
      if (spare_.empty()) {
        rows = std::make_unique<RowSet>();
      } else {
        rows = std::move(spare_.back());
        spare_.pop_back();
      }
    }
    rows->Add(row);
  }

  void Remove(const Key& key, Row row) {
    const auto place = sets_.find(key);
    place->second->Remove(row);
    if (!place->second->empty()) return;
    if (spare_.size() < kSparesMax) spare_.push_back(std::move(place->second));
    sets_.erase(place);
  }

  void Clear() { sets_.clear(); }

  // The first whose key is not below `key`.
  typename Map::const_iterator From(const Key& key) const { return sets_.lower_bound(key); }
  const Map& all() const { return sets_; }

 private:
  static constexpr size_t kSparesMax = 64;

  Map sets_;
  std::vector<std::unique_ptr<RowSet>> spare_;  // Empty.
};

class CapacityIndex {
 public:
  explicit CapacityIndex(const NodeRows& rows) : rows_(rows), packing_(rows) {}

  void Add(Node* node);
  void Remove(Node* node);
  void Clear();                                           // Before all nodes are given other rows.
  void Changed(Node* node) { changed_.push_back(node); }  // Its `free`.
  void FileChanged() const {                              // So that the next search need not.
    if (!changed_.empty()) FileAnew();
  }

  // The same nodes by other policies.
  Packing& packing() { return packing_; }
  const Packing& packing() const { return packing_; }

  // The best node now for `needs` among `matched`, or null; see scheduler.h for what best is.
  Node* BestFit(const MatchedRows& matched, const Resources& needs) const;

  // What BestFit() finds, if that node has room: it is on its way from memory, and not looked at.
  // Null: no key of a matched node may hold so much; nor does one until some have risen.
  Node* Likely(const MatchedRows& matched, const Resources& needs) const;

  // Once filed: the rows that hold more than before.
  const RisenRows& risen() const { return risen_; }

  // Calls visit(Node&) for every usable node of `matched` with room for `needs` now, from the best
  // on, until it returns false. Nodes that are equal to best fit (Capacity::ScoreFor) come in no
  // order that means anything: who keeps the best of what it saw compares ids itself.
  template <typename Visit>
  void ForEachRoom(const MatchedRows& matched, const Resources& needs, Visit&& visit) const;

  // A node of `matched` that could hold `needs` if nothing ran there, usable now or not; null:
  // none.
  Node* AnyEver(const MatchedRows& matched, const Resources& needs) const;

  // The nodes with one total, and as many devices out; see Node::shape.
  NodeShape* UseShape(const NodeResources& total, int devices_out = 0);
  void ReleaseShape(NodeShape* shape);
  void Reshape(Node* node, int devices_out);  // It has so many devices out now.

  void CheckInvariants(const std::vector<Node*>& nodes) const;

 private:
  // A device's free share, and the node's key.
  struct ShareKey {
    int64_t left = 0;
    FreeKey node;
    friend bool operator==(const ShareKey& a, const ShareKey& b) {
      return a.left == b.left && a.node == b.node;
    }
    friend bool operator<(const ShareKey& a, const ShareKey& b) {
      return a.left != b.left ? a.left < b.left : a.node < b.node;
    }
  };

  using ShapeKey = std::pair<NodeResources, int>;
  struct ShapeLess {
    bool operator()(const ShapeKey& left, const ShapeKey& right) const {
      const NodeResources& a = left.first;
      const NodeResources& b = right.first;
      return std::tie(a.gpu_devices, a.cpus, a.memory_bytes, left.second, a.custom) <
             std::tie(b.gpu_devices, b.cpus, b.memory_bytes, right.second, b.custom);
    }
  };

  void FileAnew() const;
  void File(Node& node) const;
  void Unfile(Node& node) const;
  // The buckets that may have room, in order: walk(bucket, left) until it returns false. `left` is
  // what is free of the device that a share would go to.
  template <typename Walk>
  void WalkBuckets(const Resources& needs, Walk&& walk) const;
  template <typename Ok>
  Node* BestListed(const std::vector<Row>& list, const Resources& needs, Ok&& ok) const;
  Node* BestListedShare(const std::vector<Row>& list, const Resources& needs) const;

  const NodeRows& rows_;
  Packing packing_;
  mutable std::vector<FreeKey> keys_;  // By row, under which its node is filed.
  mutable RisenRows risen_;
  mutable Buckets<FreeKey> by_free_;
  mutable Buckets<ShareKey> by_share_;
  mutable std::vector<Node*> changed_;  // To be filed anew.
  absl::btree_map<ShapeKey, std::unique_ptr<NodeShape>, ShapeLess> shapes_;
};

template <typename Walk>
void CapacityIndex::WalkBuckets(const Resources& needs, Walk&& walk) const {
  const FreeKey::Least least = FreeKey::LeastFor(needs);
  if (needs.gpus > 0 && needs.gpus < Amount::kUnit) {
    const ShareKey first{.left = needs.gpus, .node = FreeKey::FirstWithGpus(0)};
    for (auto next = by_share_.From(first); next != by_share_.all().end(); ++next) {
      if (next->first.node.MayHoldWithoutGpus(least) && !walk(*next->second, next->first.left))
        return;
    }
  }
  // A share takes an empty device where none in use has room for it.
  const int64_t whole = (needs.gpus + Amount::kUnit - 1) / Amount::kUnit;
  auto next = whole > 0 ? by_free_.From(FreeKey::FirstWithGpus(whole * Amount::kUnit))
                        : by_free_.all().begin();
  for (; next != by_free_.all().end(); ++next) {
    if (next->first.whole_gpus() < whole || !next->first.MayHoldWithoutGpus(least)) continue;
    if (!walk(*next->second, Amount::kUnit)) return;
  }
}

template <typename Visit>
void CapacityIndex::ForEachRoom(const MatchedRows& matched, const Resources& needs,
                                Visit&& visit) const {
  FileChanged();
  const bool share = needs.gpus > 0 && needs.gpus < Amount::kUnit;
  WalkBuckets(needs, [&](const RowSet& bucket, int64_t left) {
    return VisitCommon(bucket, matched, [&](Row row) {
      Node& node = *rows_.node(row);
      if (!node.usable() || !node.free.Fits(needs)) return true;
      // A node is filed under each of its devices that are in use, and under its empty ones.
      if (share && node.free.devices().LeftOnDevice(needs.gpus) != left - needs.gpus) return true;
      return visit(node);
    });
  });
}

}  // namespace muster::sched
