// The head's core: nodes, drivers and leases around the Scheduler, the groups' stores, and the
// answers of `muster status` and `muster explain`. Messages in, messages out, time passed in; no
// gRPC, clocks, threads.
//
//   request:  waiting -> granted (each bundle a lease) -> over, once every lease has ended
//   lease:    starting (worker told) -> started (driver told) -> ended (resources free)
//   node:     alive <-> unreachable -> lost (fenced if it comes back);  alive -> draining -> left
//   driver:   connected <-> away -> ended (its leases are killed, its requests forgotten)
//
// Invariants: a lease's resources are free again only when its worker said that it ended or the
// node is lost;
//   all state is soft: workers and drivers replay what they hold to a head that has forgotten it.
// Thread-safety: none; the head's one thread owns it.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "runtime/head/ended_requests.h"
#include "runtime/head/head_events.h"
#include "runtime/head/sharing_changes.h"
#include "runtime/head/store_core.h"
#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/scheduler.h"

namespace muster::head {

struct HeadConfig {
  uint64_t head = 1;      // Drawn at random for each start.
  std::string address;    // "127.0.0.1:6379", for messages.
  v1::Protocol protocol;  // What this head says of itself.
  // Whether a driver or worker that says this of itself may stay; absent: all may.
  std::function<absl::Status(const v1::Protocol& theirs)> check_peer;
  int pid = 0;
  absl::Time start{};
  absl::Duration node_timeout = absl::Seconds(10);
  // A driver whose stream broke is given this long to come back; one that leases speak of, but that
  // a new head has not seen yet, the second.
  absl::Duration driver_timeout = absl::Seconds(3);
  absl::Duration unseen_driver_timeout = absl::Seconds(60);
  absl::Duration explain_timeout = absl::Seconds(2);
  // How long a head that may have forgotten its nodes waits for them before it calls a request
  // infeasible.
  absl::Duration infeasible_grace = absl::Seconds(2);
  // How long a request of which some ranks came back waits for the nodes of the others.
  absl::Duration adoption_timeout = absl::Seconds(30);
  sched::SharingConfig sharing{};  // How the cluster is shared; see scheduler/sharing.h.
  std::vector<sched::TenantSet> tenants{};
  std::vector<sched::Quota> quotas{};
  SharingLimits sharing_limits{};
  // Placement groups; see sched::SchedulerConfig. An empty hierarchy: the default.
  std::vector<std::string> hierarchy;
  int overtaken_max = 64;
  absl::Duration reservation_after = absl::Minutes(1);
  absl::Duration quarantine_grace = absl::Seconds(30);
  size_t store_bytes_max = 64 << 20;
  int prestart_nodes_max = 4;
  int64_t waiting_requests_max = 2'000'000;  // What is beyond these is rejected.
  int64_t waiting_per_tenant_max = 1'000'000;
  size_t nodes_max = 200'000;
  int lost_nodes_max = 1000;  // Remembered, to fence them.
  sched::PlacementPolicy placement = sched::PlacementPolicy::kPack;
  int decisions_kept = 4096;
  sched::DecisionDetail decision_detail = sched::DecisionDetail::kSampled;
  size_t ended_requests_kept = 4096;
  // Up to so many nodes and requests explain says when a task could start; so many steps it may
  // look ahead.
  size_t estimate_size_max = 5000;
  int64_t estimate_steps_max = 10'000;
  // Is told each event for the scheduler, before it takes it. May be empty.
  std::function<void(const sched::Event&)> on_event;
};

class HeadCore {
 public:
  explicit HeadCore(HeadConfig config);

  // Appends to `actions`; they are done in this order. REQUIRES: event.at does not go back.
  void Step(const Event& event, std::vector<Action>& actions);
  absl::Time NextTick() const;
  v1::StatusReply Status(absl::Time now) const;
  // Errors: kNotFound naming a node that is not there, kInvalidArgument a GPU that it does not
  // have.
  absl::Status CheckControl(const v1::ControlNodeRequest& request) const;
  v1::NodeStatus NodeStatusOf(const std::string& node, absl::Time now) const;  // Of one alive.
  // Whether SharingControl would do what is asked. Errors: as SharingChanges::Read().
  absl::Status CheckSharing(const v1::SetSharingRequest& request) const;
  // What is true after it: of the quota, of the tenant, and how many workers keep it.
  v1::SetSharingReply SharingAfter(const v1::SetSharingRequest& request) const;
  // Decision `number`; where it is 0, the newest, at most `most`.
  v1::DecisionsReply Decisions(uint64_t number, uint32_t most) const;
  v1::DecisionsReply DecisionsAbout(const v1::ExplainReply& explained) const;  // About that task.
  snapshot::SnapshotFile TakeSnapshot() const;  // As of the last event: a Tick goes before it.
  bool AllWorkersGone() const;
  struct Counts {
    size_t drivers = 0;
    size_t requests = 0;
    size_t leases = 0;  // That have not ended.
  };
  Counts Count() const;
  void CheckInvariants() const;

 private:
  enum class LeaseState { kNone, kStarting, kStarted, kEnded };
  struct Lease {
    LeaseState state = LeaseState::kNone;
    NodeId node;
    v1::Placement placement;
    v1::LeaseStarted started;
    std::optional<sched::Notice> notice;  // It was told to leave.
  };
  struct Request {
    RequestId id;
    uint64_t driver = 0;
    uint64_t number = 0;  // The driver's.
    uint64_t task_class = 0;
    std::string task_id;
    v1::RequestSpec spec;
    bool granted = false;
    std::vector<Lease> leases;  // By bundle, once granted.
    absl::Time asked_at{};
    // A placement group: its leases are reservations. It stays until its driver removes it.
    bool is_group() const { return spec.shapes_size() > 0; }
  };
  struct Flush {
    uint64_t sequence = 0;
    std::set<NodeId> pending;
  };
  // What a driver said last for a task class, as it came and as it was read.
  struct KnownSpec {
    std::string bytes;
    sched::SpecHandle spec;
  };
  struct Driver {
    uint64_t id = 0;
    ConnectionId connection = 0;
    bool seen = false;        // False: only leases speak of it.
    absl::Time away_since{};  // connection == 0.
    v1::DriverHello hello;
    v1::Backlog backlog;
    absl::flat_hash_map<uint64_t, KnownSpec> specs;  // By task class.
    absl::btree_map<uint64_t, RequestId> requests;
    std::set<NodeId> nodes;  // That have run something for it.
    std::optional<Flush> flush;
    bool package_asked = false;
    std::optional<v1::LeaseKey> lends;  // The lease whose task waits for this driver's tasks.

    // It has ended; the record stays until the last of its leases has.
    bool over() const { return connection == 0 && away_since == absl::InfiniteFuture(); }
  };
  enum class Presence { kConnected, kAway, kLost, kLeft };
  struct Node {
    NodeId id;
    uint64_t worker = 0;
    std::string name;
    ConnectionId connection = 0;
    Presence presence = Presence::kConnected;
    bool draining = false;
    bool ends = false;            // Its worker was told to end.
    v1::NodeCondition condition;  // As operators and health reports have it; its worker keeps it.
    std::optional<absl::Time> drain_by;  // The condition's deadline.
    absl::Time heard{};
    v1::WorkerHello hello;
    // Leases that it had when it joined and that are to be killed, by key: what they are to the
    // scheduler.
    absl::btree_map<std::string, std::pair<RequestId, int>> doomed;
  };
  struct Query {
    std::string prefix;
    std::set<ConnectionId> pending;
    absl::Time deadline{};
    std::vector<std::pair<uint64_t, v1::FoundTask>> found;  // Driver, task.
  };

  // Dispatch (head_core.cc).
  void On(const FromDriver& from);
  void On(const DriverClosed& closed);
  void On(const FromWorker& from);
  void On(const WorkerClosed& closed);
  void On(const Asked& asked);
  void On(const StopAsked& stop);
  void On(const NodeControl& control);
  void On(const SharingControl& control);
  void On(const Tick& tick);
  void Schedule(decltype(sched::Event::what) what);
  void Apply(const sched::Grant& grant);
  void Apply(const sched::Infeasible& infeasible);
  void Apply(const sched::Rejected& rejected);
  void Apply(const sched::LeaseLost& lost);
  void Apply(const sched::Notice& notice);
  void Apply(const sched::Revoke& revoke);
  void Apply(const sched::NoticeWithdrawn& withdrawn);
  void Apply(const sched::NodeEmpty& empty);
  void UpdateContention();

  // Drivers (head_drivers.cc).
  void OnHello(ConnectionId connection, const v1::DriverHello& hello);
  // Fills in whose it is.
  absl::StatusOr<sched::SpecHandle> SpecOf(Driver& driver, v1::LeaseRequest& message);
  void OnRequest(Driver& driver, v1::LeaseRequest request);
  void OnCancel(Driver& driver, uint64_t number);
  void OnReturn(Driver& driver, const v1::ReturnLease& message);
  void OnKill(Driver& driver, const v1::KillLease& message);
  void OnBlocked(Driver& driver, const v1::LeaseBlocked& message);
  void Lend(const v1::LeaseKey& key, bool lent);
  void OnFlush(Driver& driver, uint64_t sequence);
  void FlushedBy(Driver& driver, NodeId node);
  void EndDriver(uint64_t driver, const std::string& why);
  void Prestart(const Driver& driver);
  void AskForPackage(Driver& driver);
  void SendGranted(const Request& request, int bundle);
  Driver& DriverOrUnseen(uint64_t id);

  // What is said of nodes (node_condition.cc).
  void SetDrain(Node& node, bool draining, std::optional<absl::Time> deadline,
                const std::string& reason);
  void SetHealth(Node& node, const v1::GpuHealth& health);
  void TakeCondition(Node& node, const v1::NodeCondition& condition, sched::NodeJoined& joined);
  void SendCondition(const Node& node);
  void TellNotice(const Request& request, int bundle);
  const Node* FindNode(const std::string& name) const;  // Null: there is none alive.
  v1::NodeStatus NodeStatusOf(const sched::NodeView& view, const Node& node, absl::Time now) const;

  // Quotas and weights (head_sharing.cc).
  // What was done, for people.
  std::string ApplySharing(const SharingChanges::SchedulerEvent& event);
  void TakeSharing(Node& node, const v1::SharingChanges& theirs);
  void SendSharing(const Node& node);
  v1::QuotaStatus QuotaStatusOf(const sched::QuotaView& view) const;
  void FillSharing(v1::StatusReply& reply) const;

  // Nodes and leases (head_nodes.cc).
  void OnHello(ConnectionId connection, const v1::WorkerHello& hello);
  void Join(ConnectionId connection, const v1::WorkerHello& hello);
  void Rejoin(Node& node, ConnectionId connection, const v1::WorkerHello& hello);
  void Adopt(Node& node, const v1::HeldLease& held, std::vector<sched::HeldLease>& adopted);
  void GiveUpMissing();
  void OnStarted(Node& node, const v1::LeaseStarted& started);
  void OnEnded(Node& node, const v1::LeaseEnded& ended);
  void LoseNode(Node& node, const std::string& why, Presence presence);
  void EndLease(Request& request, int bundle, v1::LeaseEnded ended, bool tell_scheduler);
  void StopLeaseOn(const Node& node, const v1::LeaseKey& key, bool kill, const std::string& why);
  void ForgetOldLostNodes();

  // Placement groups (head_groups.cc).
  void GrantGroup(Request& request, const sched::Grant& grant);
  void EndReservation(Request& request, int bundle, v1::LeaseEnded ended, bool tell_scheduler);
  void RemoveGroup(Driver& driver, Request& request);
  void AskAgain(const Request& request, const v1::LeaseRequest& message);
  bool AdoptReservation(Node& node, const v1::HeldLease& held, const sched::RequestSpec& spec,
                        sched::Placement placement, std::vector<sched::HeldLease>& adopted);
  // The group that the spec is inside, by the scheduler's number for it; 0: it is not there.
  RequestId GroupOf(const Driver& driver, const v1::RequestSpec& spec) const;
  void ReportGroups(absl::Time now, v1::StatusReply& reply) const;

  // Reports (head_report.cc).
  void OnFound(ConnectionId connection, const v1::TasksFound& found);
  void AnswerIfComplete(uint64_t query, bool now);
  v1::ExplainReply MakeReply(const Query& query) const;
  void FillWaiting(const v1::FoundTask& task, uint64_t driver, v1::ExplainReply& reply) const;
  std::optional<RequestId> RequestOf(const v1::FoundTask& task, uint64_t driver) const;
  std::string NameOf(NodeId id) const;  // Also of one that has not come (back).
  void FillRunning(const v1::FoundTask& task, v1::ExplainReply& reply) const;

  // Decisions, and what could be (head_decisions.cc).
  v1::Decision ProtoOf(const sched::DecisionView& view) const;
  void FillEnded(const std::string& prefix, v1::ExplainReply& reply) const;
  void FillStart(RequestId request, v1::ExplainReply& reply, sched::Explanation& why) const;
  static EndedRequest AsEnded(const Request& request);
  void Ended(const Request& request);  // It is about to be forgotten.

  Request* Find(const v1::LeaseKey& key);
  const Request* Find(const v1::LeaseKey& key) const;
  absl::Status CheckPeer(const v1::Protocol& theirs) const;
  v1::LeaseKey KeyOf(const Request& request, int bundle) const;
  void Tell(const Driver& driver, v1::ToDriver message);
  void Tell(const Node& node, v1::ToWorker message);
  void SayLine(std::string text, bool warning = false);
  void Refuse(ConnectionId connection, bool worker, const absl::Status& status,
              bool fenced = false);

  const HeadConfig config_;
  sched::Scheduler scheduler_;
  StoreCore store_;
  SharingChanges sharing_;
  EndedRequests ended_;
  absl::Time now_{};
  std::vector<Action>* actions_ = nullptr;  // During Step().

  // What is asked for instead of a request, by that: for the scheduler once that has ended.
  absl::btree_map<RequestId, sched::Requested> follow_;
  uint64_t last_request_ = 0;
  uint64_t last_node_ = 0;
  bool contended_ = false;
  bool stopping_ = false;
  absl::btree_map<uint64_t, Driver> drivers_;
  absl::btree_map<ConnectionId, uint64_t> driver_of_;
  absl::btree_map<RequestId, Request> requests_;
  absl::btree_set<std::pair<absl::Time, RequestId>> incomplete_;  // Adopted in part; may be over.
  absl::btree_map<NodeId, Node> nodes_;
  absl::btree_map<uint64_t, NodeId> node_of_worker_;
  absl::btree_map<ConnectionId, NodeId> node_of_;
  absl::btree_map<uint64_t, Query> queries_;
};

}  // namespace muster::head
