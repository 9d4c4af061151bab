// What was there before the head was: leases that nodes held when they joined, and requests that
// wait for those of theirs that no node has named yet.

#include "scheduler/scheduler_impl.h"

namespace muster::sched {

void Scheduler::Impl::Adopt(const HeldLease& held, Node& node) {
  Request* request = Find(held.request);
  const RequestSpec& spec = request == nullptr ? *held.spec : request->of->spec;
  if (request == nullptr && !Validate(*held.spec).ok()) return;
  if (held.shape < 0 || (spec.is_group() && held.shape >= static_cast<int>(spec.shapes.size()))) {
    return;
  }
  if (held.bundle < 0 || held.bundle >= BundlesOf(spec, held.shape)) return;
  const size_t choices = spec.is_group()
                             ? spec.shapes[held.shape].bundles[held.bundle].choices.size()
                             : spec.choices.size();
  if (held.placement.choice < 0 || static_cast<size_t>(held.placement.choice) >= choices) return;
  if (!Validate(held.placement.resources).ok()) return;
  if (request != nullptr && request->granted() &&
      (request->shape != held.shape ||
       request->bundles[held.bundle].state != Bundle::State::kMissing)) {
    return;
  }
  int inside = -1;
  if (spec.inside) {
    if (!AdoptInside(held, node, inside)) return;
  } else {
    if (!node.free.TakeHeld(held.placement.resources, held.placement.devices)) return;
  }

  if (request == nullptr) {
    request = &Add(held.request, held.spec, cluster_.FindClass(held.spec));
    cluster_.packing().demand().Count(request->of->demand);
  }
  if (!request->granted()) {
    const bool waited = request->queued;
    if (waited) Dequeue(*request);
    request->shape = held.shape;
    request->level = held.level;
    request->bundles.resize(static_cast<size_t>(BundlesOf(request->of->spec, held.shape)));
    BeginSlice(*request);
    if (waited) WaitForMissing(*request);
  }
  Bundle& bundle = request->bundles[held.bundle];
  bundle = {.state = Bundle::State::kRunning,
            .may_overcommit = true,
            .adopted = true,
            .inside = inside,
            .placement = held.placement};
  bundle.placement.node = node.id;
  if (inside >= 0) {
    node.leases.emplace(request->id, held.bundle);
    rooms_.at({spec.inside->group, inside}).children.emplace(request->id, held.bundle);
  } else {
    BeginBundle(*request, held.bundle, node);
  }
  AwaitReturn(*request);
  if (request->awaits_missing() && !request->Has(Bundle::State::kMissing)) {
    StopWaitingForMissing(*request);
    if (!request->Has(Bundle::State::kEnded)) Granted(*request);
  }
}

void Scheduler::Impl::WaitForMissing(Request& request) {
  if (request.awaits_missing()) return;
  request.adopt_by = now_ + config_.adoption_timeout;
  adoptions_.emplace(request.adopt_by, request.id);
}

void Scheduler::Impl::StopWaitingForMissing(Request& request) {
  if (!request.awaits_missing()) return;
  adoptions_.erase({request.adopt_by, request.id});
  request.adopt_by = absl::InfinitePast();
}

void Scheduler::Impl::GiveUpDueAdoptions() {
  while (!adoptions_.empty() && adoptions_.begin()->first <= now_) {
    Request& request = *Find(adoptions_.begin()->second);
    StopWaitingForMissing(request);
    if (request.of->spec.is_group()) {
      for (Bundle& bundle : request.bundles) {
        if (bundle.state != Bundle::State::kMissing) continue;
        bundle.state = Bundle::State::kEnded;
        actions_->push_back(LeaseLost{
            .request = request.id, .bundle = static_cast<int>(&bundle - request.bundles.data())});
      }
      MarkBroken(request);
      continue;
    }
    for (int bundle = 0; bundle < request.of->spec.bundles; ++bundle) {
      const NodeId node = request.bundles[bundle].placement.node;
      if (request.bundles[bundle].state == Bundle::State::kEnded) continue;
      if (request.bundles[bundle].state == Bundle::State::kRunning) EndBundle(request, bundle);
      actions_->push_back(LeaseLost{.request = request.id, .bundle = bundle, .node = node});
    }
    Forget(request);
  }
}

}  // namespace muster::sched
