#include "scheduler/reservation.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {
namespace {

const Capacity* IfUsable(const Node& node) {
  return node.reachable && !node.draining ? &node.free : nullptr;
}

int64_t InUse(const Node& node, bool gpus) {
  if (gpus) return node.total.gpu_devices * Amount::kUnit - node.free.devices().free();
  return node.total.cpus - node.free.cpus();
}

}  // namespace

const Request* Scheduler::Impl::OldestBig() const {
  if (PlansAhead()) return nullptr;
  for (const auto& [key, of] : big_) {
    if (of->Feasible()) return of->head();
  }
  return nullptr;
}

// Whether a lease on the node is one that the waiting group could have used the room of.
bool Scheduler::Impl::Matters(const SchedulingClass& of, const Node& node) {
  for (const ShapePlan& shape : of.plan->shapes) {
    for (const BundleKind& kind : shape.kinds) {
      for (size_t i = 0; i < kind.choices->size(); ++i) {
        if (SelectorIndex::Selected(node, kind.selectors[i]) &&
            node.empty().Fits((*kind.choices)[i].resources)) {
          return true;
        }
      }
    }
  }
  return false;
}

void Scheduler::Impl::CountOvertaking(const Request& granted) {
  if (reservation_.group.value == 0 || granted.of->spec.inside) return;
  if (granted.id == reservation_.group) {
    DropReservation();
    return;
  }
  const Request& waits = *Find(reservation_.group);
  if (KeyOf(granted) < KeyOf(waits)) return;
  const bool any =
      std::any_of(granted.bundles.begin(), granted.bundles.end(), [&](const Bundle& bundle) {
        return Matters(*waits.of, *cluster_.FindNode(bundle.placement.node));
      });
  if (any) ++reservation_.overtaken;
}

bool Scheduler::Impl::ReservationDue() const {
  if (reservation_.group.value == 0) return false;
  if (reservation_.planned_at) {
    return now_ >= *reservation_.planned_at + config_.reservation_after;
  }
  const bool overtaken =
      config_.overtaken_max > 0 && reservation_.overtaken >= config_.overtaken_max;
  return overtaken || now_ >= reservation_.since + config_.reservation_after;
}

absl::Time Scheduler::Impl::ReservationTick() const {
  if (reservation_.group.value == 0) return absl::InfiniteFuture();
  return reservation_.planned_at.value_or(reservation_.since) + config_.reservation_after;
}

void Scheduler::Impl::UpdateReservation() {
  const Request* const oldest = OldestBig();
  if (oldest == nullptr || oldest->id != reservation_.group) DropReservation();
  if (oldest == nullptr) return;
  if (reservation_.group.value == 0) reservation_ = {.group = oldest->id, .since = now_};
  if (ReservationDue()) PlanReservation();
}

void Scheduler::Impl::DropReservation() {
  SetAside({});
  reservation_ = {};
}

// Nodes of it have changed: others may be better now.
void Scheduler::Impl::ReservedNodeChanged(const Node& node) {
  if (!node.set_aside) return;
  SetAside({});
  reservation_.planned_at.reset();
}

// Those that were and are no more are room for others.
void Scheduler::Impl::SetAside(std::vector<Node*> nodes) {
  std::vector<Node*> before = std::exchange(reservation_.nodes, std::move(nodes));
  ShowReserved(before, true);
  for (Node* node : before) {
    const bool still = std::find(reservation_.nodes.begin(), reservation_.nodes.end(), node) !=
                       reservation_.nodes.end();
    if (!still && node->usable()) InsertById(regrown_, node);
  }
  ShowReserved(reservation_.nodes, false);
}

void Scheduler::Impl::ShowReserved(const std::vector<Node*>& nodes, bool shown) {
  for (Node* node : nodes) {
    node->set_aside = !shown;
    cluster_.topology().Update(*node);
  }
}

void Scheduler::Impl::PlanReservation() {
  reservation_.planned_at = now_;
  const Request& group = *Find(reservation_.group);
  std::optional<ReservedRoom> best;
  const GroupPlan& plan = *group.of->plan;
  const Topology& topology = std::as_const(cluster_).topology();
  const int shapes = plan.choices_open ? 1 : group.open;
  for (int s = 0; s < shapes; ++s) {
    for (int l = 0; l < static_cast<int>(plan.shapes[s].levels.size()); ++l) {
      const int same = plan.shapes[s].levels[l].same_key;
      for (const Domain& domain : topology.domains(same < 0 ? plan.cluster_key : same)) {
        std::optional<ReservedRoom> room = CheapestIn(domain, group, s, l);
        if (room && (!best || room->cost < best->cost)) best = std::move(room);
      }
    }
    if (best) break;  // A later shape is for when an earlier one cannot be had.
  }
  SetAside(best ? std::move(best->nodes) : std::vector<Node*>{});
}

// Empties the nodes one by one, the cheapest first, until the group would fit.
std::optional<Scheduler::Impl::ReservedRoom> Scheduler::Impl::CheapestIn(const Domain& domain,
                                                                         const Request& group,
                                                                         int shape, int level) {
  const GroupPlan& plan = *group.of->plan;
  const bool gpus = plan.shapes[shape].needs_gpus;
  const Topology& topology = std::as_const(cluster_).topology();
  using Cost = std::tuple<absl::Time, int64_t, uint64_t>;
  std::vector<std::pair<Cost, Node*>> nodes;
  for (Node* node : domain.nodes) {
    if (IfUsable(*node) == nullptr) continue;
    nodes.push_back({{FreesAt(*node), InUse(*node, gpus), node->id.value}, node});
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto fits = [&](size_t emptied) {
    absl::flat_hash_set<NodeId> ids;  // Looked up only.
    for (size_t i = 0; i < emptied; ++i) ids.insert(nodes[i].second->id);
    const auto view = [&](const Node& node) {
      return ids.contains(node.id) ? &node.empty() : IfUsable(node);
    };
    return group_placer_.FindIn(domain, plan, shape, level, group.open, topology, view,
                                group_room_);
  };
  if (!fits(nodes.size())) return std::nullopt;
  size_t low = 0;
  size_t high = nodes.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (fits(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (!fits(low)) fits(low = nodes.size());
  ReservedRoom room{.cost = {absl::InfinitePast(), 0, ~uint64_t{0}}};
  for (const Room& one : group_room_.rooms) {
    if (std::find(room.nodes.begin(), room.nodes.end(), one.node) != room.nodes.end()) continue;
    room.nodes.push_back(one.node);
    auto& [frees_at, in_use, first] = room.cost;
    if (InUse(*one.node, gpus) > 0) frees_at = std::max(frees_at, FreesAt(*one.node));
    in_use += InUse(*one.node, gpus);
    first = std::min(first, one.node->id.value);
  }
  return room;
}

// When the last of its leases is expected to end; what nobody knows is later than all else.
absl::Time Scheduler::Impl::FreesAt(const Node& node) const {
  return node.leases.empty() ? absl::InfinitePast() : absl::InfiniteFuture();
}

void Scheduler::Impl::CheckReservation() const {
  size_t set_aside = 0;
  for (const Node* node : cluster_.nodes()) {
    if (node->set_aside) ++set_aside;
  }
  MUSTER_CHECK(set_aside == reservation_.nodes.size());
  for (const Node* node : reservation_.nodes) MUSTER_CHECK(node->set_aside);
  const Request* const oldest = OldestBig();
  MUSTER_CHECK((oldest == nullptr ? RequestId{} : oldest->id) == reservation_.group);
  if (oldest == nullptr) MUSTER_CHECK(reservation_.nodes.empty());
}

}  // namespace muster::sched
