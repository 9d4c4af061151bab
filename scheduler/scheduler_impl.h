// The inside of Scheduler: one class in four files. scheduler.cc takes events, scheduler_decide.cc
// places and opens choices, scheduler_report.cc explains and checks, scheduler_snapshot.cc takes
// all of it out and in again.
#pragma once

#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/cluster.h"
#include "scheduler/group_placer.h"
#include "scheduler/leaving.h"
#include "scheduler/placer.h"
#include "scheduler/reservation.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"

namespace muster::sched {

class Scheduler::Impl {
 public:
  explicit Impl(SchedulerConfig config)
      : config_(config),
        cluster_(config.lost_nodes_kept, config.idle_classes_kept, config.hierarchy) {}

  void Step(const Event& event, std::vector<Action>& actions);
  absl::Time NextTick() const;
  std::optional<Explanation> Explain(RequestId id, absl::Time now) const;
  std::vector<WaitingClass> Waiting(absl::Time now) const;
  std::vector<NodeView> Nodes() const { return cluster_.Views(); }
  bool HasWaiting() const { return waiting_ > 0 || !broken_.empty(); }
  void CheckInvariants() const;

  // scheduler_snapshot.cc
  Snapshot TakeSnapshot() const;
  absl::Status Load(const Snapshot& snapshot, std::vector<Action>& actions);  // REQUIRES: new.

 private:
  void CheckGroups() const;
  std::vector<ChoiceExplanation> ChoicesOf(const Request& request) const;
  absl::Status LoadClasses(const Snapshot& snapshot);
  absl::Status LoadRequest(const SnapshotRequest& from);
  absl::Status LoadReservation(const SnapshotReservation& from);
  absl::Status LoadInside(Request& request, int number, Node& node);
  absl::Status LoadBundle(const SnapshotBundle& from, Request& request, int number);

  void On(const NodeJoined& event);
  void On(const NodeChanged& event);
  void On(const NodeReachable& event);
  void On(const NodeDraining& event);
  void On(const NodeLost& event);
  void On(const Requested& event);
  void On(const RequestCancelled& event);
  void On(const LeaseFinished& event);
  void On(const LeaseBlocked& event);
  void On(const Tick&) {}

  // --- Time ---
  absl::Time GraceEnd() const { return config_.start + config_.infeasible_grace; }
  bool InGrace() const { return now_ < GraceEnd(); }
  void OpenDueChoices();
  void GiveUpAdoptions();

  // --- Deciding ---
  void Settle();  // Until nothing more can be placed, opened or said.
  void LookAgainAtAvoided();
  void PlaceAll();
  bool PlaceHead(SchedulingClass& of);
  bool PlaceOne(SchedulingClass& of, Request& head);
  bool PlaceGroup(SchedulingClass& of, Request& head);
  bool PlaceVisibleGroup(SchedulingClass& of, Request& head);
  std::optional<Room> FindRoomFor(const SchedulingClass& of, const Request& head);
  std::optional<Room> FindVisibleRoom(const SchedulingClass& of, int open) const;
  std::vector<Node*> NodesFor(const RequestSpec& spec) const;
  bool Avoids(const Request& request) const;  // The nodes that it avoids are out of question yet.
  void PlaceBundle(Request& request, const Room& room);
  void TakeBackBundles(Request& request);
  bool OpenByFindings();
  std::vector<SchedulingClass*> ClassesToLookAt() const;  // Among those that wait.
  void SayInfeasible();
  void SayInfeasible(SchedulingClass& of, const std::vector<Request*>& to);

  // --- Placement groups, strategies and what runs inside groups (placement_groups.cc) ---
  struct BundleRoom {  // What is left of a bundle that requests were placed in.
    Capacity left;
    absl::btree_set<LeaseId> children{};
  };
  bool PlaceShaped(SchedulingClass& of, Request& head);
  bool PlaceInside(SchedulingClass& of, Request& head);
  // Where a request inside a group would go now: which bundle, which choice.
  struct InsideRoom {
    Request* group = nullptr;
    int bundle = 0;
    int choice = 0;
  };
  std::optional<InsideRoom> FindInside(const SchedulingClass& of, int open) const;
  bool TakeInside(const SchedulingClass& of, Request& request);
  void GiveBackInside(Request& request);
  bool HasRoomNow(const SchedulingClass& of, const Request& head) const;
  bool GrewForOne(const SchedulingClass& of) const;
  void PlaceAt(Request& request, int number, const Room& room);
  void FollowTopology(Request& request);  // Numbers equal bundles along the topology.
  void RefreshFeasible(SchedulingClass& of);
  bool FeasibleInside(const SchedulingClass& of) const;
  std::string WhyInfeasible(const SchedulingClass& of) const;
  BundleRoom& RoomOf(Request& group, int bundle);
  Capacity WholeRoom(const Request& group, int bundle) const;
  bool AdoptInside(const HeldLease& held, Node& node, int& bundle);
  void EndInside(Request& child, int number);
  void WakeInside(RequestId group);
  // Its holders are told; free at once where there are none.
  void GiveUp(Request& group, int bundle, const std::string& why);
  void MarkBroken(Request& group);
  void PlaceBroken();
  bool PlaceLost(Request& group);
  void ReleaseAll(Request& group);
  void FinishClosing(Request& group);
  void RequeueGroup(Request& group);
  void RemoveGroup(Request& group);
  void FailInside(RequestId group);
  WaitingKey KeyOf(const Request& request) const {
    return {-int64_t{request.of->spec.priority}, request.arrival};
  }

  // --- The reservation (reservation.cc) ---
  struct ReservedRoom {
    std::tuple<absl::Time, int64_t, uint64_t> cost{};
    std::vector<Node*> nodes{};
  };
  const Request* OldestBig() const;
  static bool Matters(const SchedulingClass& of, const Node& node);
  void CountOvertaking(const Request& granted);
  bool ReservationDue() const;
  absl::Time ReservationTick() const;
  void UpdateReservation();
  void DropReservation();
  void ReservedNodeChanged(const Node& node);
  void SetAside(std::vector<Node*> nodes);
  void ShowReserved(const std::vector<Node*>& nodes, bool shown);
  void PlanReservation();
  std::optional<ReservedRoom> CheapestIn(const Domain& domain, const Request& group, int shape,
                                         int level);
  absl::Time FreesAt(const Node& node) const;
  void CheckReservation() const;
  // Whether the class of that place may use what is set aside: those before the group, and itself.
  bool SeesReserved(WaitingKey key) const {
    return !reservation_.nodes.empty() && !(KeyOf(*Find(reservation_.group)) < key);
  }

  // --- Requests ---
  Request* Find(RequestId id) const;
  static Bundle* Running(Request* request, int bundle);  // Null: there is no such lease.
  Request& Add(RequestId id, const SpecHandle& spec);
  void Forget(Request& request);
  void Enqueue(Request& request);
  void Dequeue(Request& request);
  void Granted(Request& request);  // All its bundles have their placement.
  void SayGrant(const Request& request);
  void EndBundle(Request& request, int bundle);
  void ForgetIfEnded(Request& request);
  void Adopt(const HeldLease& held, Node& node);
  void WaitForMissing(Request& request);
  void StopWaitingForMissing(Request& request);

  // --- Indexes ---
  void Reindex(SchedulingClass& of);
  void Grew(Node& node);
  void Touch(SchedulingClass& of) { touched_.insert(of.id); }

  const SchedulerConfig config_;
  Cluster cluster_;
  absl::Time now_ = absl::InfinitePast();
  std::vector<Action>* actions_ = nullptr;  // During Step().

  absl::flat_hash_map<RequestId, std::unique_ptr<Request>> requests_;
  uint64_t next_arrival_ = 1;
  int64_t waiting_ = 0;

  // Classes with waiting requests: all of them, those not known to be blocked, and by their next
  // timer.
  absl::btree_map<WaitingKey, SchedulingClass*> order_;
  absl::btree_map<WaitingKey, SchedulingClass*> ready_;
  absl::btree_map<std::pair<absl::Time, uint64_t>, SchedulingClass*> timers_;
  absl::btree_set<std::pair<absl::Time, RequestId>> adoptions_;
  Leaving leaving_;  // Leases that have a Notice.

  // Since the last decision:
  std::vector<Node*> grown_;       // Usable nodes with more room, or labels that may match more.
  bool topology_changed_ = false;  // Nodes or labels, or the grace is over.
  absl::btree_set<uint64_t> touched_;  // Classes whose queue or open choices changed.
  Request* new_waiting_ = nullptr;     // What the event brought.

  // --- Placement groups ---
  mutable GroupPlacer group_placer_;
  mutable GroupRoom group_room_;  // Scratch.
  absl::btree_map<LeaseId, BundleRoom> rooms_;
  // By group: the classes of requests inside it, and how many requests each has.
  absl::btree_map<RequestId, absl::btree_map<uint64_t, int64_t>> inside_;
  absl::btree_map<WaitingKey, Request*> broken_;  // Groups that lost bundles.
  bool try_broken_ = false;
  Reservation reservation_;
  absl::btree_map<WaitingKey, SchedulingClass*> big_;  // As order_, those of several bundles.
  std::vector<Node*> regrown_;  // Grew while others were placed: looked at next.
};

}  // namespace muster::sched
