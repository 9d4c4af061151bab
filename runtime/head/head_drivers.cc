// Drivers: their hellos, requests and ends.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/convert.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/status_macros.h"

namespace muster::head {
namespace {

constexpr size_t kSpecsKept = 4096;  // Of one driver.

}  // namespace

void HeadCore::OnHello(ConnectionId connection, const v1::DriverHello& hello) {
  if (absl::Status status = CheckPeer(hello.protocol()); !status.ok()) {
    SayLine(absl::StrCat("refused driver ", hello.name(), ": ", status.message()), true);
    Refuse(connection, /*worker=*/false, status);
    return;
  }
  if (hello.driver() == 0) {
    Refuse(connection, false, absl::InvalidArgumentError("the driver's hello carries no id"));
    return;
  }
  Driver& driver = DriverOrUnseen(hello.driver());
  const bool first = !driver.seen;
  if (driver.connection != 0) {
    driver_of_.erase(driver.connection);
    actions_->push_back(CloseConnection{driver.connection});
  }
  driver.connection = connection;
  driver.seen = true;
  driver.hello = hello;
  // It says again what it lends.
  if (const auto lends = std::exchange(driver.lends, std::nullopt)) Lend(*lends, false);
  if (driver.hello.job() == 0) driver.hello.set_job(hello.driver());
  driver_of_[connection] = driver.id;

  v1::ToDriver welcome;
  *welcome.mutable_welcome()->mutable_protocol() = config_.protocol;
  welcome.mutable_welcome()->set_head(config_.head);
  Tell(driver, std::move(welcome));
  if (contended_) {
    v1::ToDriver message;
    message.mutable_contended()->set_contended(true);
    Tell(driver, std::move(message));
  }
  if (first && !hello.resumed()) {
    SayLine(absl::StrCat("driver ", hello.name(), " (pid ", hello.pid(), ") connected"));
    if (!hello.has_parent()) Prestart(driver);
  }
  AskForPackage(driver);
  if (!hello.resumed()) return;

  // What the driver no longer wants or holds ends; what it has not heard of is said again.
  std::vector<uint64_t> unwanted;
  for (const auto& entry : driver.requests) {
    const uint64_t number = entry.first;
    const Request& request = requests_.at(entry.second);
    const bool waits =
        std::find(hello.waits().begin(), hello.waits().end(), number) != hello.waits().end();
    if (!request.granted || request.is_group()) {
      if (!waits) {
        unwanted.push_back(number);
        continue;
      }
      if (!request.granted) continue;
    }
    for (size_t bundle = 0; bundle < request.leases.size(); ++bundle) {
      const Lease& lease = request.leases[bundle];
      if (lease.state == LeaseState::kEnded && waits) {  // Other ranks live, and wait for this one.
        v1::ToDriver message;
        *message.mutable_lease_ended()->mutable_lease() = KeyOf(request, static_cast<int>(bundle));
        message.mutable_lease_ended()->set_end(v1::LEASE_END_STOPPED);
        message.mutable_lease_ended()->set_message("it ended while its driver was away");
        Tell(driver, std::move(message));
      }
      if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) continue;
      const bool held =
          std::any_of(hello.holds().begin(), hello.holds().end(), [&](const v1::LeaseKey& key) {
            return key.request() == number && key.bundle() == bundle;
          });
      if (held) {
        TellNotice(request, static_cast<int>(bundle));
        continue;
      }
      if (waits) {
        if (lease.state == LeaseState::kStarted) {
          SendGranted(request, static_cast<int>(bundle));
          TellNotice(request, static_cast<int>(bundle));
        }
      } else {
        StopLeaseOn(nodes_.at(lease.node), KeyOf(request, static_cast<int>(bundle)), true,
                    "its driver does not hold it");
      }
    }
  }
  for (uint64_t number : unwanted) OnCancel(driver, number);
}

HeadCore::Driver& HeadCore::DriverOrUnseen(uint64_t id) {
  Driver& driver = drivers_[id];
  if (driver.id == 0) {
    driver.id = id;
    driver.away_since = now_;
    driver.hello.set_job(id);
  }
  return driver;
}

// The requests of a task class say the same each time, so that it is read once.
absl::StatusOr<sched::SpecHandle> HeadCore::SpecOf(Driver& driver, v1::LeaseRequest& message) {
  // Nested drivers are of the outermost one's tenant and job.
  const auto outermost = drivers_.find(driver.hello.job());
  const v1::DriverHello& payer =
      outermost == drivers_.end() ? driver.hello : outermost->second.hello;
  message.mutable_spec()->set_tenant(payer.tenant());
  message.mutable_spec()->set_job(payer.job_name());
  std::string bytes = message.spec().SerializeAsString();
  const auto known = driver.specs.find(message.task_class());
  if (known != driver.specs.end() && known->second.bytes == bytes) return known->second.spec;
  // Leases are never shared between drivers, nor between the tasks of classes that one driver keeps
  // apart.
  MUSTER_ASSIGN_OR_RETURN(
      sched::RequestSpec read,
      FromProto(message.spec(), absl::StrFormat("%016x/%d", driver.id, message.task_class())));
  if (driver.specs.size() >= kSpecsKept) driver.specs.clear();
  if (read.inside) read.inside->group = GroupOf(driver, message.spec());
  sched::SpecHandle spec = std::move(read);
  if (spec->inside && spec->inside->group.value == 0) return spec;  // It may come yet.
  driver.specs[message.task_class()] = {.bytes = std::move(bytes), .spec = spec};
  return spec;
}

void HeadCore::OnRequest(Driver& driver, v1::LeaseRequest message) {
  // Said again after a reconnect.
  if (const auto known = driver.requests.find(message.request()); known != driver.requests.end()) {
    AskAgain(requests_.at(known->second), message);
    return;
  }
  absl::StatusOr<sched::SpecHandle> spec = SpecOf(driver, message);
  if (!spec.ok()) {
    v1::ToDriver rejected;
    rejected.mutable_rejected()->set_request(message.request());
    *rejected.mutable_rejected()->mutable_status() = ToProto(spec.status());
    Tell(driver, std::move(rejected));
    return;
  }
  Request request;
  request.id = RequestId{++last_request_};
  request.driver = driver.id;
  request.number = message.request();
  request.task_class = message.task_class();
  request.task_id = message.task_id();
  request.spec = std::move(*message.mutable_spec());
  request.asked_at = now_;
  const RequestId id = request.id;
  const bool placed = request.is_group() && message.placed_shape() > 0;
  driver.requests[message.request()] = id;
  requests_.emplace(id, std::move(request));
  sched::Requested requested{id, *std::move(spec),
                             placed ? static_cast<int>(message.placed_shape()) - 1 : -1,
                             RequestId{message.instead_of()}};
  // Its driver has let go of the old leases; their executors may not have said so yet.
  const auto old = requests_.find(requested.instead_of);
  if (old != requests_.end() && old->second.driver == driver.id && old->second.granted) {
    follow_.insert_or_assign(old->first, std::move(requested));
    return;
  }
  Schedule(std::move(requested));
}

void HeadCore::OnCancel(Driver& driver, uint64_t number) {
  const auto found = driver.requests.find(number);
  if (found == driver.requests.end()) return;
  const RequestId id = found->second;
  if (requests_.at(id).is_group()) return RemoveGroup(driver, requests_.at(id));
  if (requests_.at(id).granted) return;  // The driver will hear of it, and return it.
  driver.requests.erase(found);
  requests_.erase(id);
  Schedule(sched::RequestCancelled{id});
}

void HeadCore::OnReturn(Driver& driver, const v1::ReturnLease& message) {
  if (message.lease().driver() != driver.id) return;
  Request* request = Find(message.lease());
  if (request == nullptr || message.lease().bundle() >= request->leases.size()) return;
  // Its driver gave it up while there was no head.
  if (request->is_group()) return RemoveGroup(driver, *request);
  const Lease& lease = request->leases[message.lease().bundle()];
  if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) return;
  // Of a broken lease the executor's own end says more than its driver can.
  StopLeaseOn(nodes_.at(lease.node), message.lease(), message.broken(),
              message.broken() ? "" : message.why());
}

void HeadCore::OnKill(Driver& driver, const v1::KillLease& message) {
  if (message.lease().driver() != driver.id) return;
  const Request* request = Find(message.lease());
  if (request == nullptr || message.lease().bundle() >= request->leases.size()) return;
  const Lease& lease = request->leases[message.lease().bundle()];
  if (lease.state != LeaseState::kStarting && lease.state != LeaseState::kStarted) return;
  StopLeaseOn(nodes_.at(lease.node), message.lease(), true, message.why());
}

// Kept with the driver: the lease may not be known yet to a head that has just been started.
void HeadCore::OnBlocked(Driver& driver, const v1::LeaseBlocked& message) {
  driver.lends.reset();
  if (message.blocked()) driver.lends = message.lease();
  Lend(message.lease(), message.blocked());
}

void HeadCore::Lend(const v1::LeaseKey& key, bool lent) {
  const Request* request = Find(key);
  if (request == nullptr || key.bundle() >= request->leases.size()) return;
  Schedule(sched::LeaseBlocked{request->id, static_cast<int>(key.bundle()), lent});
}

void HeadCore::OnFlush(Driver& driver, uint64_t sequence) {
  Flush flush;
  flush.sequence = sequence;
  for (NodeId id : driver.nodes) {
    const Node& node = nodes_.at(id);
    if (node.connection == 0) continue;
    flush.pending.insert(id);
    v1::ToWorker message;
    message.mutable_flush_logs()->set_driver(driver.id);
    message.mutable_flush_logs()->set_sequence(sequence);
    Tell(node, std::move(message));
  }
  driver.flush = std::move(flush);
  FlushedBy(driver, NodeId{0});
}

void HeadCore::FlushedBy(Driver& driver, NodeId node) {
  if (!driver.flush.has_value()) return;
  driver.flush->pending.erase(node);
  if (!driver.flush->pending.empty()) return;
  v1::ToDriver message;
  message.mutable_logs_flushed()->set_driver(driver.id);
  message.mutable_logs_flushed()->set_sequence(driver.flush->sequence);
  driver.flush.reset();
  Tell(driver, std::move(message));
}

void HeadCore::EndDriver(uint64_t id, const std::string& why) {
  const auto found = drivers_.find(id);
  if (found == drivers_.end()) return;
  Driver& driver = found->second;
  if (driver.seen) {
    SayLine(absl::StrCat("driver ", driver.hello.name(), " (pid ", driver.hello.pid(),
                         ") is gone: ", why));
  }
  std::vector<uint64_t> waiting;
  for (const auto& [number, request] : driver.requests) {
    const Request& known = requests_.at(request);
    if (!known.granted || known.is_group()) waiting.push_back(number);
  }
  for (uint64_t number : waiting) OnCancel(driver, number);
  if (const auto lends = std::exchange(driver.lends, std::nullopt)) Lend(*lends, false);
  v1::ToWorker ended;
  ended.mutable_driver_ended()->set_driver(id);
  ended.mutable_driver_ended()->set_job_ended(driver.hello.job() == id);
  for (const auto& [node_id, node] : nodes_) Tell(node, ended);
  store_.CloseAllOf(absl::StrFormat("%016x/", id));
  if (driver.connection != 0) {
    driver_of_.erase(driver.connection);
    actions_->push_back(CloseConnection{driver.connection});
    driver.connection = 0;
  }
  // Its leases end as their workers say so; then the record goes too.
  driver.seen = true;
  driver.away_since = absl::InfiniteFuture();
  if (driver.requests.empty()) drivers_.erase(found);
}

void HeadCore::Prestart(const Driver& driver) {
  if (driver.hello.binary().path().empty()) return;
  int nodes = 0;
  for (const auto& [id, node] : nodes_) {
    if (node.presence != Presence::kConnected || node.draining) continue;
    if (++nodes > config_.prestart_nodes_max) break;
    v1::ToWorker message;
    v1::DriverStarted& started = *message.mutable_driver_started();
    started.set_driver(driver.id);
    started.set_job(driver.hello.job());
    *started.mutable_binary() = driver.hello.binary();
    started.set_executors(1);
    Tell(node, std::move(message));
  }
}

void HeadCore::AskForPackage(Driver& driver) {
  if (driver.package_asked || driver.connection == 0) return;
  const bool needed = std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
    return entry.second.presence == Presence::kConnected &&
           entry.second.hello.host_id() != driver.hello.host_id();
  });
  if (!needed) return;
  driver.package_asked = true;
  v1::ToDriver message;
  message.mutable_need_package();
  Tell(driver, std::move(message));
}

void HeadCore::SendGranted(const Request& request, int bundle) {
  const Lease& lease = request.leases[static_cast<size_t>(bundle)];
  const Node& node = nodes_.at(lease.node);
  v1::ToDriver message;
  v1::Granted& granted = *message.mutable_granted();
  *granted.mutable_lease() = KeyOf(request, bundle);
  *granted.mutable_placement() = lease.placement;
  granted.set_node(node.name);
  *granted.mutable_labels() = node.hello.labels();
  granted.set_unix_socket(lease.started.unix_socket());
  granted.set_tcp_address(lease.started.tcp_address());
  granted.set_host_id(node.hello.host_id());
  granted.set_token(lease.started.token());
  granted.set_pid(lease.started.pid());
  Tell(drivers_.at(request.driver), std::move(message));
}

}  // namespace muster::head
