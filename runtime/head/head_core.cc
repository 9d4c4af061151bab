#include "runtime/head/head_core.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/head/node_condition.h"
#include "runtime/wire/convert.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/check.h"

namespace muster::head {
namespace {

sched::SchedulerConfig SchedulerConfigOf(const HeadConfig& config) {
  sched::SchedulerConfig scheduler;
  scheduler.start = config.start;
  scheduler.infeasible_grace = config.infeasible_grace;
  scheduler.decisions_kept = config.decisions_kept;
  scheduler.decision_detail = config.decision_detail;
  scheduler.sharing = config.sharing;
  if (!config.hierarchy.empty()) scheduler.hierarchy = config.hierarchy;
  scheduler.placement = config.placement;
  scheduler.overtaken_max = config.overtaken_max;
  scheduler.reservation_after = config.reservation_after;
  scheduler.quarantine_grace = config.quarantine_grace;
  scheduler.waiting_requests_max = config.waiting_requests_max;
  scheduler.waiting_per_tenant_max = config.waiting_per_tenant_max;
  return scheduler;
}

}  // namespace

HeadCore::HeadCore(HeadConfig config)
    : config_(std::move(config)),
      scheduler_(SchedulerConfigOf(config_)),
      store_(config_.store_bytes_max),
      sharing_(config_.tenants, config_.quotas, config_.sharing_limits),
      ended_(config_.ended_requests_kept),
      now_(config_.start) {
  std::vector<sched::Action> none;  // Nothing waits yet.
  for (const sched::TenantSet& tenant : config_.tenants) {
    scheduler_.Step({.at = now_, .what = tenant}, none);
  }
  for (const sched::Quota& quota : config_.quotas) {
    scheduler_.Step({.at = now_, .what = sched::QuotaSet{quota}}, none);
  }
}

void HeadCore::Step(const Event& event, std::vector<Action>& actions) {
  MUSTER_CHECK(event.at >= now_);
  now_ = event.at;
  actions_ = &actions;
  std::visit([this](const auto& what) { On(what); }, event.what);
  UpdateContention();
  actions_ = nullptr;
}

absl::Time HeadCore::NextTick() const {
  absl::Time next = scheduler_.NextTick();
  if (!incomplete_.empty()) next = std::min(next, incomplete_.begin()->first);
  for (const auto& [id, node] : nodes_) {
    if (node.presence == Presence::kConnected || node.presence == Presence::kAway) {
      next = std::min(next, node.heard + config_.node_timeout);
    }
  }
  for (const auto& [id, driver] : drivers_) {
    if (driver.connection != 0) continue;
    next = std::min(next, driver.away_since + (driver.seen ? config_.driver_timeout
                                                           : config_.unseen_driver_timeout));
  }
  for (const auto& [id, query] : queries_) next = std::min(next, query.deadline);
  return next;
}

void HeadCore::On(const FromDriver& from) {
  if (from.message.has_hello()) {
    OnHello(from.connection, from.message.hello());
    return;
  }
  const auto known = driver_of_.find(from.connection);
  if (known == driver_of_.end()) return;  // It was refused, or has said goodbye.
  Driver& driver = drivers_.at(known->second);
  std::vector<StoreCore::Reply> replies;
  switch (from.message.what_case()) {
    case v1::DriverMessage::kRequest:
      OnRequest(driver, from.message.request());
      break;
    case v1::DriverMessage::kCancel:
      OnCancel(driver, from.message.cancel().request());
      break;
    case v1::DriverMessage::kReturnLease:
      OnReturn(driver, from.message.return_lease());
      break;
    case v1::DriverMessage::kKillLease:
      OnKill(driver, from.message.kill_lease());
      break;
    case v1::DriverMessage::kBlocked:
      OnBlocked(driver, from.message.blocked());
      break;
    case v1::DriverMessage::kBacklog:
      driver.backlog = from.message.backlog();
      break;
    case v1::DriverMessage::kFlushLogs:
      OnFlush(driver, from.message.flush_logs().sequence());
      break;
    case v1::DriverMessage::kStore:
      store_.Do(from.connection, from.message.store(), replies);
      break;
    case v1::DriverMessage::kStoreAbort:
      store_.Abort(from.message.store_abort(), replies);
      break;
    case v1::DriverMessage::kStoreClose:
      store_.Close(from.message.store_close().group());
      break;
    case v1::DriverMessage::kTasksFound:
      OnFound(from.connection, from.message.tasks_found());
      break;
    case v1::DriverMessage::kGoodbye:
      EndDriver(driver.id, "it has ended");
      break;
    default:
      break;  // A newer driver's message.
  }
  for (StoreCore::Reply& reply : replies) {
    v1::ToDriver message;
    *message.mutable_store_result() = std::move(reply.result);
    actions_->push_back(ToDriver{reply.connection, std::move(message)});
  }
}

void HeadCore::On(const DriverClosed& closed) {
  store_.ConnectionClosed(closed.connection);
  std::vector<uint64_t> asked;
  for (auto& [id, query] : queries_) {
    if (query.pending.erase(closed.connection) > 0) asked.push_back(id);
  }
  for (uint64_t id : asked) AnswerIfComplete(id, false);
  const auto known = driver_of_.find(closed.connection);
  if (known == driver_of_.end()) return;
  Driver& driver = drivers_.at(known->second);
  driver_of_.erase(known);
  driver.connection = 0;
  driver.away_since = now_;
}

void HeadCore::On(const FromWorker& from) {
  if (from.message.has_hello()) {
    OnHello(from.connection, from.message.hello());
    return;
  }
  const auto known = node_of_.find(from.connection);
  if (known == node_of_.end()) return;  // Refused, or declared lost.
  Node& node = nodes_.at(known->second);
  node.heard = now_;
  switch (from.message.what_case()) {
    case v1::WorkerMessage::kStarted:
      OnStarted(node, from.message.started());
      break;
    case v1::WorkerMessage::kEnded:
      OnEnded(node, from.message.ended());
      break;
    case v1::WorkerMessage::kLog: {
      const auto driver = drivers_.find(from.message.log().driver());
      if (driver == drivers_.end()) break;
      v1::ToDriver message;
      *message.mutable_log() = from.message.log();
      Tell(driver->second, std::move(message));
      break;
    }
    case v1::WorkerMessage::kLogsFlushed: {
      const auto driver = drivers_.find(from.message.logs_flushed().driver());
      if (driver != drivers_.end()) FlushedBy(driver->second, node.id);
      break;
    }
    case v1::WorkerMessage::kLabels: {
      absl::StatusOr<sched::Labels> labels = LabelsFromProto(from.message.labels().labels());
      if (!labels.ok()) {
        SayLine(absl::StrCat("node ", node.name, " keeps its labels: ", labels.status().message()),
                true);
        break;
      }
      Schedule(sched::NodeChanged{node.id, sched::WithAliases(*std::move(labels))});
      break;
    }
    case v1::WorkerMessage::kDraining: {
      std::optional<absl::Time> deadline;
      if (from.message.draining().deadline_in_ns() > 0) {
        deadline = now_ + absl::Nanoseconds(from.message.draining().deadline_in_ns());
      }
      node.draining = node.ends = true;  // By itself: it ends once it is empty.
      SayLine(absl::StrCat("node ", node.name, " is draining"));
      Schedule(sched::NodeDraining{.node = node.id, .deadline = deadline});
      break;
    }
    case v1::WorkerMessage::kHealth:
      if (CheckGpu(node.hello, from.message.health()).ok()) SetHealth(node, from.message.health());
      break;
    case v1::WorkerMessage::kLeaving:
      LoseNode(node, "it has left", Presence::kLeft);
      break;
    default:
      break;  // A heartbeat, or a newer worker's message.
  }
}

void HeadCore::On(const WorkerClosed& closed) {
  const auto known = node_of_.find(closed.connection);
  if (known == node_of_.end()) return;
  Node& node = nodes_.at(known->second);
  node_of_.erase(known);
  node.connection = 0;
  if (node.presence != Presence::kConnected) return;
  node.presence = Presence::kAway;
  SayLine(absl::StrCat("node ", node.name, " closed its connection; lost if it is not back ",
                       absl::FormatDuration(config_.node_timeout), " after its last sign of life"),
          true);
  Schedule(sched::NodeReachable{node.id, false});
}

void HeadCore::On(const StopAsked&) {
  stopping_ = true;
  for (const auto& [id, node] : nodes_) {
    v1::ToWorker message;
    message.mutable_shutdown();
    Tell(node, std::move(message));
  }
}

void HeadCore::On(const Tick&) {
  std::vector<NodeId> silent;
  for (const auto& [id, node] : nodes_) {
    const bool counted = node.presence == Presence::kConnected || node.presence == Presence::kAway;
    if (counted && now_ >= node.heard + config_.node_timeout) silent.push_back(id);
  }
  for (NodeId id : silent) {
    LoseNode(nodes_.at(id),
             absl::StrCat("no sign of life for ", absl::FormatDuration(config_.node_timeout)),
             Presence::kLost);
  }
  std::vector<uint64_t> gone;
  for (const auto& [id, driver] : drivers_) {
    if (driver.connection != 0) continue;
    const absl::Duration patience =
        driver.seen ? config_.driver_timeout : config_.unseen_driver_timeout;
    if (now_ >= driver.away_since + patience) gone.push_back(id);
  }
  for (uint64_t id : gone) EndDriver(id, "its connection broke");
  std::vector<uint64_t> late;
  for (const auto& [id, query] : queries_) {
    if (now_ >= query.deadline) late.push_back(id);
  }
  for (uint64_t id : late) AnswerIfComplete(id, true);
  GiveUpMissing();
  Schedule(sched::Tick{});
}

void HeadCore::Schedule(decltype(sched::Event::what) what) {
  sched::Event event;
  event.at = now_;
  event.what = std::move(what);
  if (config_.on_event) config_.on_event(event);
  std::vector<sched::Action> actions;  // Its own: applying one may schedule again.
  scheduler_.Step(event, actions);
  for (const sched::Action& action : actions) {
    std::visit([this](const auto& done) { Apply(done); }, action);
  }
}

void HeadCore::Apply(const sched::Grant& grant) {
  Request& request = requests_.at(grant.request);
  if (request.is_group()) return GrantGroup(request, grant);
  const Driver& driver = drivers_.at(request.driver);
  request.granted = true;
  request.leases.resize(grant.placements.size());
  for (size_t bundle = 0; bundle < grant.placements.size(); ++bundle) {
    const sched::Placement& placement = grant.placements[bundle];
    Lease& lease = request.leases[bundle];
    lease.state = LeaseState::kStarting;
    lease.node = placement.node;
    lease.placement = ToProto(placement);
    v1::ToWorker message;
    v1::StartLease& start = *message.mutable_start();
    *start.mutable_lease() = KeyOf(request, static_cast<int>(bundle));
    *start.mutable_spec() = request.spec;
    *start.mutable_placement() = lease.placement;
    *start.mutable_binary() = driver.hello.binary();
    start.set_driver_host_id(driver.hello.host_id());
    start.set_job(driver.hello.job());
    drivers_.at(request.driver).nodes.insert(placement.node);
    Tell(nodes_.at(placement.node), std::move(message));
  }
}

void HeadCore::Apply(const sched::Infeasible& infeasible) {
  const auto found = requests_.find(infeasible.request);
  if (found == requests_.end()) return;
  v1::ToDriver message;
  message.mutable_infeasible()->set_request(found->second.number);
  message.mutable_infeasible()->set_failed(infeasible.failed);
  message.mutable_infeasible()->set_reason(infeasible.reason);
  Driver& driver = drivers_.at(found->second.driver);
  Tell(driver, std::move(message));
  if (!infeasible.failed) return;
  Ended(found->second);
  driver.requests.erase(found->second.number);
  requests_.erase(found);
}

void HeadCore::Apply(const sched::Rejected& rejected) {
  const auto found = requests_.find(rejected.request);
  if (found == requests_.end()) return;
  v1::ToDriver message;
  message.mutable_rejected()->set_request(found->second.number);
  *message.mutable_rejected()->mutable_status() =
      ToProto(absl::ResourceExhaustedError(rejected.reason));
  Driver& driver = drivers_.at(found->second.driver);
  Tell(driver, std::move(message));
  Ended(found->second);
  driver.requests.erase(found->second.number);
  requests_.erase(found);
}

void HeadCore::Apply(const sched::LeaseLost& lost) {
  const auto found = requests_.find(lost.request);
  if (found == requests_.end()) return;
  v1::LeaseEnded ended;
  *ended.mutable_lease() = KeyOf(found->second, lost.bundle);
  ended.set_end(v1::LEASE_END_NODE_LOST);
  ended.set_message("its node did not come back");
  // No node: one bundle of several that a new head has never seen.
  if (const auto node = nodes_.find(lost.node); node != nodes_.end()) {
    const bool there =
        node->second.presence == Presence::kConnected || node->second.presence == Presence::kAway;
    ended.set_message(there ? absl::StrCat("it moves away from node ", node->second.name)
                            : absl::StrCat("node ", node->second.name, " is lost"));
    ended.set_node(node->second.name);
    StopLeaseOn(node->second, ended.lease(), true, "another part of its request is lost");
  }
  EndLease(found->second, lost.bundle, std::move(ended), /*tell_scheduler=*/false);
}

void HeadCore::Apply(const sched::Notice& notice) {
  const auto found = requests_.find(notice.request);
  if (found == requests_.end()) return;
  found->second.leases[notice.bundle].notice = notice;
  TellNotice(found->second, notice.bundle);
}

void HeadCore::Apply(const sched::Revoke& revoke) {
  const auto found = requests_.find(revoke.request);
  if (found == requests_.end()) return;
  const Lease& lease = found->second.leases[revoke.bundle];
  if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) return;
  if (found->second.is_group()) {  // Nothing runs by it that could say its end.
    v1::LeaseEnded ended;
    ended.set_end(v1::LEASE_END_STOPPED);
    ended.set_message(absl::StrCat(ToString(revoke.reason), ": ", revoke.why));
    StopLeaseOn(nodes_.at(lease.node), KeyOf(found->second, revoke.bundle), true, ended.message());
    EndReservation(found->second, revoke.bundle, std::move(ended), /*tell_scheduler=*/true);
    return;
  }
  StopLeaseOn(nodes_.at(lease.node), KeyOf(found->second, revoke.bundle), /*kill=*/true,
              absl::StrCat(ToString(revoke.reason), ": ", revoke.why));
}

void HeadCore::UpdateContention() {
  const bool contended = scheduler_.HasWaiting();
  if (contended == contended_) return;
  contended_ = contended;
  for (const auto& [id, driver] : drivers_) {
    v1::ToDriver message;
    message.mutable_contended()->set_contended(contended);
    Tell(driver, std::move(message));
  }
}

absl::Status HeadCore::CheckPeer(const v1::Protocol& theirs) const {
  return config_.check_peer ? config_.check_peer(theirs) : absl::OkStatus();
}

HeadCore::Request* HeadCore::Find(const v1::LeaseKey& key) {
  return const_cast<Request*>(std::as_const(*this).Find(key));
}

const HeadCore::Request* HeadCore::Find(const v1::LeaseKey& key) const {
  const auto driver = drivers_.find(key.driver());
  if (driver == drivers_.end()) return nullptr;
  const auto number = driver->second.requests.find(key.request());
  return number == driver->second.requests.end() ? nullptr : &requests_.at(number->second);
}

v1::LeaseKey HeadCore::KeyOf(const Request& request, int bundle) const {
  v1::LeaseKey key;
  key.set_driver(request.driver);
  key.set_request(request.number);
  key.set_bundle(static_cast<uint32_t>(bundle));
  return key;
}

void HeadCore::Tell(const Driver& driver, v1::ToDriver message) {
  if (driver.connection == 0) return;  // It replays what it holds when it is back.
  actions_->push_back(ToDriver{driver.connection, std::move(message)});
}

void HeadCore::Tell(const Node& node, v1::ToWorker message) {
  if (node.connection == 0) return;
  actions_->push_back(ToWorker{node.connection, std::move(message)});
}

void HeadCore::SayLine(std::string text, bool warning) {
  actions_->push_back(Say{warning, std::move(text)});
}

void HeadCore::Refuse(ConnectionId connection, bool worker, const absl::Status& status,
                      bool fenced) {
  v1::Refused refused;
  *refused.mutable_status() = ToProto(status);
  refused.set_fenced(fenced);
  if (worker) {
    v1::ToWorker message;
    *message.mutable_refused() = refused;
    actions_->push_back(ToWorker{connection, std::move(message)});
  } else {
    v1::ToDriver message;
    *message.mutable_refused() = refused;
    actions_->push_back(ToDriver{connection, std::move(message)});
  }
  actions_->push_back(CloseConnection{connection});
}

HeadCore::Counts HeadCore::Count() const {
  Counts counts;
  counts.drivers = drivers_.size();
  counts.requests = requests_.size();
  for (const auto& [id, request] : requests_) {
    for (const Lease& lease : request.leases) {
      if (lease.state == LeaseState::kStarting || lease.state == LeaseState::kStarted)
        ++counts.leases;
    }
  }
  return counts;
}

void HeadCore::CheckInvariants() const {
  scheduler_.CheckInvariants();
  std::set<std::string> quotas;
  for (const sched::QuotaView& view : scheduler_.QuotaViews()) quotas.insert(view.quota.name);
  MUSTER_CHECK(quotas == sharing_.QuotasInForce());
  for (const auto& [id, request] : requests_) {
    MUSTER_CHECK(request.id == id);
    MUSTER_CHECK(request.granted == !request.leases.empty());
    const auto driver = drivers_.find(request.driver);
    MUSTER_CHECK(driver != drivers_.end());
    const auto number = driver->second.requests.find(request.number);
    MUSTER_CHECK(number != driver->second.requests.end());
    MUSTER_CHECK(number->second == id);
    bool live = !request.granted;
    for (const Lease& lease : request.leases) {
      if (lease.state == LeaseState::kStarting || lease.state == LeaseState::kStarted) live = true;
    }
    MUSTER_CHECK(live || request.is_group());
  }
  for (const auto& [connection, driver] : driver_of_) {
    MUSTER_CHECK(drivers_.at(driver).connection == connection);
  }
  for (const auto& [connection, node] : node_of_) {
    MUSTER_CHECK(nodes_.at(node).connection == connection);
  }
}

}  // namespace muster::head
