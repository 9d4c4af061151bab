// Equal bundles of whole GPUs with one choice, now: by the domains' buckets, so that few nodes are
// looked at. group_placer.cc places all others.
#include <algorithm>
#include <limits>

#include "scheduler/base/check.h"
#include "scheduler/group_placer.h"

namespace muster::sched {

using Within = Level::Within;

bool GroupPlacer::FindSimpleInSome(const ShapePlan& shape, const LevelPlan& level,
                                   const Topology& topology) {
  const std::vector<Domain>& domains = topology.domains(level.same_key);
  const int64_t needed =
      shape.kinds[0].choices->front().resources.gpus / Amount::kUnit * shape.bundles;
  // Domains are in order of their first nodes: of equals the first stays.
  std::pair<int64_t, int> last = {-1, -1};
  while (true) {
    std::pair<int64_t, int> best = {std::numeric_limits<int64_t>::max(), -1};
    for (int i = 0; i < static_cast<int>(domains.size()); ++i) {
      const int64_t empty = domains[i].empty_devices;
      if (empty < needed || empty >= best.first) continue;
      if (const std::pair<int64_t, int> key = {empty, i}; last < key) best = key;
    }
    if (best.second < 0) return false;
    if (FindSimple(domains[best.second], shape, level.level.within)) return true;
    last = best;
  }
}

bool GroupPlacer::FindSimple(const Domain& domain, const ShapePlan& shape, Within within) {
  const BundleKind& kind = shape.kinds[0];
  const int each = static_cast<int>(kind.choices->front().resources.gpus / Amount::kUnit);
  taken_.clear();
  // What the buckets alone could hold.
  int64_t nodes = 0;
  int64_t bundles = 0;
  int most = 0;
  for (int bucket = 1 + each; bucket < static_cast<int>(domain.buckets.size()); ++bucket) {
    if (domain.buckets[bucket].count == 0) continue;
    most = (bucket - 1) / each;
    nodes += domain.buckets[bucket].count;
    bundles += int64_t{most} * domain.buckets[bucket].count;
  }
  if (bundles < shape.bundles) return false;
  switch (within) {
    case Within::kPack:
      return PackSimple(domain, kind, most);
    case Within::kStrictPack:
      return most >= shape.bundles && PackSimple(domain, kind, -1);
    case Within::kSpread:
      return SpreadSimple(domain, kind, /*strict=*/false);
    case Within::kStrictSpread:
      return nodes >= shape.bundles && SpreadSimple(domain, kind, /*strict=*/true);
    case Within::kSpreadLabel:
      break;
  }
  return false;
}

// `most_on_one` < 0: all on one node.
bool GroupPlacer::PackSimple(const Domain& domain, const BundleKind& kind, int most_on_one) {
  const Resources& needs = kind.choices->front().resources;
  const int each = static_cast<int>(needs.gpus / Amount::kUnit);
  const int buckets = static_cast<int>(domain.buckets.size());
  int missing = static_cast<int>(kind.bundles.size());
  int target = most_on_one < 0 ? missing : std::min(missing, most_on_one);
  const int first_target = target;
  while (missing > 0 && target > 0) {
    // The smallest nodes that hold `target` more, each once.
    for (int bucket = 1 + target * each; bucket < buckets && target <= missing; ++bucket) {
      const Domain::Bucket& among = domain.buckets[bucket];
      if (among.count == 0) continue;
      for (int at = among.nodes.Next(0); at >= 0 && target <= missing;
           at = among.nodes.Next(at + 1)) {
        Node* const node = domain.nodes[at];
        if (!node->usable() || !SelectorIndex::Selected(*node, kind.selectors[0])) continue;
        if (node->free.Count(needs, target) < target) continue;
        const bool used = target < first_target &&
                          std::any_of(taken_.begin(), taken_.end(),
                                      [&](const auto& taken) { return taken.first == node; });
        if (used) continue;
        taken_.emplace_back(node, target);
        missing -= target;
        if (missing == 0) return true;
      }
    }
    if (most_on_one < 0) return false;
    target = std::min(target - 1, missing);
  }
  return missing == 0;
}

bool GroupPlacer::SpreadSimple(const Domain& domain, const BundleKind& kind, bool strict) {
  const Resources& needs = kind.choices->front().resources;
  const int each = static_cast<int>(needs.gpus / Amount::kUnit);
  const int buckets = static_cast<int>(domain.buckets.size());
  int missing = static_cast<int>(kind.bundles.size());
  for (int round = 1; round * each + 1 < buckets && missing > 0; ++round) {
    for (int bucket = 1 + round * each; bucket < buckets; ++bucket) {
      const Domain::Bucket& among = domain.buckets[bucket];
      if (among.count == 0) continue;
      for (int at = among.nodes.Next(0); at >= 0; at = among.nodes.Next(at + 1)) {
        Node* const node = domain.nodes[at];
        if (!node->usable() || !SelectorIndex::Selected(*node, kind.selectors[0])) continue;
        if (node->free.Count(needs, round) < round) continue;
        taken_.emplace_back(node, 1);
        if (--missing == 0) return true;
      }
    }
    if (strict) break;
  }
  return false;
}

void GroupPlacer::NumberSimple(const ShapePlan& shape, const Topology& topology, GroupRoom& room) {
  std::sort(taken_.begin(), taken_.end(),
            [&](const auto& a, const auto& b) { return topology.Before(*a.first, *b.first); });
  room.rooms.assign(static_cast<size_t>(shape.bundles), Room{});
  size_t next = 0;
  for (const auto& [node, count] : taken_) {
    for (int i = 0; i < count; ++i) room.rooms[next++] = {.node = node, .choice = 0};
  }
  MUSTER_CHECK(next == room.rooms.size());
}

}  // namespace muster::sched
