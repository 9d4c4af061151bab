// Placement groups: requests whose leases are reservations. A reservation is a lease without an
// executor: its worker keeps it, for a head that forgets, and its end needs no answer. What runs
// inside one is a lease of its own.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/convert.h"
#include "scheduler/base/check.h"
#include "scheduler/group_plan.h"

namespace muster::head {

// Said again once lost bundles have their new places: the others are where they were.
void HeadCore::GrantGroup(Request& request, const sched::Grant& grant) {
  const Driver& driver = drivers_.at(request.driver);
  request.granted = true;
  request.leases.resize(grant.placements.size());
  for (size_t bundle = 0; bundle < grant.placements.size(); ++bundle) {
    const sched::Placement& placement = grant.placements[bundle];
    Lease& lease = request.leases[bundle];
    const bool there = lease.state == LeaseState::kStarting || lease.state == LeaseState::kStarted;
    if (there && lease.node == placement.node) continue;
    lease.state = LeaseState::kStarting;
    lease.notice.reset();
    lease.node = placement.node;
    lease.placement = ToProto(placement);
    lease.placement.set_shape(static_cast<uint32_t>(grant.shape));
    lease.placement.set_level(static_cast<uint32_t>(grant.level));
    v1::ToWorker message;
    v1::StartLease& start = *message.mutable_start();
    *start.mutable_lease() = KeyOf(request, static_cast<int>(bundle));
    *start.mutable_spec() = request.spec;
    *start.mutable_placement() = lease.placement;
    start.set_job(driver.hello.job());
    Tell(nodes_.at(placement.node), std::move(message));
  }
}

// The group goes on: the scheduler places the bundle anew, or all of them.
void HeadCore::EndReservation(Request& request, int bundle, v1::LeaseEnded ended,
                              bool tell_scheduler) {
  const size_t index = static_cast<size_t>(bundle);
  // A head that has been started again may never have seen what its driver asked for again.
  if (index >= request.leases.size()) request.leases.resize(index + 1);
  Lease& lease = request.leases[index];
  if (lease.state == LeaseState::kEnded) return;
  lease.state = LeaseState::kEnded;
  *ended.mutable_lease() = KeyOf(request, bundle);
  v1::ToDriver message;
  *message.mutable_lease_ended() = std::move(ended);
  Tell(drivers_.at(request.driver), std::move(message));
  const RequestId id = request.id;
  if (tell_scheduler) Schedule(sched::LeaseFinished{id, bundle});
}

void HeadCore::RemoveGroup(Driver& driver, Request& request) {
  const RequestId id = request.id;
  const std::vector<Lease> leases = request.leases;
  std::vector<v1::LeaseKey> keys;
  for (size_t bundle = 0; bundle < leases.size(); ++bundle) {
    keys.push_back(KeyOf(request, static_cast<int>(bundle)));
  }
  driver.requests.erase(request.number);
  requests_.erase(id);
  Schedule(sched::RequestCancelled{id});
  for (size_t bundle = 0; bundle < leases.size(); ++bundle) {
    const Lease& lease = leases[bundle];
    if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) continue;
    StopLeaseOn(nodes_.at(lease.node), keys[bundle], true, "its placement group was removed");
  }
}

// A head that has been started again may know some of the bundles already, by their workers: those
// that do not come back are placed anew once they have been waited for.
void HeadCore::AskAgain(const Request& request, const v1::LeaseRequest& message) {
  if (!request.is_group() || message.placed_shape() == 0) return;
  absl::StatusOr<sched::RequestSpec> spec =
      FromProto(request.spec, absl::StrFormat("%016x/held", request.driver));
  if (spec.ok()) Schedule(sched::Requested{request.id, *std::move(spec)});
}

bool HeadCore::AdoptReservation(Node& node, const v1::HeldLease& held,
                                const sched::RequestSpec& spec, sched::Placement placement,
                                std::vector<sched::HeldLease>& adopted) {
  const v1::LeaseKey& key = held.lease();
  const uint32_t shape = held.placement().shape();
  if (shape >= spec.shapes.size()) return false;
  const size_t bundles = spec.shapes[shape].bundles.size();
  if (key.bundle() >= bundles) return false;
  Driver& driver = DriverOrUnseen(key.driver());
  auto number = driver.requests.find(key.request());
  if (number == driver.requests.end()) {
    Request request;
    request.id = RequestId{++last_request_};
    request.driver = driver.id;
    request.number = key.request();
    request.spec = held.spec();
    request.asked_at = now_;
    number = driver.requests.emplace(key.request(), request.id).first;
    requests_.emplace(request.id, std::move(request));
  }
  Request& request = requests_.at(number->second);
  if (!request.granted) {
    request.granted = true;
    request.leases.resize(bundles);
  }
  if (key.bundle() >= request.leases.size() ||
      request.leases[key.bundle()].state != LeaseState::kNone) {
    StopLeaseOn(node, key, true, "it was granted again");
    return true;
  }
  Lease& lease = request.leases[key.bundle()];
  lease.state = LeaseState::kStarting;
  lease.node = node.id;
  lease.placement = held.placement();
  sched::HeldLease reservation;
  reservation.request = request.id;
  reservation.bundle = static_cast<int>(key.bundle());
  reservation.spec = spec;
  reservation.placement = std::move(placement);
  reservation.shape = static_cast<int>(shape);
  reservation.level = static_cast<int>(held.placement().level());
  adopted.push_back(std::move(reservation));
  return true;
}

RequestId HeadCore::GroupOf(const Driver& driver, const v1::RequestSpec& spec) const {
  const auto number = driver.requests.find(spec.inside().request());
  if (number == driver.requests.end() || !requests_.at(number->second).is_group()) return {};
  return number->second;
}

void HeadCore::ReportGroups(absl::Time now, v1::StatusReply& reply) const {
  for (const auto& [id, request] : requests_) {
    if (!request.is_group()) continue;
    v1::PlacementGroupStatus& group = *reply.add_placement_groups();
    group.set_id(request.task_id);
    group.set_name(request.spec.name());
    group.set_since_ns(absl::ToInt64Nanoseconds(now - request.asked_at));
    bool placed = request.granted;
    bool any = false;
    for (const Lease& lease : request.leases) {
      const bool there =
          lease.state == LeaseState::kStarting || lease.state == LeaseState::kStarted;
      placed = placed && there;
      any = any || there;
      v1::PlacementGroupStatus::Bundle& bundle = *group.add_bundles();
      if (!there) continue;
      bundle.set_node(NameOf(lease.node));
      *bundle.mutable_resources() = lease.placement.resources();
      const v1::NodeResources& total = nodes_.at(lease.node).hello.resources();
      for (const v1::DeviceShare& share : lease.placement.devices()) {
        const int device = static_cast<int>(share.device());
        if (device < total.gpus_size()) bundle.add_gpu_ids(total.gpus(device).id());
      }
    }
    group.set_state(placed ? "placed" : any ? "being placed anew" : "waiting");
    const v1::GroupShape& shape =
        request.spec.shapes(placed ? static_cast<int>(request.leases[0].placement.shape()) : 0);
    const uint32_t level = placed ? request.leases[0].placement.level() : 0;
    group.set_strategy(shape.strategy_size() == 0 ? "pack"
                       : placed && level < static_cast<uint32_t>(shape.strategy_size())
                           ? shape.strategy(static_cast<int>(level))
                           : absl::StrJoin(shape.strategy(), " > "));
    if (const std::optional<sched::Explanation> why = scheduler_.Explain(id, now)) {
      group.set_needs(why->needs);
      if (!placed && !why->choices.empty()) group.set_why(why->choices[0].why);
    }
  }
}

}  // namespace muster::head
