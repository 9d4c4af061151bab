#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/explainer.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {

std::optional<Explanation> Scheduler::Impl::Explain(RequestId id, absl::Time now) const {
  const Request* const request = Find(id);
  if (request == nullptr) return std::nullopt;
  const SchedulingClass& of = *request->of;
  Explanation explanation;
  explanation.granted = request->granted();
  explanation.needs = ToText(of.spec.choices[0].resources);
  if (!request->granted()) {
    explanation.waited = now - request->since;
    explanation.before_in_class = static_cast<int>(of.Before(*request));
    explanation.choices = ExplainChoices(cluster_, *request);
    explanation.between_jobs = BetweenJobs(*request);
    explanation.what_would_help = WhatWouldHelp(cluster_, *request, now);
    if (!of.Feasible()) explanation.infeasible = InfeasibleReason(cluster_, of);
    ExplainQuotas(*request, explanation);
    return explanation;
  }
  explanation.waited = request->waited;
  explanation.between_jobs = BetweenJobs(*request);
  for (int bundle = 0; bundle < of.spec.bundles; ++bundle) {
    if (request->bundles[bundle].state != Bundle::State::kRunning) continue;
    explanation.placements.push_back(request->bundles[bundle].placement);
    explanation.where.push_back(WhereText(cluster_, *request, bundle));
  }
  return explanation;
}

std::vector<WaitingClass> Scheduler::Impl::Waiting(absl::Time now) const {
  std::vector<WaitingClass> rows;
  for (const auto& [key, of] : order_) {
    const std::vector<Request*> queue = of->Queue();
    WaitingClass row;
    for (const Request* request : queue) row.requests.push_back(request->id);
    row.spec = of->spec;
    row.needs = ToText(of->spec.choices[0].resources);
    row.choices_summary = ChoicesSummary(of->spec);
    row.since = now - queue[0]->since;
    row.why = ShortWhy(cluster_, *queue[0], now);
    row.choices = ExplainChoices(cluster_, *queue[0]);
    if (of->quota_limited) {
      Explanation explanation{.choices = std::move(row.choices)};
      ExplainQuotas(*queue[0], explanation);
      row.choices = std::move(explanation.choices);
      if (of->quota_closed != 0) row.why = absl::StrCat("waits for ", explanation.what_would_help);
    }
    rows.push_back(std::move(row));
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
      const Bundle& bundle = request->bundles[lease.second];
      MUSTER_CHECK(bundle.state == Bundle::State::kRunning);
      MUSTER_CHECK(bundle.placement.node == node->id);
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
    const Capacity& expected = left.at(node->id);
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
    MUSTER_CHECK(!all_tried || !HasRoomNow(*of, *queue[0]));
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
  // Requests: each waits or holds something, and none is kept after its end.
  MUSTER_CHECK(static_cast<int64_t>(requests_.size()) >= granted + waiting_);
}

}  // namespace muster::sched
