// The driver's core: tasks that wait, the leases they run through, groups and their restarts.
// Messages and calls in, messages and completions out, time passed in; no sockets, threads or
// clocks.
//
//   task:   waiting for arguments -> queued (its class's queue) -> pushed (to a lease) -> complete,
//   once
//           pushed -> queued again when its executor or node died and attempts are left, or when
//           the executor gave it back unstarted
//   lease:  requested -> granted (connecting) -> open -> closing -> over; broken where its
//   connection broke group:  leasing (all ranks or none) -> running -> complete
//           running -> aborting (a rank died: the others are released) -> leasing, one generation
//           on; also once all ranks have left, that were told to
//
// A task whose class has an open lease never visits the head. Short tasks are pushed in batches, so
// deep that about kPushAhead of work waits in the executor; an executor gives back what a long task
// holds up.
//
// Invariants: a task completes exactly once; results count only from the lease the task was pushed
// to, while
//   that lease is not broken.
// Thread-safety: none; ClientRuntime guards it with its mutex.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "muster/v1/task.pb.h"
#include "runtime/client/ended_tasks.h"

namespace muster::client {

using Value = std::shared_ptr<const std::string>;
using TaskNumber = uint64_t;  // Counted from 1 by the driver.
using LeaseNumber = uint64_t;
using ClassNumber = uint64_t;

struct ArgumentSlot {
  Value value;  // Null while it is the result of `producer`.
  TaskNumber producer = 0;
};

struct TaskCall {
  uint64_t function = 0;
  std::string name;
  std::vector<ArgumentSlot> arguments;
};

// --- Events ---
struct Submit {
  TaskNumber task = 0;
  ClassNumber task_class = 0;  // As AddClass() gave it.
  TaskCall call;
  int max_retries = 3;  // -1: without end.
  absl::Duration timeout = absl::InfiniteDuration();
  std::shared_ptr<void> cookie;  // Handed back by Complete.
};
struct SubmitGroup {
  TaskNumber task = 0;
  v1::RequestSpec spec;  // bundles = ranks.
  TaskCall call;
  int max_restarts = 0;  // -1: without end.
  absl::Duration timeout = absl::InfiniteDuration();
  std::shared_ptr<void> cookie;
};
struct CreateGroup {  // A placement group.
  TaskNumber group = 0;
  uint64_t request = 0;  // As NewRequest() gave it: what tasks inside it say.
  v1::RequestSpec spec;
  std::shared_ptr<void> cookie;  // Handed back by GroupChanged.
};
struct RemoveGroup {
  uint64_t request = 0;
};
struct CancelAsked {
  TaskNumber task = 0;
  bool force = false;
};
struct HeadUp {};
struct HeadDown {
  std::string why;
};
struct FromHead {
  v1::ToDriver message;
};
struct FromExecutor {
  LeaseNumber lease = 0;
  v1::FromExecutor message;
};
struct LeaseBroke {  // Its connection ended, or could not be had.
  LeaseNumber lease = 0;
  std::string why;
};
struct TaskWaits {  // This process's own task waits for results (or no longer): its lease's CPUs
                    // are lent out.
  bool waits = false;
  v1::LeaseKey lease;  // The one it runs on.
};
struct Tick {};

struct Event {
  absl::Time at{};
  std::variant<Submit, SubmitGroup, CreateGroup, RemoveGroup, CancelAsked, HeadUp, HeadDown,
               FromHead, FromExecutor, LeaseBroke, TaskWaits, Tick>
      what;
};

// --- Actions ---
struct ToHead {
  v1::DriverMessage message;
};
struct Connect {  // Open the lease's connection; what is sent before it stands is queued.
  LeaseNumber lease = 0;
  v1::Granted granted;
};
struct ToExecutor {
  LeaseNumber lease = 0;
  v1::ToExecutor message;
};
struct CloseConnection {  // `clean`: after what was sent. Else at once: its executor ends.
  LeaseNumber lease = 0;
  bool clean = true;
};
struct Complete {
  std::shared_ptr<void> cookie;
  absl::Status status;
  Value value;
};
struct Print {  // A line for the user, on stderr.
  std::string text;
};
struct Output {  // Lines that tasks have written.
  v1::LogLines lines;
};
struct Upload {};  // The application is wanted in the head's package store.
struct Refused {   // The head will not have this driver.
  absl::Status status;
};
struct Flushed {
  uint64_t sequence = 0;
};
struct StoreAnswer {
  v1::StoreResult result;
};
struct BundleOfGroup {
  std::string node;  // Empty: it is to be placed (anew).
  std::vector<v1::Entry> labels;
};
struct GroupChanged {  // Of a placement group.
  std::shared_ptr<void> cookie;
  absl::Status status;  // Not OK: it is over.
  bool placed = false;
  std::vector<BundleOfGroup> bundles;
};
using Action = std::variant<GroupChanged, ToHead, Connect, ToExecutor, CloseConnection, Complete,
                            Print, Output, Upload, Refused, Flushed, StoreAnswer>;

struct DriverConfig {
  uint64_t driver = 0;    // Drawn at random.
  v1::DriverHello hello;  // Name, pid, host, binary, parent, job; the rest is filled in.
  std::string address;    // Of the head, for messages.
  absl::Time start{};
  absl::Duration reconnect_timeout = absl::Seconds(60);
  absl::Duration idle_lease = absl::Seconds(1);  // Kept that long where nobody else waits.
  absl::Duration push_ahead = absl::Milliseconds(2);
  absl::Duration request_more_from =
      absl::Milliseconds(5);  // Expected wait that makes a class ask for more leases.
  absl::Duration reason_timeout =
      absl::Seconds(2);  // How long the reason of a death is waited for.
  absl::Duration abort_timeout =
      absl::Seconds(5);  // For ranks to return after an abort; then they are killed.
  absl::Duration rank_error_patience = absl::Seconds(1);
  absl::Duration rank_abort_patience = absl::Seconds(12);
  size_t requests_max = 256;  // Waiting at the head, per class.
  size_t tasks_per_push_max = 512;
  // How long work that failed on a node asks for others first.
  absl::Duration avoid_failed_for = absl::Seconds(60);
  size_t queued_tasks_max = 10'000'000;
};

class DriverCore {
 public:
  explicit DriverCore(DriverConfig config);

  ClassNumber AddClass(v1::RequestSpec spec);  // Bundles = 1.
  uint64_t NewRequest() { return ++last_request_; }
  void Step(Event event, std::vector<Action>& actions);
  absl::Time NextTick() const;

  std::string TaskIdOf(TaskNumber task) const;  // Hex.
  size_t unfinished() const { return tasks_.size() + groups_.size(); }
  size_t leases() const { return leases_.size(); }
  void CheckInvariants() const;

 private:
  enum class TaskState { kNeedsArguments, kQueued, kPushed };
  struct Task {
    TaskNumber number = 0;
    ClassNumber task_class = 0;
    TaskState state = TaskState::kQueued;
    bool cancelled = false;  // Complete already; its executor still runs it.
    int attempt = 0;
    int max_retries = 0;
    LeaseNumber lease = 0;
    int arguments_missing = 0;
    absl::Duration timeout = absl::InfiniteDuration();
    absl::Time queued_at{};
    TaskCall call;
    std::shared_ptr<void> cookie;
    std::vector<TaskNumber> dependents;
  };
  // Nodes that failed, and until when others are asked for; oldest first.
  using FailedOn = std::deque<std::pair<std::string, absl::Time>>;
  struct TaskClass {
    ClassNumber number = 0;
    v1::RequestSpec spec;
    std::deque<TaskNumber> queue;  // May name tasks that are over.
    size_t queued = 0;             // Of the queue, those that still wait.
    std::set<LeaseNumber> leases;  // Connecting or open.
    std::set<LeaseNumber> ready;   // Of these, the ones that take tasks.
    std::set<uint64_t> requests;   // Waiting at the head.
    double run_ns = -1;            // Moving mean; negative: none has finished.
    absl::Time progress_at{};      // When a lease came, or tasks were pushed or through.
    int start_failures = 0;        // In a row.
    std::string infeasible;        // Why, while it is.
    absl::Time next_print{};
    FailedOn failed_on;
  };
  enum class LeaseState { kOpen, kClosing, kBroken };
  struct Lease {
    LeaseNumber number = 0;
    v1::LeaseKey key;
    LeaseState state = LeaseState::kOpen;
    ClassNumber task_class = 0;  // 0: of a group.
    TaskNumber group = 0;
    uint32_t rank = 0;
    std::string node;
    int32_t pid = 0;
    uint32_t choice = 0;
    bool draining = false;
    bool hold = false;  // It gave tasks back: nothing more until it is through.
    std::deque<TaskNumber> in_flight;
    std::string last_name;  // Of the task pushed last.
    absl::Time idle_since{};
    absl::Time run_deadline =
        absl::InfiniteFuture();  // Of the task in front, where it has a timeout.
    absl::Time broken_at{};
    std::string broken_why;
  };
  struct Rank {
    LeaseNumber lease = 0;
    bool over = false;  // Returned, died or was killed, in this generation.
    bool returned = false;
    std::string value;
  };
  enum class GroupState { kNeedsArguments, kLeasing, kRunning, kAborting };
  struct Group {
    TaskNumber number = 0;
    std::string name;  // In the store.
    GroupState state = GroupState::kLeasing;
    v1::RequestSpec spec;
    TaskCall call;
    int max_restarts = 0;
    int restarts = 0;
    uint32_t generation = 0;
    uint64_t request = 0;  // Waiting at the head, or granted in part.
    int arguments_missing = 0;
    absl::Duration timeout = absl::InfiniteDuration();
    absl::Time queued_at{};
    std::vector<Rank> ranks;
    FailedOn failed_on;
    bool restart_counts = false;
    bool left = false;        // A rank of this generation was told to leave, and has.
    uint64_t kept_for = 0;    // Not 0: room is kept at the head for the next generation.
    std::string first_death;  // Of this generation.
    LeaseNumber dead_lease = 0;
    bool death_explained = false;
    bool completed = false;  // Cancelled: the caller has its answer already.
    absl::Status outcome;    // Not OK: the group ends with it once all ranks are over.
    absl::Time kill_at = absl::InfiniteFuture();
    absl::Status rank_error;  // A rank returned it; perhaps because of a death not heard of yet.
    absl::Time rank_error_due = absl::InfiniteFuture();
    int start_failures = 0;  // In a row.
    std::string infeasible;
    absl::Time next_print{};
    std::shared_ptr<void> cookie;
    std::vector<TaskNumber> dependents;
  };

  struct PlacementGroup {
    TaskNumber number = 0;
    uint64_t request = 0;
    v1::RequestSpec spec;
    uint32_t shape = 0;
    std::vector<BundleOfGroup> bundles;  // Empty before it was placed.
    absl::Time asked_at{};
    std::string infeasible;
    absl::Time next_print{};
    std::shared_ptr<void> cookie;
  };

  // driver_placement_groups.cc
  void On(CreateGroup& create);
  void On(const RemoveGroup& remove);
  void SendGroup(const PlacementGroup& group);
  void OnBundlePlaced(PlacementGroup& group, const v1::Granted& granted);
  void OnBundleLost(PlacementGroup& group, uint32_t bundle);
  void SayGroup(const PlacementGroup& group);
  void FailGroup(PlacementGroup& group, absl::Status status);
  void OnGroupInfeasible(PlacementGroup& group, const v1::Infeasible& message);
  void TickPlacementGroups();
  void FindGroups(const v1::FindTasks& find, v1::TasksFound& answer) const;

  // driver_core.cc: tasks and classes.
  void On(Submit& submit);
  void On(SubmitGroup& submit);
  void On(const CancelAsked& cancel);
  void On(const HeadUp& up);
  void On(const HeadDown& down);
  void On(FromHead& from);
  void On(FromExecutor& from);
  void On(const LeaseBroke& broke);
  void On(const TaskWaits& waits);
  void On(const Tick& tick);
  static void AddDependent(std::vector<TaskNumber>& dependents, TaskNumber dependent);
  void ArgumentReady(TaskNumber dependent, TaskNumber producer, const absl::Status& status,
                     const Value& value);
  void Enqueue(Task& task, bool front);
  void Finish(TaskNumber task, absl::Status status, Value value);
  void FinishDependents(const std::vector<TaskNumber>& dependents, TaskNumber producer,
                        const absl::Status& status, const Value& value);
  absl::Status HeadIsGone() const;
  // Each fails with its function's name, `joint` and what `status` says.
  void FailQueued(TaskClass& task_class, const absl::Status& status, const char* joint = ": ");
  Task* NextQueued(TaskClass& task_class);  // Taken off the queue; null if none.
  void Pump(TaskClass& task_class);         // Pushes what leases take, asks for more or fewer.
  void PushTo(TaskClass& task_class, Lease& lease, size_t most);
  size_t DepthOf(const TaskClass& task_class) const;
  void UpdateRequests(TaskClass& task_class);
  // The id of the task for which the lease is that comes at this place; "" where there is none.
  std::string TaskFor(const TaskClass& task_class, size_t place) const;
  std::string FrontName(const TaskClass& task_class) const;
  void PrintInfeasible(const std::string& name, const std::string& reason, absl::Time& next);

  // driver_leases.cc
  void OnGranted(const v1::Granted& granted);
  void OnLeaseEnded(const v1::LeaseEnded& ended);
  void OnInfeasible(const v1::Infeasible& infeasible);
  void OnRejected(const v1::Rejected& rejected);
  void OnResults(Lease& lease, v1::TaskResults& results);
  void OnNotStarted(Lease& lease, const v1::NotStarted& message);
  void OnFindTasks(const v1::FindTasks& find);
  void BreakLease(Lease& lease, const std::string& why, bool counts);
  void SettleBroken(Lease& lease, const std::string& how, const std::string& last_stderr);
  void Close(Lease& lease);
  void KillLease(Lease& lease, const std::string& why);
  void Forget(LeaseNumber lease);
  void NoteFailure(FailedOn& failed_on, const std::string& node);
  std::vector<std::string> FailedNodes(const FailedOn& failed_on) const;
  void SendRequest(uint64_t request, ClassNumber task_class, const v1::RequestSpec& spec,
                   const std::string& task_id, const FailedOn& failed_on, uint64_t instead_of = 0);
  void SendBacklog();
  void ReturnLease(const v1::LeaseKey& key, bool broken, const std::string& why);
  void OnStartFailed(TaskClass& task_class, const v1::LeaseEnded& ended);

  // driver_leaving.cc
  void OnDraining(const v1::LeaseDraining& draining);
  void OnStays(const v1::LeaseStays& stays);
  void OnLeft(Lease& lease);  // Its task, or rank, to be run again elsewhere.
  void OnRankLeft(Group& group, Lease& lease);

  // driver_groups.cc
  void LeaseGroup(Group& group);
  void LeaseGroupAgain(Group& group);
  void ReleaseRanks(Group& group);
  void OnGroupGranted(Group& group, const v1::Granted& granted);
  void RunGroup(Group& group);
  void OnRankResult(Group& group, uint32_t rank, v1::TaskResult& result);
  void OnRankDied(Group& group, const Lease& lease, const std::string& how, bool counts);
  void AbortGroup(Group& group, const absl::Status& told);
  void EndGeneration(Group& group);
  void FinishGroup(TaskNumber number, absl::Status status, Value value);
  void TickGroup(Group& group);
  void OnRankTimeout(Group& group, Lease& lease);
  void OnDeathExplained(Group& group, const Lease& lease, const std::string& how,
                        const std::string& last_stderr);
  bool AllOver(const Group& group) const;

  void Tell(v1::DriverMessage message);
  TaskNumber GroupOfRequest(uint64_t request) const;  // 0: none.

  const DriverConfig config_;
  absl::Time now_{};
  std::vector<Action>* actions_ = nullptr;  // During Step().
  bool link_up_ = false;
  bool welcomed_ = false;
  bool was_welcomed_ = false;
  absl::Time head_away_since_{};
  std::string head_away_why_;
  bool gave_up_on_head_ = false;
  bool contended_ = false;
  std::optional<v1::LeaseKey> lends_;
  uint64_t last_request_ = 0;
  LeaseNumber last_lease_ = 0;
  absl::Time next_backlog_ = absl::InfiniteFuture();
  absl::btree_map<uint64_t, PlacementGroup> placement_groups_;    // By request.
  absl::flat_hash_map<TaskNumber, std::unique_ptr<Task>> tasks_;  // Looked up only.
  EndedTasks ended_;
  absl::btree_map<TaskNumber, std::unique_ptr<Group>> groups_;
  absl::btree_map<ClassNumber, std::unique_ptr<TaskClass>> classes_;
  absl::btree_map<LeaseNumber, std::unique_ptr<Lease>> leases_;
  absl::btree_map<uint64_t, ClassNumber> request_class_;
  absl::btree_map<uint64_t, TaskNumber> request_group_;
  absl::flat_hash_map<std::string, LeaseNumber> lease_of_key_;  // Looked up only.
};

}  // namespace muster::client
