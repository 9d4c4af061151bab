// Nodes: joining, coming back, being lost; and the leases on them.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/convert.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/check.h"

namespace muster::head {

void HeadCore::OnHello(ConnectionId connection, const v1::WorkerHello& hello) {
  if (absl::Status status = CheckPeer(hello.protocol()); !status.ok()) {
    SayLine(absl::StrCat("refused a worker (pid ", hello.pid(), "): ", status.message()), true);
    Refuse(connection, /*worker=*/true, status);
    return;
  }
  if (stopping_) {
    v1::ToWorker message;
    message.mutable_shutdown();
    actions_->push_back(ToWorker{connection, std::move(message)});
    return;
  }
  const auto known = node_of_worker_.find(hello.worker());
  if (known == node_of_worker_.end()) {
    if (hello.joined_head() == config_.head) {  // So old that it was forgotten as lost.
      Refuse(connection, true, absl::FailedPreconditionError("the node was declared lost"), true);
      return;
    }
    Join(connection, hello);
    return;
  }
  Node& node = nodes_.at(known->second);
  if (node.presence == Presence::kLost || node.presence == Presence::kLeft) {
    SayLine(absl::StrCat("node ", node.name, " is back after it was declared lost: fenced"), true);
    Refuse(connection, true,
           absl::FailedPreconditionError(absl::StrCat("node ", node.name, " was declared lost")),
           true);
    return;
  }
  Rejoin(node, connection, hello);
}

void HeadCore::Join(ConnectionId connection, const v1::WorkerHello& hello) {
  absl::StatusOr<sched::Labels> labels = LabelsFromProto(hello.labels());
  absl::StatusOr<sched::NodeResources> total = FromProto(hello.resources());
  absl::Status status = labels.status();
  status.Update(total.status());
  if (hello.worker() == 0)
    status.Update(absl::InvalidArgumentError("the worker's hello carries no id"));
  std::string name = hello.name();
  if (name.empty()) name = absl::StrFormat("%016x", hello.worker()).substr(0, 6);
  for (const auto& [id, other] : nodes_) {
    if (other.name != name || other.presence == Presence::kLost ||
        other.presence == Presence::kLeft)
      continue;
    if (hello.name().empty()) {
      name = absl::StrFormat("%016x", hello.worker());
    } else {
      status.Update(absl::AlreadyExistsError(
          absl::StrCat("the name \"", name, "\" is that of a node which is alive")));
    }
  }
  // Lost ones among them: they are remembered for a while only.
  if (nodes_.size() >= config_.nodes_max + static_cast<size_t>(config_.lost_nodes_max)) {
    status.Update(absl::ResourceExhaustedError(absl::StrCat(
        "the head knows ", nodes_.size(), " nodes already, which is the most allowed")));
  }
  if (!status.ok()) {
    SayLine(absl::StrCat("refused a worker (pid ", hello.pid(), "): ", status.message()), true);
    Refuse(connection, true, status);
    return;
  }
  Node node;
  node.id = NodeId{++last_node_};
  node.worker = hello.worker();
  node.name = name;
  node.connection = connection;
  node.heard = now_;
  node.hello = hello;
  node.hello.clear_sharing();  // Kept once, in sharing_.
  *labels = sched::WithAliases(*std::move(labels));
  (*labels)["ray.io/node-id"] = name;
  v1::Entry& id_label = *node.hello.add_labels();
  id_label.set_key("ray.io/node-id");
  id_label.set_value(name);
  const NodeId id = node.id;
  node_of_worker_[hello.worker()] = id;
  node_of_[connection] = id;
  Node& joined = nodes_.emplace(id, std::move(node)).first->second;

  v1::ToWorker welcome;
  *welcome.mutable_welcome()->mutable_protocol() = config_.protocol;
  welcome.mutable_welcome()->set_head(config_.head);
  welcome.mutable_welcome()->set_node_name(name);
  Tell(joined, std::move(welcome));
  TakeSharing(joined, hello.sharing());

  std::vector<sched::HeldLease> adopted;
  for (const v1::HeldLease& held : hello.held()) Adopt(joined, held, adopted);
  SayLine(absl::StrCat(
      "node ", name, " joined",
      adopted.empty() ? "" : absl::StrCat(" with ", adopted.size(), " running leases")));
  sched::NodeJoined event{id, name, *std::move(labels), *std::move(total), std::move(adopted)};
  TakeCondition(joined, hello.condition(), event);
  Schedule(std::move(event));
  for (auto& [driver_id, driver] : drivers_) {
    AskForPackage(driver);
    if (driver.lends.has_value()) Lend(*driver.lends, true);
  }
}

// A lease from before this head's memory. Its driver may be here already (and may even have asked
// again), or will come; the worker says again where the lease's executor listens.
void HeadCore::Adopt(Node& node, const v1::HeldLease& held,
                     std::vector<sched::HeldLease>& adopted) {
  const v1::LeaseKey& key = held.lease();
  absl::StatusOr<sched::RequestSpec> spec =
      FromProto(held.spec(), absl::StrFormat("%016x/held", key.driver()));
  absl::StatusOr<sched::Placement> placement = FromProto(held.placement(), node.id);
  if (spec.ok() && placement.ok() && spec->is_group()) {
    if (!AdoptReservation(node, held, *spec, *std::move(placement), adopted)) {
      StopLeaseOn(node, key, true, "its description cannot be read");
    }
    return;
  }
  if (!spec.ok() || !placement.ok() || key.bundle() >= static_cast<uint32_t>(spec->bundles)) {
    StopLeaseOn(node, key, true, "its description cannot be read");
    return;
  }
  Driver& driver = DriverOrUnseen(key.driver());
  if (spec->inside) {
    spec->inside->group = GroupOf(driver, held.spec());
    if (spec->inside->group.value == 0) {
      StopLeaseOn(node, key, true, "its placement group is not there");
      return;
    }
  }
  auto number = driver.requests.find(key.request());
  if (number != driver.requests.end() && !requests_.at(number->second).granted) {
    const uint64_t task_class = requests_.at(number->second).task_class;
    OnCancel(driver, key.request());  // Asked again meanwhile; the lease it got before is as good.
    number = driver.requests.end();
    spec->owner = absl::StrFormat("%016x/%d", key.driver(), task_class);
  }
  if (number == driver.requests.end()) {
    Request request;
    request.id = RequestId{++last_request_};
    request.driver = driver.id;
    request.number = key.request();
    request.spec = held.spec();
    request.granted = true;
    request.leases.resize(static_cast<size_t>(spec->bundles));
    number = driver.requests.emplace(key.request(), request.id).first;
    if (spec->bundles > 1) incomplete_.emplace(now_ + config_.adoption_timeout, request.id);
    requests_.emplace(request.id, std::move(request));
  }
  Request& request = requests_.at(number->second);
  if (key.bundle() >= request.leases.size() ||
      request.leases[key.bundle()].state != LeaseState::kNone) {  // Granted anew elsewhere.
    StopLeaseOn(node, key, true, "it was granted again");
    // Until the worker says that it has ended it holds what it holds.
    const sched::HeldLease doomed{RequestId{++last_request_}, static_cast<int>(key.bundle()),
                                  *std::move(spec), *std::move(placement)};
    node.doomed[key.SerializeAsString()] = {doomed.request, doomed.bundle};
    adopted.push_back(doomed);
    return;
  }
  Lease& lease = request.leases[key.bundle()];
  lease.state = LeaseState::kStarting;
  lease.node = node.id;
  lease.placement = held.placement();
  driver.nodes.insert(node.id);
  adopted.push_back(sched::HeldLease{request.id, static_cast<int>(key.bundle()), *std::move(spec),
                                     *std::move(placement)});
}

// Ranks whose nodes did not come back in time are over, so that their group is placed anew.
void HeadCore::GiveUpMissing() {
  while (!incomplete_.empty() && incomplete_.begin()->first <= now_) {
    const RequestId id = incomplete_.begin()->second;
    incomplete_.erase(incomplete_.begin());
    const auto found = requests_.find(id);
    if (found == requests_.end()) continue;
    Request& request = found->second;  // It stays: at least one of its leases has not ended.
    for (size_t bundle = 0; bundle < request.leases.size(); ++bundle) {
      if (request.leases[bundle].state != LeaseState::kNone) continue;
      v1::LeaseEnded ended;
      *ended.mutable_lease() = KeyOf(request, static_cast<int>(bundle));
      ended.set_end(v1::LEASE_END_NODE_LOST);
      ended.set_message(absl::StrCat("its node was not back ",
                                     absl::FormatDuration(config_.adoption_timeout),
                                     " after the others, when the head was started again"));
      EndLease(request, static_cast<int>(bundle), std::move(ended), /*tell_scheduler=*/false);
    }
  }
}

void HeadCore::Rejoin(Node& node, ConnectionId connection, const v1::WorkerHello& hello) {
  if (node.connection != 0) {
    node_of_.erase(node.connection);
    actions_->push_back(CloseConnection{node.connection});
  }
  node.connection = connection;
  node.heard = now_;
  node_of_[connection] = node.id;
  v1::ToWorker welcome;
  *welcome.mutable_welcome()->mutable_protocol() = config_.protocol;
  welcome.mutable_welcome()->set_head(config_.head);
  welcome.mutable_welcome()->set_node_name(node.name);
  Tell(node, std::move(welcome));
  TakeSharing(node, hello.sharing());
  SayLine(absl::StrCat("node ", node.name, " is back"));

  const auto holds = [&](const v1::LeaseKey& key) {
    return std::any_of(hello.held().begin(), hello.held().end(), [&](const v1::HeldLease& held) {
      return held.lease().driver() == key.driver() && held.lease().request() == key.request() &&
             held.lease().bundle() == key.bundle();
    });
  };
  std::vector<sched::LeaseFinished> freed;
  for (auto doomed = node.doomed.begin(); doomed != node.doomed.end();) {
    v1::LeaseKey key;
    MUSTER_CHECK(key.ParseFromString(doomed->first));
    if (holds(key)) {
      ++doomed;
      continue;
    }
    freed.push_back({doomed->second.first, doomed->second.second});
    doomed = node.doomed.erase(doomed);
  }
  for (const sched::LeaseFinished& finished : freed) Schedule(finished);
  std::vector<v1::LeaseKey> missing;
  for (const auto& [id, request] : requests_) {
    for (size_t bundle = 0; bundle < request.leases.size(); ++bundle) {
      const Lease& lease = request.leases[bundle];
      if (lease.node != node.id) continue;
      if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) continue;
      const v1::LeaseKey key = KeyOf(request, static_cast<int>(bundle));
      if (!holds(key)) missing.push_back(key);
    }
  }
  for (const v1::LeaseKey& key : missing) {
    v1::LeaseEnded ended;
    *ended.mutable_lease() = key;
    ended.set_end(v1::LEASE_END_STOPPED);
    ended.set_message("the order got lost with the link to the node");
    ended.set_node(node.name);
    EndLease(*Find(key), static_cast<int>(key.bundle()), std::move(ended), true);
  }
  for (const v1::HeldLease& held : hello.held()) {
    const Request* request = Find(held.lease());
    const bool ours = request != nullptr && held.lease().bundle() < request->leases.size() &&
                      request->leases[held.lease().bundle()].node == node.id &&
                      request->leases[held.lease().bundle()].state != LeaseState::kEnded &&
                      !drivers_.at(request->driver).over();
    if (!ours) StopLeaseOn(node, held.lease(), true, "the head does not know it");
  }
  node.presence = Presence::kConnected;
  Schedule(sched::NodeReachable{node.id, true});
}

void HeadCore::OnStarted(Node& node, const v1::LeaseStarted& started) {
  Request* request = Find(started.lease());
  if (request == nullptr || started.lease().bundle() >= request->leases.size()) {
    StopLeaseOn(node, started.lease(), true, "the head does not know it");
    return;
  }
  Lease& lease = request->leases[started.lease().bundle()];
  if (lease.node != node.id) return;
  if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) return;
  lease.state = LeaseState::kStarted;
  lease.started = started;
  const Driver& driver = drivers_.at(request->driver);
  if (driver.over()) {
    StopLeaseOn(node, started.lease(), true, "its driver is gone");
    return;
  }
  SendGranted(*request, static_cast<int>(started.lease().bundle()));
  TellNotice(*request, static_cast<int>(started.lease().bundle()));  // It came before the lease.
}

void HeadCore::OnEnded(Node& node, const v1::LeaseEnded& message) {
  if (const auto doomed = node.doomed.find(message.lease().SerializeAsString());
      doomed != node.doomed.end()) {
    const sched::LeaseFinished finished{doomed->second.first, doomed->second.second};
    node.doomed.erase(doomed);
    Schedule(finished);
    return;
  }
  Request* request = Find(message.lease());
  if (request == nullptr || message.lease().bundle() >= request->leases.size()) return;
  if (request->leases[message.lease().bundle()].node != node.id) return;
  v1::LeaseEnded ended = message;
  ended.set_node(node.name);
  EndLease(*request, static_cast<int>(message.lease().bundle()), std::move(ended), true);
}

void HeadCore::EndLease(Request& request, int bundle, v1::LeaseEnded ended, bool tell_scheduler) {
  if (request.is_group()) return EndReservation(request, bundle, std::move(ended), tell_scheduler);
  Lease& lease = request.leases[static_cast<size_t>(bundle)];
  if (lease.state == LeaseState::kEnded) return;
  lease.state = LeaseState::kEnded;
  const RequestId id = request.id;
  Driver& driver = drivers_.at(request.driver);
  v1::ToDriver message;
  *message.mutable_lease_ended() = std::move(ended);
  Tell(driver, std::move(message));
  const bool over =
      std::none_of(request.leases.begin(), request.leases.end(), [](const Lease& other) {
        return other.state == LeaseState::kStarting || other.state == LeaseState::kStarted;
      });
  if (over) {
    Ended(request);
    driver.requests.erase(request.number);
    const bool driver_over = driver.requests.empty() && (driver.over() || !driver.seen);
    const uint64_t driver_id = driver.id;
    requests_.erase(id);
    if (driver_over) drivers_.erase(driver_id);
  }
  if (tell_scheduler) Schedule(sched::LeaseFinished{id, bundle});
  if (!over) return;
  const auto next = follow_.find(id);
  if (next == follow_.end()) return;
  sched::Requested requested = std::move(next->second);
  follow_.erase(next);
  if (requests_.contains(requested.request)) Schedule(std::move(requested));
}

void HeadCore::LoseNode(Node& node, const std::string& why, Presence presence) {
  SayLine(absl::StrCat("node ", node.name, presence == Presence::kLeft ? " has left" : " is lost: ",
                       presence == Presence::kLeft ? "" : why),
          presence == Presence::kLost);
  node.presence = presence;
  if (node.connection != 0) {
    // A worker that is declared lost while its stream stands is fenced over that stream.
    const ConnectionId connection = node.connection;
    node_of_.erase(connection);
    node.connection = 0;
    if (presence == Presence::kLost) {
      Refuse(connection, true,
             absl::FailedPreconditionError(
                 absl::StrCat("node ", node.name, " was declared lost: ", why)),
             true);
    } else {
      actions_->push_back(CloseConnection{connection});
    }
  }
  node.doomed.clear();
  const NodeId id = node.id;
  for (auto& [driver_id, driver] : drivers_) {
    if (driver.flush.has_value()) FlushedBy(driver, id);
  }
  Schedule(sched::NodeLost{id});
  ForgetOldLostNodes();
}

void HeadCore::ForgetOldLostNodes() {
  int lost = 0;
  std::vector<NodeId> forgotten;
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    const bool gone =
        node->second.presence == Presence::kLost || node->second.presence == Presence::kLeft;
    if (gone && ++lost > config_.lost_nodes_max) forgotten.push_back(node->first);
  }
  for (NodeId id : forgotten) {
    for (auto& [driver_id, driver] : drivers_) driver.nodes.erase(id);
    node_of_worker_.erase(nodes_.at(id).worker);
    nodes_.erase(id);
  }
}

void HeadCore::StopLeaseOn(const Node& node, const v1::LeaseKey& key, bool kill,
                           const std::string& why) {
  v1::ToWorker message;
  *message.mutable_stop()->mutable_lease() = key;
  message.mutable_stop()->set_kill(kill);
  message.mutable_stop()->set_why(why);
  Tell(node, std::move(message));
}

bool HeadCore::AllWorkersGone() const { return node_of_.empty(); }

}  // namespace muster::head
