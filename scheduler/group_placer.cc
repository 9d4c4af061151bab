#include "scheduler/group_placer.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace muster::sched {
namespace {

using Within = Level::Within;

int ChoicesOf(const BundleKind& kind, int limit) {
  return std::min(limit, static_cast<int>(kind.choices->size()));
}

// A choice that has room in `capacity` of `node`, at or after `from`; -1: none.
int ChoiceFor(const BundleKind& kind, int limit, const Node& node, const Capacity& capacity,
              int from = 0) {
  for (int i = from; i < ChoicesOf(kind, limit); ++i) {
    if (SelectorIndex::Selected(node, kind.selectors[i]) &&
        capacity.Fits((*kind.choices)[i].resources)) {
      return i;
    }
  }
  return -1;
}

// Up to `most` bundles of the kind on a node, each by the first of its choices from `start` on that
// has room; by the start that holds the most, the lowest on ties.
struct KindFilling {
  int bundles = 0;
  int start = 0;
};
KindFilling FillKind(const BundleKind& kind, int limit, const Node& node, const Capacity& capacity,
                     int most) {
  KindFilling best;
  const int choices = ChoicesOf(kind, limit);
  for (int start = 0; start < choices && best.bundles < most; ++start) {
    if (start + 1 == choices) {
      if (!SelectorIndex::Selected(node, kind.selectors[start])) break;
      const int held = static_cast<int>(capacity.Count((*kind.choices)[start].resources, most));
      if (held > best.bundles) best = {.bundles = held, .start = start};
      break;
    }
    Capacity left = capacity;
    int held = 0;
    for (int choice = start; held < most; ++held) {
      choice = ChoiceFor(kind, limit, node, left, choice);
      if (choice < 0) break;
      left.Take((*kind.choices)[choice].resources);
    }
    if (held > best.bundles) best = {.bundles = held, .start = start};
  }
  return best;
}

bool HasGpus(const Domain& domain) { return domain.buckets.size() > 2; }

constexpr int kAllChoices = std::numeric_limits<int>::max();

int LimitOf(const GroupPlan& plan, int open) { return plan.choices_open ? open : kAllChoices; }

}  // namespace

// --- Any bundles, anything free ---

struct GroupPlacer::Search {
  const ShapePlan& shape;
  const LevelPlan& level;
  const int limit;  // Of choices.
  const Topology& topology;
  std::vector<Slot>& slots;
  const Survivors* const survivors;

  std::vector<int> missing{};              // By kind.
  std::vector<std::vector<Pick>> picks{};  // By kind.
  int64_t tried = 0;

  bool Run() {
    int all = 0;
    for (const BundleKind& kind : shape.kinds) {
      int lost = 0;
      for (const int bundle : kind.bundles) {
        if (survivors == nullptr || survivors->nodes[bundle] == nullptr) ++lost;
      }
      missing.push_back(lost);
      all += lost;
    }
    picks.resize(shape.kinds.size());
    switch (level.level.within) {
      case Within::kPack:
        return Pack(all) || LayOut();
      case Within::kSpread:
        return Spread() || LayOut();
      case Within::kStrictPack:
        return StrictPack(all);
      case Within::kStrictSpread:
      case Within::kSpreadLabel:
        return EachItsOwn();
    }
    return false;
  }

  // Whether `a` is the smaller node; see group_placer.h.
  bool Smaller(const Slot& a, const Slot& b) const {
    const auto key = [&](const Slot& slot) {
      const bool avoid = !shape.needs_gpus && slot.node->total.gpu_devices > 0;
      return std::make_tuple(avoid, slot.empty, shape.needs_gpus ? 0 : slot.cpus, slot.node->id);
    };
    return key(a) < key(b);
  }

  // How many of the missing bundles the slot can hold; puts them there where asked to.
  int Fill(int slot, bool take) {
    Slot& into = slots[slot];
    Capacity left = into.left;
    int held = 0;
    for (size_t k = 0; k < shape.kinds.size(); ++k) {
      const BundleKind& kind = shape.kinds[k];
      const KindFilling filling = FillKind(kind, limit, *into.node, left, missing[k]);
      held += filling.bundles;
      if (!take && k + 1 == shape.kinds.size()) break;
      int choice = filling.start;
      for (int i = 0; i < filling.bundles; ++i) {
        choice = ChoiceFor(kind, limit, *into.node, left, choice);
        left.Take((*kind.choices)[choice].resources);
        if (!take) continue;
        picks[k].push_back({.slot = slot, .choice = choice});
        --missing[k];
      }
    }
    if (take) {
      into.left = std::move(left);
      into.bundles += held;
    }
    return held;
  }

  bool Pack(int all) {
    for (Slot& slot : slots) slot.at_most = all;
    std::vector<bool> used(slots.size(), false);
    while (all > 0) {
      int best = -1;
      int most = 0;
      for (int i = 0; i < static_cast<int>(slots.size()); ++i) {
        Slot& slot = slots[i];
        const bool nearer = best >= 0 && slots[best].survivor && !slot.survivor;
        if (used[i] || nearer || slot.at_most == 0) continue;
        const bool first = best < 0 || (slot.survivor && !slots[best].survivor);
        if (!first && std::min(slot.at_most, all) < most) continue;
        slot.at_most = Fill(i, /*take=*/false);
        if (slot.at_most == 0) continue;
        const bool better =
            first || slot.at_most > most || (slot.at_most == most && Smaller(slot, slots[best]));
        if (!better) continue;
        best = i;
        most = slot.at_most;
      }
      if (best < 0) return false;
      all -= Fill(best, /*take=*/true);
      used[best] = true;
    }
    return true;
  }

  bool Spread() {
    for (size_t k = 0; k < shape.kinds.size(); ++k) {
      while (missing[k] > 0) {
        int best = -1;
        for (int i = 0; i < static_cast<int>(slots.size()); ++i) {
          const Slot& slot = slots[i];
          if (best >= 0 && slot.bundles > slots[best].bundles) continue;
          if (ChoiceFor(shape.kinds[k], limit, *slot.node, slot.left) < 0) continue;
          if (best < 0 || slot.bundles < slots[best].bundles || Smaller(slot, slots[best])) {
            best = i;
          }
        }
        if (best < 0) return false;
        Put(k, best, ChoiceFor(shape.kinds[k], limit, *slots[best].node, slots[best].left));
      }
    }
    return true;
  }

  void Put(size_t kind, int slot, int choice) {
    slots[slot].left.Take((*shape.kinds[kind].choices)[choice].resources);
    ++slots[slot].bundles;
    picks[kind].push_back({.slot = slot, .choice = choice});
    --missing[kind];
  }

  bool StrictPack(int all) {
    int best = -1;
    for (int i = 0; i < static_cast<int>(slots.size()); ++i) {
      if (survivors != nullptr && !slots[i].survivor) continue;
      if (Fill(i, false) < all) continue;
      if (best < 0 || Smaller(slots[i], slots[best])) best = i;
    }
    if (best < 0) return false;
    if (survivors != nullptr) {
      for (const Node* node : survivors->nodes) {
        if (node != nullptr && node != slots[best].node) return false;
      }
    }
    Fill(best, true);
    return true;
  }

  // --- All ways to lay bundles out, one after another ---

  bool LayOut() {
    const bool single = shape.kinds.size() == 1 && ChoicesOf(shape.kinds[0], limit) == 1;
    if (single) return false;  // The greedy way finds room for these wherever there is some.
    if (!Suffices()) return false;
    for (size_t k = 0; k < picks.size(); ++k) {
      while (!picks[k].empty()) TakeBack(k);
    }
    return LayOutFrom(0, 0);
  }

  // Whether all that is free would do, were it on one node.
  bool Suffices() const {
    Resources sum;
    for (size_t k = 0; k < shape.kinds.size(); ++k) {
      if (ChoicesOf(shape.kinds[k], limit) > 1) return true;
      const Resources& needs = shape.kinds[k].choices->front().resources;
      const int64_t count = missing[k] + static_cast<int64_t>(picks[k].size());
      sum.cpus += needs.cpus * count;
      sum.gpus += needs.gpus * count;
    }
    for (const Slot& slot : slots) {
      const Capacity& free = *view(*slot.node);
      sum.cpus -= std::max(free.cpus(), int64_t{0});
      sum.gpus -= free.devices().free();
    }
    return sum.cpus <= 0 && sum.gpus <= 0;
  }

  void TakeBack(size_t kind) {
    const Pick pick = picks[kind].back();
    picks[kind].pop_back();
    ++missing[kind];
    --slots[pick.slot].bundles;
    // Which device gives way makes no difference to what else fits, so all of it is made again.
    Rebuild(pick.slot);
  }

  void Rebuild(int slot) {
    slots[slot].left = start_of(slot);
    for (size_t k = 0; k < picks.size(); ++k) {
      for (const Pick pick : picks[k]) {
        if (pick.slot == slot) {
          slots[slot].left.Take((*shape.kinds[k].choices)[pick.choice].resources);
        }
      }
    }
  }

  const Capacity& start_of(int slot) {
    if (starts.empty()) {
      starts.reserve(slots.size());
      for (const Slot& each : slots) starts.push_back(*view(*each.node));
    }
    return starts[slot];
  }

  bool LayOutFrom(size_t kind, int from) {
    while (kind < shape.kinds.size() && missing[kind] == 0) {
      ++kind;
      from = 0;
    }
    if (kind == shape.kinds.size()) return true;
    // Equal bundles go to nodes in order: other orders are the same layout.
    for (int i = from; i < static_cast<int>(slots.size()); ++i) {
      for (int choice = 0; tried < kSearchMax; ++choice) {
        ++tried;
        choice = ChoiceFor(shape.kinds[kind], limit, *slots[i].node, slots[i].left, choice);
        if (choice < 0) break;
        Put(kind, i, choice);
        if (LayOutFrom(kind, i)) return true;
        TakeBack(kind);
      }
      if (tried >= kSearchMax) return false;
    }
    return false;
  }

  // --- Each in a bin of its own: a node, or a domain of a label ---

  int BinOf(int slot) const {
    if (level.spread_key < 0) return slot;
    const Domain* const domain = topology.DomainOf(level.spread_key, *slots[slot].node);
    return domain == nullptr ? -1 : NumberOf(domain);
  }
  int NumberOf(const Domain* domain) const {
    return static_cast<int>(domain - topology.domains(level.spread_key).data());
  }

  // The bins that survivors are in; false where two share one.
  bool Occupy(std::vector<bool>& occupied) const {
    if (survivors == nullptr) return true;
    std::vector<Node*> nodes;
    for (Node* node : survivors->nodes) {
      if (node != nullptr) nodes.push_back(node);
    }
    for (size_t i = 0; i < nodes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (nodes[i] == nodes[j]) return false;
      }
      if (level.spread_key >= 0) {
        const Domain* const domain = topology.DomainOf(level.spread_key, *nodes[i]);
        if (domain == nullptr || occupied[NumberOf(domain)]) return false;
        occupied[NumberOf(domain)] = true;
        continue;
      }
      for (size_t slot = 0; slot < slots.size(); ++slot) {
        if (slots[slot].node == nodes[i]) occupied[slot] = true;
      }
    }
    return true;
  }

  bool EachItsOwn() {
    const size_t bins =
        level.spread_key < 0 ? slots.size() : topology.domains(level.spread_key).size();
    std::vector<bool> occupied(bins, false);
    if (!Occupy(occupied)) return false;
    // For each kind the bins that could hold one, by their smallest node that could.
    wanted.assign(shape.kinds.size(), {});
    best_slot.assign(shape.kinds.size(), std::vector<int>(bins, -1));
    for (size_t k = 0; k < shape.kinds.size(); ++k) {
      for (int i = 0; i < static_cast<int>(slots.size()); ++i) {
        const int bin = BinOf(i);
        if (bin < 0 || occupied[bin]) continue;
        if (ChoiceFor(shape.kinds[k], limit, *slots[i].node, slots[i].left) < 0) continue;
        int& best = best_slot[k][bin];
        if (best < 0) wanted[k].push_back(bin);
        if (best < 0 || Smaller(slots[i], slots[best])) best = i;
      }
      std::sort(wanted[k].begin(), wanted[k].end(), [&](int a, int b) {
        return Smaller(slots[best_slot[k][a]], slots[best_slot[k][b]]);
      });
    }
    owner.assign(bins, -1);  // The kind that has the bin.
    for (size_t k = 0; k < shape.kinds.size(); ++k) {
      size_t next = 0;
      for (int left = missing[k]; left > 0; --left) {
        while (next < wanted[k].size() && owner[wanted[k][next]] >= 0) ++next;
        if (next < wanted[k].size()) {
          owner[wanted[k][next]] = static_cast<int>(k);
          continue;
        }
        visited.assign(bins, false);
        if (!MakeWay(static_cast<int>(k))) return false;
      }
    }
    for (size_t bin = 0; bin < bins; ++bin) {
      if (owner[bin] < 0) continue;
      const size_t k = static_cast<size_t>(owner[bin]);
      const int slot = best_slot[k][bin];
      Put(k, slot, ChoiceFor(shape.kinds[k], limit, *slots[slot].node, slots[slot].left));
    }
    return true;
  }

  // An augmenting path: a bundle of `kind` takes a bin whose owner finds another.
  bool MakeWay(int kind) {
    for (const int bin : wanted[kind]) {
      if (visited[bin] || owner[bin] == kind) continue;
      visited[bin] = true;
      if (owner[bin] < 0 || MakeWay(owner[bin])) {
        owner[bin] = kind;
        return true;
      }
    }
    return false;
  }

  void Number(GroupRoom& room) {
    room.rooms.assign(static_cast<size_t>(shape.bundles), Room{});
    for (size_t k = 0; k < picks.size(); ++k) {
      std::stable_sort(picks[k].begin(), picks[k].end(), [&](Pick a, Pick b) {
        return topology.Before(*slots[a.slot].node, *slots[b.slot].node);
      });
      size_t next = 0;
      for (const int bundle : shape.kinds[k].bundles) {
        if (survivors != nullptr && survivors->nodes[bundle] != nullptr) continue;
        const Pick pick = picks[k][next++];
        room.rooms[bundle] = {.node = slots[pick.slot].node, .choice = pick.choice};
      }
    }
  }

  const CapacityView view;
  std::vector<Capacity> starts{};
  std::vector<std::vector<int>> wanted{};
  std::vector<std::vector<int>> best_slot{};
  std::vector<int> owner{};
  std::vector<bool> visited{};
};

namespace {

// The domains of a level in the order in which they are tried.
std::vector<const Domain*> InOrder(const std::vector<Domain>& domains, const ShapePlan& shape,
                                   CapacityView view) {
  using Rank = std::tuple<bool, int64_t, uint64_t, const Domain*>;
  std::vector<Rank> ranks;
  ranks.reserve(domains.size());
  for (const Domain& domain : domains) {
    int64_t free = 0;
    for (const Node* node : domain.nodes) {
      const Capacity* const capacity = view(*node);
      if (capacity == nullptr) continue;
      free += shape.needs_gpus ? capacity->devices().empty_devices() : capacity->cpus();
    }
    ranks.emplace_back(!shape.needs_gpus && HasGpus(domain), free, domain.first().value, &domain);
  }
  std::sort(ranks.begin(), ranks.end(), [](const Rank& a, const Rank& b) {
    return std::tie(std::get<0>(a), std::get<1>(a), std::get<2>(a)) <
           std::tie(std::get<0>(b), std::get<1>(b), std::get<2>(b));
  });
  std::vector<const Domain*> ordered;
  ordered.reserve(ranks.size());
  for (const Rank& rank : ranks) ordered.push_back(std::get<3>(rank));
  return ordered;
}

}  // namespace

bool GroupPlacer::FindIn(const Domain& domain, const GroupPlan& plan, int shape_number,
                         int level_number, int open, const Topology& topology, CapacityView view,
                         GroupRoom& room) {
  const ShapePlan& shape = plan.shapes[shape_number];
  slots_.clear();
  for (Node* node : domain.nodes) {
    const Capacity* const capacity = view(*node);
    if (capacity == nullptr) continue;
    slots_.push_back({.node = node,
                      .left = *capacity,
                      .empty = capacity->devices().empty_devices(),
                      .cpus = capacity->cpus()});
  }
  Search search{.shape = shape,
                .level = shape.levels[level_number],
                .limit = LimitOf(plan, open),
                .topology = topology,
                .slots = slots_,
                .survivors = nullptr,
                .view = view};
  if (!search.Run()) return false;
  room.shape = shape_number;
  room.level = level_number;
  search.Number(room);
  return true;
}

bool GroupPlacer::Find(const GroupPlan& plan, int open, const Topology& topology, CapacityView view,
                       GroupRoom& room) {
  const int shapes = plan.choices_open ? 1 : open;
  for (int s = 0; s < shapes; ++s) {
    const ShapePlan& shape = plan.shapes[s];
    for (int l = 0; l < static_cast<int>(shape.levels.size()); ++l) {
      const int same = shape.levels[l].same_key;
      const std::vector<Domain>& domains = topology.domains(same < 0 ? plan.cluster_key : same);
      for (const Domain* domain : InOrder(domains, shape, view)) {
        if (FindIn(*domain, plan, s, l, open, topology, view, room)) return true;
      }
    }
  }
  return false;
}

bool GroupPlacer::FindBeside(const GroupPlan& plan, int open, const Survivors& survivors,
                             const Topology& topology, CapacityView view, GroupRoom& room) {
  const ShapePlan& shape = plan.shapes[survivors.shape];
  for (int l = 0; l < static_cast<int>(shape.levels.size()); ++l) {
    const int same = shape.levels[l].same_key;
    const std::vector<Domain>& domains = topology.domains(same < 0 ? plan.cluster_key : same);
    if (domains.empty()) continue;
    const Domain* domain = same < 0 ? &domains[0] : nullptr;
    bool apart = false;
    for (const Node* node : survivors.nodes) {
      if (node == nullptr || same < 0) continue;
      const Domain* const its = topology.DomainOf(same, *node);
      apart = apart || its == nullptr || (domain != nullptr && domain != its);
      domain = its;
    }
    if (apart || domain == nullptr) continue;
    slots_.clear();
    for (Node* node : domain->nodes) {
      const Capacity* const capacity = view(*node);
      if (capacity == nullptr) continue;
      Slot slot{.node = node,
                .left = *capacity,
                .empty = capacity->devices().empty_devices(),
                .cpus = capacity->cpus()};
      slot.bundles =
          static_cast<int>(std::count(survivors.nodes.begin(), survivors.nodes.end(), node));
      slot.survivor = slot.bundles > 0;
      slots_.push_back(std::move(slot));
    }
    Search search{.shape = shape,
                  .level = shape.levels[l],
                  .limit = LimitOf(plan, open),
                  .topology = topology,
                  .slots = slots_,
                  .survivors = &survivors,
                  .view = view};
    if (!search.Run()) continue;
    room.shape = survivors.shape;
    room.level = l;
    search.Number(room);
    return true;
  }
  return false;
}

int GroupPlacer::Most(const Domain& domain, const ShapePlan& shape, int choices,
                      CapacityView view) {
  int held = 0;
  std::vector<int> missing;
  for (const BundleKind& kind : shape.kinds) {
    missing.push_back(static_cast<int>(kind.bundles.size()));
  }
  for (const Node* node : domain.nodes) {
    const Capacity* const capacity = view(*node);
    if (capacity == nullptr) continue;
    Capacity left = *capacity;
    for (size_t k = 0; k < shape.kinds.size(); ++k) {
      const KindFilling filling = FillKind(shape.kinds[k], choices, *node, left, missing[k]);
      held += filling.bundles;
      missing[k] -= filling.bundles;
      int choice = filling.start;
      for (int i = 0; i < filling.bundles; ++i) {
        choice = ChoiceFor(shape.kinds[k], choices, *node, left, choice);
        left.Take((*shape.kinds[k].choices)[choice].resources);
      }
    }
  }
  return held;
}

// --- Now: group_placer_simple.cc has the search for equal bundles of whole GPUs ---

bool GroupPlacer::IsSimple(const ShapePlan& shape, int choices) {
  if (shape.kinds.size() != 1 || ChoicesOf(shape.kinds[0], choices) != 1) return false;
  return shape.kinds[0].choices->front().resources.gpus >= Amount::kUnit;
}

bool GroupPlacer::FindNow(const GroupPlan& plan, int open, const Topology& topology,
                          GroupRoom& room) {
  const auto now = [](const Node& node) { return node.usable() ? &node.free : nullptr; };
  const int shapes = plan.choices_open ? 1 : open;
  for (int s = 0; s < shapes; ++s) {
    const ShapePlan& shape = plan.shapes[s];
    const bool simple = IsSimple(shape, LimitOf(plan, open));
    for (int l = 0; l < static_cast<int>(shape.levels.size()); ++l) {
      const LevelPlan& level = shape.levels[l];
      const int key = level.same_key < 0 ? plan.cluster_key : level.same_key;
      if (simple && level.level.within != Within::kSpreadLabel) {
        LevelPlan in = level;
        in.same_key = key;
        if (!FindSimpleInSome(shape, in, topology)) continue;
        room.shape = s;
        room.level = l;
        NumberSimple(shape, topology, room);
        return true;
      }
      for (const Domain* domain : InOrder(topology.domains(key), shape, now)) {
        if (FindIn(*domain, plan, s, l, open, topology, now, room)) return true;
      }
    }
  }
  return false;
}

}  // namespace muster::sched
