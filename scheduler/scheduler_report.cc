#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/check.h"
#include "scheduler/explainer.h"
#include "scheduler/group_explain.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

std::optional<Explanation> Scheduler::Impl::Explain(RequestId id, absl::Time now) const {
  const Request* const request = Find(id);
  if (request == nullptr) return std::nullopt;
  const SchedulingClass& of = *request->of;
  Explanation explanation;
  explanation.granted = request->granted();
  explanation.needs = NeedsText(of.spec);
  if (request->broken || request->closing) {
    explanation.granted = false;
    explanation.waited = now - request->since;
    explanation.choices = ExplainBroken(cluster_, *request, group_placer_);
    explanation.what_would_help = "room for the lost bundles beside the others, or for all anew";
    return explanation;
  }
  if (!request->granted()) {
    explanation.waited = now - request->since;
    explanation.before_in_class = static_cast<int>(of.Before(*request));
    explanation.choices = ChoicesOf(*request);
    explanation.between_jobs = BetweenJobs(*request);
    if (id == reservation_.group && !reservation_.nodes.empty()) {
      explanation.what_would_help = absl::StrCat(
          "the leases that run on ",
          absl::StrJoin(reservation_.nodes, ", ",
                        [](std::string* out, const Node* node) { *out += node->name; }),
          ", set aside for it, come to their ends");
      return explanation;
    }
    if (!of.counted()) return explanation;
    explanation.what_would_help = WhatWouldHelp(cluster_, *request, now);
    if (!of.Feasible()) explanation.infeasible = InfeasibleReason(cluster_, of);
    ExplainQuotas(*request, explanation);
    return explanation;
  }
  explanation.waited = request->waited;
  explanation.between_jobs = BetweenJobs(*request);
  for (int bundle = 0; bundle < static_cast<int>(request->bundles.size()); ++bundle) {
    if (request->bundles[bundle].state != Bundle::State::kRunning) continue;
    explanation.placements.push_back(request->bundles[bundle].placement);
    explanation.where.push_back(WhereText(cluster_, *request, bundle));
  }
  return explanation;
}

std::vector<ChoiceExplanation> Scheduler::Impl::ChoicesOf(const Request& request) const {
  const SchedulingClass& of = *request.of;
  if (of.shaped()) return ExplainShapes(cluster_, request, group_placer_);
  std::vector<ChoiceExplanation> choices = ExplainChoices(cluster_, request);
  if (!of.spec.inside) return choices;
  for (ChoiceExplanation& choice : choices) {
    choice.why = InsideWhy(cluster_, of, *Find(of.spec.inside->group));
  }
  return choices;
}

std::vector<WaitingClass> Scheduler::Impl::Waiting(absl::Time now) const {
  std::vector<WaitingClass> rows;
  for (const auto& [key, of] : order_) {
    const std::vector<Request*> queue = of->Queue();
    WaitingClass row;
    for (const Request* request : queue) row.requests.push_back(request->id);
    row.spec = of->spec;
    row.needs = NeedsText(of->spec);
    row.choices_summary = of->shaped() ? ShapesSummary(of->spec) : ChoicesSummary(of->spec);
    row.since = now - queue[0]->since;
    row.choices = ChoicesOf(*queue[0]);
    row.why = of->counted()     ? ShortWhy(cluster_, *queue[0], now)
              : of->spec.inside ? row.choices[0].why
                                : ShapesWhy(row.choices, now);
    if (of->quota_limited) {
      Explanation explanation{.choices = std::move(row.choices)};
      ExplainQuotas(*queue[0], explanation);
      row.choices = std::move(explanation.choices);
      if (of->quota_closed != 0) row.why = absl::StrCat("waits for ", explanation.what_would_help);
    }
    rows.push_back(std::move(row));
  }
  // What groups lost comes before all that waits.
  for (const auto& [key, group] : broken_) {
    WaitingClass row;
    row.requests = {group->id};
    row.spec = group->of->spec;
    row.needs = NeedsText(row.spec);
    row.choices_summary = ShapesSummary(row.spec);
    row.since = now - group->since;
    row.choices = ExplainBroken(cluster_, *group, group_placer_);
    row.why = row.choices[0].why;
    rows.insert(rows.begin(), std::move(row));
  }
  return rows;
}

void Scheduler::Impl::CheckInvariants() const {
  cluster_.CheckInvariants();

  // What is free of each node is its total less what its leases hold.
  absl::btree_map<NodeId, Capacity> left;
  absl::btree_map<NodeId, int64_t> may_overcommit;
  absl::btree_map<NodeId, size_t> leases;
  for (const Node* node : cluster_.nodes()) left.emplace(node->id, Capacity(node->total));
  absl::btree_map<RequestId, const Request*> requests;
  for (const auto& [key, of] : cluster_.classes()) MUSTER_CHECK(of->requests >= of->waiting);
  // Looked up, not walked: every lease is known to its node, and every waiting request to its
  // class.
  int64_t granted = 0;
  for (const Node* node : cluster_.nodes()) {
    for (const LeaseId& lease : node->leases) {
      const Request* const request = Find(lease.first);
      MUSTER_CHECK(request != nullptr);
      requests.emplace(request->id, request);
      // Who must leave was told, with no later deadline.
      if (const std::optional<Notice> notice = MustLeave(*node, lease)) {
        if (!request->of->spec.is_group()) {
          const Leaving::Entry* const told = leaving_.Find(lease);
          MUSTER_CHECK(told != nullptr);
          MUSTER_CHECK(told->revoked || *told->notice.deadline <= *notice->deadline);
        }
      }
      const Bundle& bundle = request->bundles[lease.second];
      MUSTER_CHECK(bundle.state == Bundle::State::kRunning ||
                   bundle.state == Bundle::State::kClosing);
      MUSTER_CHECK(bundle.placement.node == node->id);
      if (bundle.inside >= 0) {  // Counted with its bundle.
        const RequestId group = request->of->spec.inside->group;
        MUSTER_CHECK(rooms_.at({group, bundle.inside}).children.contains(lease));
        continue;
      }
      Capacity& capacity = left.at(node->id);
      Resources held = bundle.placement.resources;
      if (bundle.blocked) held.cpus = 0;
      const bool room = capacity.TakeHeld(held, bundle.placement.devices);
      MUSTER_CHECK(room);  // No device, memory or custom resource is given twice.
      if (bundle.may_overcommit) may_overcommit[node->id] += held.cpus;
    }
  }
  for (const auto& [id, hold] : holds_.all()) {
    for (const HoldPart& part : hold.parts) {
      const bool room = left.at(part.node->id).TakeHeld(part.has, part.devices);
      MUSTER_CHECK(room);  // What is kept for a request is given to nobody.
    }
  }
  CheckSharing();
  for (const Node* node : cluster_.nodes()) {
    Capacity& expected = left.at(node->id);
    for (const Quarantine& out : node->quarantined) expected.SetDeviceOut(out.device, true);
    MUSTER_CHECK(node->free.devices().kept_aside() == expected.devices().kept_aside());
    MUSTER_CHECK(static_cast<size_t>(node->shape->devices_out) == node->quarantined.size());
    MUSTER_CHECK(node->free.cpus() == expected.cpus());
    MUSTER_CHECK(node->free.cpus() >= -may_overcommit[node->id]);
    MUSTER_CHECK(node->free.memory_bytes() == expected.memory_bytes());
    MUSTER_CHECK(node->free.memory_bytes() >= 0);
    for (const auto& [name, amount] : node->total.custom) {
      MUSTER_CHECK(node->free.custom(name) == expected.custom(name));
      MUSTER_CHECK(node->free.custom(name) >= 0);
    }
    for (int device = 0; device < node->total.gpu_devices; ++device) {
      MUSTER_CHECK(node->free.devices().free(device) == expected.devices().free(device));
    }
  }
  granted = static_cast<int64_t>(requests.size());

  // Queues: what waits is known, in order, and nothing of it could be placed now.
  int64_t waiting = 0;
  size_t with_waiting = 0;
  for (const auto& [id, of] : cluster_.classes()) {
    waiting += of->waiting;
    const std::vector<Request*> queue = of->Queue();
    MUSTER_CHECK(static_cast<int64_t>(queue.size()) == of->waiting);
    MUSTER_CHECK(of->waits() == of->indexed_key.has_value());
    if (queue.empty()) continue;
    ++with_waiting;
    const bool all_tried = config_.sharing.backfill == Backfill::kGreedy;
    MUSTER_CHECK(of->blocked || !all_tried);
    const auto in_order = order_.find(of->key());
    MUSTER_CHECK(in_order != order_.end());
    MUSTER_CHECK(in_order->second == of.get());
    for (size_t i = 0; i < queue.size(); ++i) {
      MUSTER_CHECK(Find(queue[i]->id) == queue[i]);
      MUSTER_CHECK(!queue[i]->granted());
      MUSTER_CHECK(queue[i]->of == of.get());
      MUSTER_CHECK(i == 0 || queue[i - 1]->arrival < queue[i]->arrival);
      MUSTER_CHECK(queue[i]->opened_at >= queue[i]->since);
      MUSTER_CHECK(queue[i]->opened_at <= now_);
    }
    // What is set aside is there for those before, and for the group itself.
    Impl* const self = const_cast<Impl*>(this);  // For a moment: it is all put back.
    const bool shown = SeesReserved(*of);
    if (shown) self->ShowReserved(reservation_.nodes, true);
    MUSTER_CHECK(!all_tried || !HasRoomNow(*of, *queue[0]));
    if (shown) self->ShowReserved(reservation_.nodes, false);
    MUSTER_CHECK(of->NextDue() > now_);
    MUSTER_CHECK(of->said_infeasible == (!InGrace() && !of->Feasible()));
  }
  MUSTER_CHECK(with_waiting == order_.size());
  MUSTER_CHECK(waiting == waiting_);
  MUSTER_CHECK(ready_.empty() || config_.sharing.backfill != Backfill::kGreedy);
  MUSTER_CHECK(grown_.empty());
  // Whoever was told to leave has not left yet.
  leaving_.CheckInvariants();
  for (const auto& [lease, entry] : leaving_.told()) {
    const Request* const request = Find(lease.first);
    MUSTER_CHECK(request != nullptr);
    MUSTER_CHECK(request->bundles[lease.second].state == Bundle::State::kRunning);
  }
  CheckGroups();
  CheckReturns();
  CheckReservation();
  // Requests: each waits or holds something, and none is kept after its end.
  MUSTER_CHECK(static_cast<int64_t>(requests_.size()) >= granted + waiting_);
}

void Scheduler::Impl::CheckGroups() const {
  // What is left of each bundle is what it holds less what runs inside.
  for (const auto& [key, room] : rooms_) {
    const Request* const group = Find(key.first);
    MUSTER_CHECK(group != nullptr);
    MUSTER_CHECK(group->of->spec.is_group());
    const Bundle& bundle = group->bundles[key.second];
    MUSTER_CHECK(bundle.state == Bundle::State::kRunning ||
                 bundle.state == Bundle::State::kClosing);
    MUSTER_CHECK(!room.children.empty());
    Capacity expected = WholeRoom(*group, key.second);
    for (const LeaseId& child : room.children) {
      const Request* const request = Find(child.first);
      MUSTER_CHECK(request != nullptr);
      const Bundle& inside = request->bundles[child.second];
      MUSTER_CHECK(inside.state == Bundle::State::kRunning);
      MUSTER_CHECK(inside.inside == key.second);
      MUSTER_CHECK(inside.placement.node == bundle.placement.node);
      Resources held = inside.placement.resources;
      if (inside.blocked) held.cpus = 0;
      const bool room_for_it = expected.TakeHeld(held, inside.placement.devices);
      MUSTER_CHECK(room_for_it);
    }
    MUSTER_CHECK(expected.cpus() == room.left.cpus());
    MUSTER_CHECK(expected.devices().free() == room.left.devices().free());
  }
  // Never two groups that wait with a part of their bundles.
  int partly = 0;
  for (const auto& [key, group] : broken_) {
    MUSTER_CHECK(group->broken);
    MUSTER_CHECK(!group->closing);
    const bool ends = group->Has(Bundle::State::kMissing) || group->Has(Bundle::State::kClosing);
    if (!ends && group->Has(Bundle::State::kRunning)) ++partly;
  }
  MUSTER_CHECK(partly <= 1);
}

}  // namespace muster::sched
