#include "scheduler/victims.h"

#include <algorithm>
#include <utility>

#include "scheduler/placement_constraints.h"

namespace muster::sched {

void Damage::Add(const Damage& more) {
  rank = std::max(rank, more.rank);
  leases += more.leases;
  run += more.run;
  gpus += more.gpus;
  cpus += more.cpus;
  memory_bytes += more.memory_bytes;
}

Damage DamageOf(const Request& request, int64_t rank, absl::Time now) {
  Damage damage{.rank = rank};
  for (const Bundle& bundle : request.bundles) {
    if (bundle.state != Bundle::State::kRunning) continue;
    ++damage.leases;
    damage.run += now - request.granted_at();
    damage.gpus += bundle.placement.resources.gpus;
    damage.cpus += bundle.placement.resources.cpus;
    damage.memory_bytes += bundle.placement.resources.memory_bytes;
  }
  return damage;
}

std::optional<Taking> VictimSearch::Find(const SchedulingClass& of, int open,
                                         std::span<Node* const> nodes) const {
  std::optional<Taking> taking = of.shaped()            ? FindForShaped(nodes)
                                 : of.spec.bundles == 1 ? FindForOne(of, open, nodes)
                                                        : FindForGroup(of, open, nodes);
  if (taking) {
    std::sort(taking->victims.begin(), taking->victims.end(),
              [](const Request* a, const Request* b) { return a->id < b->id; });
  }
  return taking;
}

bool VictimSearch::LessDamaging(const Candidate& a, const Candidate& b) {
  if (a.damage < b.damage) return true;
  if (b.damage < a.damage) return false;
  return a.request->id < b.request->id;
}

std::vector<VictimSearch::Candidate> VictimSearch::CandidatesOn(const Node& node) const {
  std::vector<Candidate> candidates;
  for (const LeaseId& lease : node.leases) {  // Bundles of one request stand together.
    if (!candidates.empty() && candidates.back().request->id == lease.first) continue;
    Request* const request = rules_.find(lease.first);
    const std::optional<int64_t> rank = rules_.rank(*request);
    if (!rank) continue;
    candidates.push_back({.request = request, .damage = DamageOf(*request, *rank, rules_.now)});
    if (rules_.longest_first) candidates.back().damage.run *= -1;
  }
  std::sort(candidates.begin(), candidates.end(), LessDamaging);
  return candidates;
}

void VictimSearch::GiveBack(const Bundle& bundle, Capacity& capacity) {
  capacity.Give(bundle.placement.resources, bundle.placement.devices);
  if (bundle.blocked) capacity.AddCpus(-bundle.placement.resources.cpus);  // Lent out already.
}

void VictimSearch::GiveBack(const Request& request, const Node& node, Capacity& capacity) const {
  for (const Bundle& bundle : request.bundles) {
    if (bundle.state != Bundle::State::kRunning || bundle.placement.node != node.id) continue;
    GiveBack(bundle, capacity);
  }
}

void VictimSearch::Search(const Node& node, const Resources& needs,
                          const std::vector<Candidate>& candidates, size_t next,
                          const Capacity& capacity, const Damage& damage,
                          std::vector<size_t>& chosen, std::optional<Damage>& least,
                          std::vector<size_t>& best) const {
  if (least && !(damage < *least)) return;  // More victims only make it worse.
  if (capacity.Fits(needs)) {
    least = damage;
    best = chosen;
    return;
  }
  if (next == candidates.size()) return;
  Capacity more = capacity;
  GiveBack(*candidates[next].request, node, more);
  Damage with = damage;
  with.Add(candidates[next].damage);
  chosen.push_back(next);
  Search(node, needs, candidates, next + 1, more, with, chosen, least, best);
  chosen.pop_back();
  Search(node, needs, candidates, next + 1, capacity, damage, chosen, least, best);
}

std::optional<std::vector<VictimSearch::Candidate>> VictimSearch::LeastOn(
    const Node& node, const Resources& needs, const std::vector<Candidate>& candidates) const {
  const Capacity room = rules_.room(node);
  std::vector<Candidate> taken;
  if (candidates.size() <= kExactMax) {
    std::optional<Damage> least;
    std::vector<size_t> chosen;
    std::vector<size_t> best;
    Search(node, needs, candidates, 0, room, Damage{}, chosen, least, best);
    if (!least) return std::nullopt;
    for (const size_t i : best) taken.push_back(candidates[i]);
    return taken;
  }
  Capacity capacity = room;
  for (const Candidate& candidate : candidates) {
    if (capacity.Fits(needs)) break;
    GiveBack(*candidate.request, node, capacity);
    taken.push_back(candidate);
  }
  if (!capacity.Fits(needs)) return std::nullopt;
  for (size_t i = taken.size(); i > 0; --i) {  // Spare the most damaging that is not needed.
    Capacity without = room;
    for (size_t j = 0; j < taken.size(); ++j) {
      if (j != i - 1) GiveBack(*taken[j].request, node, without);
    }
    if (without.Fits(needs)) taken.erase(taken.begin() + static_cast<int64_t>(i) - 1);
  }
  return taken;
}

std::optional<Taking> VictimSearch::FindForOne(const SchedulingClass& of, int open,
                                               std::span<Node* const> nodes) const {
  std::optional<Taking> best;
  int best_choice = 0;
  for (Node* node : nodes) {
    if (!node->usable()) continue;
    std::optional<std::vector<Candidate>> candidates;
    for (int choice = 0; choice < open; ++choice) {
      if (!Takes(of, choice, *node)) continue;
      const Resources& needs = of.spec.choices[choice].resources;
      if (!node->empty().Fits(needs)) continue;
      if (!candidates) candidates = CandidatesOn(*node);
      const auto victims = LeastOn(*node, needs, *candidates);
      if (!victims) continue;
      Taking taking{.places = {Room{.node = node, .choice = choice}}};
      for (const Candidate& victim : *victims) {
        taking.victims.push_back(victim.request);
        taking.damage.Add(victim.damage);
      }
      const bool better = !best || taking.damage < best->damage ||
                          (!(best->damage < taking.damage) && choice < best_choice);
      if (!better) continue;
      best = std::move(taking);
      best_choice = choice;
    }
  }
  return best;
}

std::vector<VictimSearch::Candidate> VictimSearch::InOrder(
    const absl::btree_map<RequestId, Candidate>& known) {
  std::vector<Candidate> candidates;
  for (const auto& [id, candidate] : known) candidates.push_back(candidate);
  std::sort(candidates.begin(), candidates.end(), LessDamaging);
  return candidates;
}

template <typename Fits>
bool VictimSearch::Reduce(std::vector<Candidate>& candidates, const Fits& fits) {
  if (!fits(candidates, candidates.size(), SIZE_MAX)) return false;
  size_t low = 0;  // The least number of them, from the least damaging on, that is enough.
  size_t high = candidates.size();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (fits(candidates, middle, SIZE_MAX)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  candidates.resize(high);
  for (size_t i = candidates.size(); i > 0; --i) {
    if (!fits(candidates, candidates.size(), i - 1)) continue;
    candidates.erase(candidates.begin() + static_cast<int64_t>(i) - 1);
  }
  return true;
}

std::optional<Taking> VictimSearch::FindForShaped(std::span<Node* const> nodes) const {
  absl::btree_map<NodeId, Capacity> rooms;
  absl::btree_map<RequestId, Candidate> known;
  for (Node* node : nodes) {
    if (!node->usable()) continue;
    rooms.emplace(node->id, rules_.room(*node));
    for (const Candidate& candidate : CandidatesOn(*node)) {
      known.emplace(candidate.request->id, candidate);
    }
  }
  std::vector<Candidate> candidates = InOrder(known);
  std::vector<Room> places;
  const auto fits = [&](const std::vector<Candidate>& taken, size_t count, size_t spared) {
    absl::btree_map<NodeId, Capacity> with;
    for (size_t i = 0; i < count; ++i) {
      if (i == spared) continue;
      for (const Bundle& bundle : taken[i].request->bundles) {
        const auto room = rooms.find(bundle.placement.node);
        if (bundle.state != Bundle::State::kRunning || room == rooms.end()) continue;
        GiveBack(bundle, with.emplace(room->first, room->second).first->second);
      }
    }
    const auto view = [&](const Node& node) -> const Capacity* {
      const auto changed = with.find(node.id);
      if (changed != with.end()) return &changed->second;
      const auto room = rooms.find(node.id);
      return room == rooms.end() ? nullptr : &room->second;
    };
    places.clear();
    return rules_.layout(view, places);
  };
  if (!Reduce(candidates, fits)) return std::nullopt;
  fits(candidates, candidates.size(), SIZE_MAX);
  Taking taking{.places = std::move(places)};
  for (const Candidate& victim : candidates) {
    taking.victims.push_back(victim.request);
    taking.damage.Add(victim.damage);
  }
  return taking;
}

std::optional<Taking> VictimSearch::FindForGroup(const SchedulingClass& of, int open,
                                                 std::span<Node* const> nodes) const {
  struct Place {
    Node* node = nullptr;
    Capacity room;
  };
  std::vector<Place> places;
  absl::btree_map<RequestId, Candidate> known;
  for (Node* node : nodes) {
    if (!node->usable()) continue;
    const Filling most = Fill(of, open, *node, node->empty(), of.spec.bundles);
    if (most.bundles == 0) continue;
    places.push_back({.node = node, .room = rules_.room(*node)});
    for (const Candidate& candidate : CandidatesOn(*node)) {
      known.emplace(candidate.request->id, candidate);
    }
  }
  std::vector<Candidate> candidates = InOrder(known);

  // Whether there is room once the first `count` of `taken`, less `spared`, have ended.
  const auto fits = [&](const std::vector<Candidate>& taken, size_t count, size_t spared,
                        std::vector<Room>* rooms) {
    int64_t missing = of.spec.bundles;
    for (const Place& place : places) {
      Capacity room = place.room;
      for (size_t i = 0; i < count; ++i) {
        if (i != spared) GiveBack(*taken[i].request, *place.node, room);
      }
      const Filling filling = Fill(of, open, *place.node, room, missing);
      missing -= filling.bundles;
      int64_t here = filling.bundles;
      for (int choice = filling.start; rooms != nullptr && choice < open && here > 0; ++choice) {
        if (!Takes(of, choice, *place.node)) continue;
        const Resources& needs = of.spec.choices[choice].resources;
        while (here > 0 && room.Fits(needs)) {
          room.Take(needs);
          rooms->push_back({.node = place.node, .choice = choice});
          --here;
        }
      }
      if (missing <= 0) return true;
    }
    return false;
  };
  const auto enough = [&](const std::vector<Candidate>& taken, size_t count, size_t spared) {
    return fits(taken, count, spared, nullptr);
  };
  if (!Reduce(candidates, enough)) return std::nullopt;
  Taking taking;
  fits(candidates, candidates.size(), SIZE_MAX, &taking.places);
  for (const Candidate& victim : candidates) {
    taking.victims.push_back(victim.request);
    taking.damage.Add(victim.damage);
  }
  return taking;
}

}  // namespace muster::sched
