// The inside of Scheduler: one class in several files. scheduler.cc takes events,
// scheduler_decide.cc places and opens choices, scheduler_share.cc says whose turn it is,
// scheduler_quotas.cc keeps quotas, scheduler_taking.cc takes leases for others, scheduler_plan.cc
// is backfill by reservations, scheduler_report.cc explains and checks, scheduler_snapshot.cc takes
// all of it out and scheduler_load.cc in again. The others are named where their functions are.
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
#include "absl/functional/function_ref.h"
#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/slab.h"
#include "scheduler/cluster.h"
#include "scheduler/decisions.h"
#include "scheduler/group_placer.h"
#include "scheduler/holds.h"
#include "scheduler/leaving.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/placer.h"
#include "scheduler/quotas.h"
#include "scheduler/reservation.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"
#include "scheduler/tenants.h"
#include "scheduler/timeline.h"
#include "scheduler/turns.h"
#include "scheduler/victims.h"
#include "scheduler/waiting_index.h"

namespace muster::sched {

// Requests are looked up by their ids, which they carry themselves.
struct RequestIdHash {
  using is_transparent = void;
  size_t operator()(RequestId id) const { return absl::Hash<RequestId>()(id); }
  size_t operator()(const Request* request) const { return (*this)(request->id); }
};
struct RequestIdEqual {
  using is_transparent = void;
  bool operator()(const Request* a, const Request* b) const { return a->id == b->id; }
  bool operator()(const Request* a, RequestId b) const { return a->id == b; }
  bool operator()(RequestId a, const Request* b) const { return a == b->id; }
};

class Scheduler::Impl {
 public:
  explicit Impl(SchedulerConfig config)
      : config_(config),
        grace_end_(config.start + config.infeasible_grace),
        cluster_(config.lost_nodes_kept, config.idle_classes_kept, config.hierarchy),
        decisions_(config.decisions_kept, config.decision_detail) {
    cluster_.packing().SetDefault(config.placement);
  }

  ~Impl() {
    for (Request* request : requests_) slab_.Delete(request);
    for (Request* request : free_requests_) slab_.Delete(request);
  }

  void Step(const Event& event, std::vector<Action>& actions);
  absl::Time NextTick() const;
  std::optional<Explanation> Explain(RequestId id, absl::Time now) const;
  std::vector<WaitingClass> Waiting(absl::Time now) const;
  std::vector<NodeView> Nodes() const { return cluster_.Views(); }
  std::vector<TenantView> TenantViews() const;
  std::vector<QuotaView> QuotaViews() const;
  int64_t searches() const { return searches_; }
  bool HasWaiting() const { return waiting_ > 0 || !broken_.empty(); }
  void CheckInvariants() const;

  // decisions_survey.cc
  std::vector<DecisionView> NewestDecisions(size_t most) const;
  std::optional<DecisionView> FindDecision(uint64_t number) const;
  std::optional<DecisionView> LatestDecision(RequestId request) const;

  // scheduler_snapshot.cc
  Snapshot TakeSnapshot() const;

  // scheduler_load.cc
  absl::Status Load(const Snapshot& snapshot, std::vector<Action>& actions);  // REQUIRES: new.

 private:
  void CheckGroups() const;
  std::vector<ChoiceExplanation> ChoicesOf(const Request& request) const;

  // --- A snapshot's parts ---
  absl::Status LoadDemand(const Snapshot& snapshot);
  absl::Status LoadNode(const SnapshotNode& from);
  absl::Status LoadClasses(const Snapshot& snapshot);
  absl::Status LoadRequest(const SnapshotRequest& from);
  absl::Status LoadHold(const SnapshotHold& from);
  absl::Status LoadQuarantine(const SnapshotNode& from);
  absl::Status LoadReservation(const SnapshotReservation& from);
  absl::Status LoadInside(Request& request, int number, Node& node);
  absl::Status LoadBundle(const SnapshotBundle& from, Request& request, int number);
  absl::Status LoadLeaving(const SnapshotLeaving& from);
  absl::Status CheckOvercommitted() const;

  void On(const NodeJoined& event);
  void On(const NodeChanged& event);
  void On(const NodeReachable& event);
  void On(const NodeDraining& event);
  void On(const DeviceHealth& event);
  void On(const NodeLost& event);
  void On(const Requested& event);
  void On(const RequestCancelled& event);
  void On(const LeaseFinished& event);
  void On(const LeaseBlocked& event);
  void On(const TenantSet& event);
  void On(const QuotaSet& event);
  void On(const QuotaRemoved& event);
  void On(const Tick&) {}

  // --- Time ---
  bool InGrace() const { return now_ < grace_end_; }
  void OpenDueChoices();

  // --- Deciding ---
  void Settle() {  // Until nothing more can be placed, opened or said.
    if (!IsSettled()) SettleChanged();
  }
  void SettleChanged();
  void SettleAll();
  // Nothing happens by the clock alone, and nothing is kept for anybody.
  bool IsCalm() const {
    return holds_.empty() && broken_.empty() && big_.empty() && reservation_.group == RequestId{} &&
           granted_since_.empty() && returns_.empty() &&
           config_.sharing.backfill == Backfill::kGreedy;
  }
  // Nothing has changed that could matter to what does not wait.
  bool SameNodes() const {
    return !topology_changed_ && !look_at_all_ && !try_broken_ && !quota_used_ && !quota_freed_;
  }
  // Settle() has been done, and nothing has changed since.
  bool IsSettled() const {
    return grown_.empty() && regrown_.empty() && changed_nodes_.empty() && touched_.empty() &&
           ready_.empty() && SameNodes() && IsCalm();
  }
  // A request of the class may be placed when it comes: nothing that waits could be placed now, so
  // it takes nothing from an older one.
  bool IsFirstOf(const SchedulingClass& of) const {
    return !of.waits() && of.spec.bundles == 1 && of.counted() && !IsConstrained(of.spec) &&
           PlainOrder() && holds_.empty() && quotas_.empty() && reservation_.group == RequestId{};
  }
  void LookAgainAtAvoided();
  void PlaceAll();
  void FindCandidates(std::optional<WaitingKey> tried);
  void DropCandidates();
  bool PlaceHead(SchedulingClass& of);
  bool PlaceShownHead(SchedulingClass& of);
  bool PlaceOne(SchedulingClass& of, Request& head);
  void PlaceFound(Request& request, const Room& room);
  bool PlaceGroup(SchedulingClass& of, Request& head);
  bool TakeGroup(const SchedulingClass& of, Request& request);         // All its bundles, or none.
  bool TakeVisibleGroup(const SchedulingClass& of, Request& request);  // On nodes not closed to it.
  std::optional<Room> FindRoomFor(const SchedulingClass& of, const Request& head);
  std::optional<Room> FindOpenRoom(const SchedulingClass& of, int first, int open) const;
  std::vector<Node*> NodesFor(const RequestSpec& spec) const;
  bool Avoids(const Request& request) const;  // The nodes that it avoids are out of question yet.
  void PlaceBundle(Request& request, const Room& room, bool dense = false);
  // Once what it holds is taken from the node.
  void BeginBundle(Request& request, int number, Node& node);
  void TakeBackBundles(Request& request);
  bool OpenByFindings();
  std::vector<SchedulingClass*> ClassesToLookAt();  // Among those that wait.
  void SayInfeasible();
  void SayInfeasible(SchedulingClass& of, const std::vector<Request*>& to);

  // --- What is kept of decisions ---
  void SurveyBefore(const SchedulingClass& of, const Room& room);  // The room is about to be taken.
  void RecordGrant(const Request& request);
  void RecordRest(size_t from) {  // Actions from there on, but grants, which RecordGrant() did.
    if (!decisions_.on()) return;
    for (size_t i = from; i < actions_->size(); ++i) {
      if (!std::holds_alternative<Grant>((*actions_)[i])) Record((*actions_)[i]);
    }
  }
  void Record(const Action& action);  // Where it is a decision.
  DecisionView ViewOf(const Decision& decision) const;
  // --- Between jobs ---
  bool ByShare() const { return config_.sharing.ordering == Ordering::kFair && tenants_.several(); }
  void PlaceInTurns();  // As PlaceAll(), where turns are not simply by age or not all may pass.
  void PlaceByPlan();   // For easy and conservative backfill.
  // The plan is made when it is asked for: most of the time nobody has room that could be put off.
  using PlanSource = absl::FunctionRef<Timeline&()>;
  bool PlaceHeadWithin(PlanSource plan, SchedulingClass& of);
  bool PlaceGroupWithin(PlanSource plan, SchedulingClass& of, Request& head);
  bool PlaceShapedWithin(PlanSource plan, SchedulingClass& of, Request& head);
  void ReserveStart(Timeline& plan, const Request& request);
  absl::Time ExpectedEnd(const Request& request, LeaseId lease) const;
  void AddEnds(Timeline& plan) const;
  // Each running bundle that takes from its node, and when it is expected to end.
  template <typename Visit>
  void ForEachEnd(Visit&& visit) const;  // visit(node, bundle, end)
  absl::Time NextLate() const {
    return PlansAhead() && waiting_ > 1 ? NextLateLease() : absl::InfiniteFuture();
  }
  absl::Time NextLateLease() const;
  absl::Duration ExpectedDuration(const RequestSpec& spec) const;
  std::optional<Room> FindWithinQuota(const SchedulingClass& of, int first, int open,
                                      const std::vector<Node*>* only) const;
  bool CloseByQuota(const SchedulingClass& of, int choice, ClosedNodes& closed) const;
  bool WaitsForQuota(const SchedulingClass& of) const;
  void LookAtQuotas();  // What they close to whom has changed.
  uint64_t ClosedChoices(const SchedulingClass& of, int open, bool& limited) const;
  bool HasRoomNow(const SchedulingClass& of, const Request& head) const;
  bool HasRoomAnywhere(const SchedulingClass& of, const Request& head) const;
  // The lease at `placement` begins (+1) or ends (-1).
  void Charge(const Request& request, const Bundle& bundle, int64_t sign);
  static Resources QuotaHeld(const Bundle& bundle);  // What of it quotas count.
  void ChargeQuotas(const RequestSpec& spec, NodeId node, const Resources& held, int64_t sign);
  void ChargeAgain(const Node& node, int64_t sign);  // All quotas, for all leases of a node.
  void ChargeKept(const Hold& hold, int64_t sign);
  void ChargeKept(const Hold& hold, const Node& node, int64_t sign);  // What of it is there.
  void CountBlocked(const RequestSpec& spec, int64_t sign);
  void SpareBlocked(LeaseId lease);
  // A lease of its job waits for others: it is held back by nobody.
  bool IsAwaited(const RequestSpec& spec) const {
    return !blocked_jobs_.empty() && blocked_jobs_.contains({spec.tenant, spec.job});
  }
  void FillHolds();
  bool DropSpareHolds();
  void DropHold(uint64_t id, bool spare_victims);
  void DropHoldsOn(const Node& node);
  void DropHoldsOf(const SchedulingClass& of);
  bool MayPreempt() const;
  // Who waits gets a start by the expected ends of leases: see sharing.h.
  bool PlansAhead() const {
    return config_.sharing.backfill == Backfill::kEasy ||
           config_.sharing.backfill == Backfill::kConservative;
  }
  // Classes come by priority and age, and whoever has room gets it.
  bool PlainOrder() const {
    return config_.sharing.backfill == Backfill::kGreedy && !ByShare() && !MayPreempt();
  }
  bool PreemptFor(SchedulingClass& of);
  bool TakeForAll(SchedulingClass& of, LeavingReason reason);
  bool TakeFromOthers();
  void LookAgain(SchedulingClass& of);
  bool TakeFor(SchedulingClass& of, Request& request, LeavingReason reason);
  bool TakeVisible(SchedulingClass& of, Request& request, LeavingReason reason);
  void TellToLeave(const Request& victim, const Notice& notice, Hold& hold);
  // Placement groups that were told to leave for others, once nothing runs inside them or their
  // time is over. True: there were some.
  bool EndLeavingGroups() { return !leaving_groups_.empty() && EndGroupsThatLeave(); }
  bool EndGroupsThatLeave();
  std::vector<LeaseId> LeasesInside(const Request& group) const;
  std::optional<int64_t> RankFor(const SchedulingClass& of, LeavingReason reason,
                                 const Request& victim) const;
  Capacity RoomFor(const SchedulingClass& of, const Node& node) const;
  void BeginSlice(const Request& request);  // From when it was granted.
  absl::Time NextSlice() const;
  std::optional<absl::Time> LastSliceOver() const;
  void ExplainQuotas(const Request& request, Explanation& explanation) const;
  std::vector<std::string> BetweenJobs(const Request& request) const;
  void CheckSharing() const;
  // --- Return to an earlier choice (returns.cc) ---
  void AwaitReturn(const Request& request);        // It was granted, adopted, or spared.
  void ForgetReturn(const Request& request);       // It ends, or is told.
  static int WorstChoice(const Request& request);  // Of its running bundles.
  static absl::Time ReturnDue(const Request& request);
  bool MayReturn(const Request& request) const;
  bool GrewForReturn(const Request& request) const;
  void TryReturns();
  bool TakeBundles(
      Request& request);             // By its open choices, whoever waits; false: there is no room.
  void ReturnOne(Request& request);  // Where there is room for it.
  // What is asked for instead of a request that has ended. False: nothing is kept for it.
  bool PlaceKept(Request& request, RequestId instead_of);
  void PlaceKept(Request& request, const HoldPart& part);
  void SpareReturning(const Hold& hold);  // It is dropped.
  void KeepClass(SchedulingClass& of);
  void LeaveClass(SchedulingClass& of);
  void CheckReturns() const;
  // --- Placement groups, strategies and what runs inside groups (placement_groups.cc,
  // inside_groups.cc) ---
  struct BundleRoom {  // What is left of a bundle that requests were placed in.
    Capacity left;
    absl::btree_set<LeaseId> children{};
  };
  bool PlaceShaped(SchedulingClass& of, Request& head);
  bool FindShaped(const SchedulingClass& of, int open) const;
  void PlaceFoundShape(Request& head);  // Where group_room_ says.
  void TakeFoundShape(Request& request);
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
  void ReleaseAll(Request& group, const std::string& why);
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
  bool SeesReserved(const SchedulingClass& of) const {
    return SeesReserved(of.key()) || (!reservation_.nodes.empty() && IsAwaited(of.spec));
  }

  // --- What must leave a node (drain.cc, quarantine.cc) ---
  void Drain(Node& node, const NodeDraining& event);
  void SetHealth(Node& node, const DeviceHealth& event);
  void ApplyQuarantine(Node& node);  // Once node.quarantined has changed.
  // The Notice that the state of its node and devices gives the lease; nullopt: it may stay.
  std::optional<Notice> MustLeave(const Node& node, LeaseId lease) const;
  void TellLeases(Node& node);  // All of the node, anew.
  void TellLease(const Node& node, LeaseId lease);
  // The reason that it was told for is over: others may hold.
  void Spare(LeaseId lease);
  // A bundle of a placement group, where it must leave and nothing runs inside.
  void LeaveIfEmpty(Request& group, int bundle);
  void NoteEmptied(const Node& node);
  void SayEmpty() {
    if (!emptied_.empty()) SayEmptied();
  }
  void SayEmptied();

  // --- Requests ---
  Request* Find(RequestId id) const;
  static Bundle* Running(Request* request, int bundle);  // Null: there is no such lease.
  Request& Add(RequestId id, const SpecHandle& spec, SchedulingClass* of);  // Null: not known yet.
  void Forget(Request& request);
  void Enqueue(Request& request);
  void Dequeue(Request& request);
  void Granted(Request& request);  // All its bundles have their placement.
  void SayGrant(const Request& request);
  void EndBundle(Request& request, int bundle);
  void ForgetIfEnded(Request& request);

  // --- What was there before (adoption.cc) ---
  void Adopt(const HeldLease& held, Node& node);
  void WaitForMissing(Request& request);
  void StopWaitingForMissing(Request& request);
  void GiveUpAdoptions() {  // That are due.
    if (!adoptions_.empty() && adoptions_.begin()->first <= now_) GiveUpDueAdoptions();
  }
  void GiveUpDueAdoptions();

  // --- Indexes ---
  void Reindex(SchedulingClass& of);
  void Grew(Node& node);
  void Touch(SchedulingClass& of);

  const SchedulerConfig config_;
  const absl::Time grace_end_;
  Cluster cluster_;
  Decisions decisions_;
  absl::Time now_ = absl::InfinitePast();
  std::vector<Action>* actions_ = nullptr;  // During Step().

  absl::flat_hash_set<Request*, RequestIdHash, RequestIdEqual> requests_;
  Slab<Request> slab_;                   // Where requests live.
  std::vector<Request*> free_requests_;  // They keep their vectors.
  uint64_t next_arrival_ = 1;
  int64_t waiting_ = 0;

  // Classes with waiting requests: all of them, those not known to be blocked, and by their next
  // timer.
  absl::btree_map<WaitingKey, SchedulingClass*> order_;
  absl::btree_map<WaitingKey, SchedulingClass*> ready_;
  absl::btree_map<std::pair<absl::Time, uint64_t>, SchedulingClass*> timers_;
  absl::btree_set<std::pair<absl::Time, RequestId>> adoptions_;
  Leaving leaving_;              // Leases that have a Notice.
  std::vector<NodeId> emptied_;  // In this Step(): draining nodes whose last lease ended.

  Tenants tenants_;
  Quotas quotas_;
  Holds holds_;
  // With a time slice: what has bundles, by when it was granted.
  absl::btree_set<std::pair<absl::Time, RequestId>> granted_since_;
  absl::btree_map<int, int64_t> preemptible_;  // With preemption: running leases, by priority.
  absl::btree_set<RequestId> leaving_groups_;  // Told to leave for others.
  // Blocked leases, by tenant and job.
  absl::btree_map<std::pair<std::string, std::string>, int64_t> blocked_jobs_;
  bool quota_used_ = false;                        // Since LookAtQuotas(): a quota has less left,
  bool quota_freed_ = false;                       // or more.
  bool look_again_ = false;                        // A class is to be tried again in this Settle().
  absl::Time next_late_ = absl::InfiniteFuture();  // See NextLate().
  int64_t searches_ = 0;                           // Of plans, in this Step().
  bool changed_ = false;  // Since the last Settle(): something may be placed or taken.
  absl::Time recall_looked_at_ = absl::InfinitePast();
  // Granted by a later choice, with moves left and not told: when it may return to an earlier one.
  absl::btree_set<std::pair<absl::Time, RequestId>> returns_;
  absl::Time returns_looked_at_ = absl::InfinitePast();
  bool returns_put_off_ = false;      // Others waited when they were looked at last.
  int takings_left_ = 0;              // Of TakeFor(), in this Settle(): a bound, whatever happens.
  std::vector<Node*> changed_nodes_;  // Since the last Settle(): that grew.

  WaitingIndex waiting_index_{cluster_.index()};
  std::vector<SchedulingClass*> candidates_;  // That may have room on nodes that grew; a heap.

  // Since the last decision:
  std::vector<Node*> grown_;        // Usable nodes with more room, or labels that may match more.
  bool topology_changed_ = false;   // Nodes or labels.
  bool look_at_all_ = false;        // The grace is over, or the state was loaded.
  std::vector<uint64_t> touched_;   // Classes whose queue, open choices or feasibility changed.
  Request* new_waiting_ = nullptr;  // What the event brought.

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
