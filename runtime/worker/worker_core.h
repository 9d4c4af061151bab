// The worker's core: which executor serves which lease. Messages and process events in, orders out,
// time passed in; it starts nothing and reads no clock itself.
//
//   executor:  starting -> idle <-> leased -> dying -> gone
//   lease:     wanted (its executor starts) -> assigned (executor told) -> started (head told) ->
//   ended
//
// Invariants: an executor serves one lease at a time, and only leases of its own job and binary;
// one that
//   held GPUs ends with its lease, so that their memory is free when they are offered again;
//   "ended" is said only when nothing of the lease runs any more.
// Thread-safety: none; the worker's main thread owns it.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "muster/v1/task.pb.h"
#include "scheduler/ids.h"

namespace muster::worker {

using ExecutorId = Id<struct ExecutorIdTag>;

struct WorkerConfig {
  uint64_t worker = 0;    // Drawn at random.
  v1::WorkerHello hello;  // Host, labels, resources; ids and leases are filled in by the core.
  absl::Time start{};
  absl::Duration heartbeat = absl::Seconds(1);
  absl::Duration executor_start_timeout = absl::Seconds(60);
  absl::Duration drain_timeout = absl::Seconds(30);
  int idle_executors_max = 4;  // Of one job, kept warm.
  // And for how long: that a job is over may never be heard, where the head or the link to it was
  // away.
  absl::Duration idle_executor_timeout = absl::Seconds(60);
};

// --- Events ---
struct HeadUp {};
struct HeadDown {};
struct FromHead {
  v1::ToWorker message;
};
struct FromExecutor {
  ExecutorId executor;
  v1::ExecutorToWorker message;
};
struct ExecutorExited {  // Also where it could not be started.
  ExecutorId executor;
  std::string how;          // "killed by signal 11 (segmentation fault)", "exit status 3".
  std::string last_stderr;  // The last lines.
};
struct LabelsRead {  // The labels file was read again.
  std::vector<v1::Entry> labels;
};
struct GpuFailed {   // Only a reset or a repair mends it.
  uint32_t gpu = 0;  // Index on the node.
  std::string reason;
};
struct DrainAsked {};  // SIGTERM: no new work, then end.
struct EndAsked {};    // SIGINT, or a second SIGTERM: end now.
struct NewIdentity {   // Drawn for a fenced worker.
  uint64_t worker = 0;
};
struct Tick {};

struct Event {
  absl::Time at{};
  std::variant<HeadUp, HeadDown, FromHead, FromExecutor, ExecutorExited, LabelsRead, GpuFailed,
               DrainAsked, EndAsked, NewIdentity, Tick>
      what;
};

// --- Actions ---
struct ToHead {
  v1::WorkerMessage message;
};
struct ToExecutor {
  ExecutorId executor;
  v1::WorkerToExecutor message;
};
struct Spawn {
  ExecutorId executor;
  v1::Binary binary;
  bool same_host = false;  // binary.path may be used as it is.
};
struct Kill {  // With its whole process group, SIGKILL.
  ExecutorId executor;
};
struct Flush {  // Send what the driver's executors have written so far, then tell the head.
  uint64_t driver = 0;
  uint64_t sequence = 0;
};
struct DrawIdentity {};  // Answered by NewIdentity.
struct Reconnect {};     // Open the link anew.
struct End {             // The worker's process is to end, with this outcome.
  absl::Status status;
};
struct Say {
  bool warning = false;
  std::string text;
};
using Action =
    std::variant<ToHead, ToExecutor, Spawn, Kill, Flush, DrawIdentity, Reconnect, End, Say>;

class WorkerCore {
 public:
  explicit WorkerCore(WorkerConfig config);

  // Appends to `actions`; they are done in this order. REQUIRES: event.at does not go back.
  void Step(const Event& event, std::vector<Action>& actions);
  absl::Time NextTick() const;

  const std::string& node_name() const { return node_name_; }
  bool welcomed() const { return welcomed_; }  // Messages reach a head that knows this node.
  // Whose task output an executor writes: the driver of its lease; 0 for none.
  uint64_t DriverOf(ExecutorId executor) const;
  size_t executors() const { return executors_.size(); }
  size_t leases() const { return leases_.size(); }
  void CheckInvariants() const;

 private:
  enum class State { kStarting, kIdle, kLeased, kDying };
  struct Executor {
    ExecutorId id;
    State state = State::kStarting;
    uint64_t job = 0;
    std::string build_id;
    std::string program;  // For messages: "score".
    int32_t pid = 0;
    uint64_t lease = 0;        // Of leases_; 0: none.
    uint64_t last_driver = 0;  // Whose output may still be in its pipes.
    absl::Time deadline{};     // kStarting.
    absl::Time idle_since{};   // kIdle.
    std::string failure;       // What it said of its own start.
  };
  struct Lease {
    v1::LeaseKey key;
    v1::StartLease order;
    ExecutorId executor;
    bool started = false;
    v1::LeaseStarted started_message;
    v1::LeaseEnd end = v1::LEASE_END_EXECUTOR_DIED;  // What the executor's exit will mean.
    std::string end_message;
  };

  void On(const HeadUp& up);
  void On(const HeadDown& down);
  void On(const FromHead& from);
  void On(const FromExecutor& from);
  void On(const ExecutorExited& exited);
  void On(const LabelsRead& read);
  void On(const GpuFailed& failed);
  void SayFailed(const v1::GpuHealth& failed);
  void On(const DrainAsked& drain);
  void On(const EndAsked& end);
  void On(const NewIdentity& identity);
  void On(const Tick& tick);

  void OnWelcome(const v1::Welcome& welcome);
  void OnRefused(const v1::Refused& refused);
  void StartLease(const v1::StartLease& order);
  void Reserve(const v1::StartLease& order);
  bool Unreserve(const v1::LeaseKey& key);  // False: there is no such reservation.
  void SayReserved(const v1::StartLease& order);
  void StopLease(const v1::StopLease& stop);
  void OnDriverStarted(const v1::DriverStarted& started);
  void OnDriverEnded(const v1::DriverEnded& ended);
  void OnReady(Executor& executor, const v1::ExecutorReady& ready);
  void OnAssigned(Executor& executor, const v1::LeaseAssigned& assigned);
  void OnReleased(Executor& executor, const v1::LeaseReleased& released);

  Executor* FindWarm(const v1::StartLease& order);
  Executor& SpawnFor(uint64_t job, const v1::Binary& binary, const std::string& driver_host_id);
  void Assign(Executor& executor, Lease& lease);
  void KillExecutor(Executor& executor);
  void KillAll(const std::string& why);
  void EndLease(uint64_t id, v1::LeaseEnd end, const std::string& message,
                const std::string& last_stderr, int32_t pid);
  void TrimIdle(uint64_t job);
  void SendHello();
  void RejoinIfClean();
  void LeaveIfDone();
  uint64_t FindLease(const v1::LeaseKey& key) const;  // 0: none.
  void Tell(v1::WorkerMessage message);
  void SayLine(std::string text, bool warning = false);

  WorkerConfig config_;
  absl::Time now_{};
  std::vector<Action>* actions_ = nullptr;  // During Step().
  std::string node_name_;
  uint64_t joined_head_ = 0;
  bool said_hello_ = false;  // On this link.
  bool welcomed_ = false;
  bool fenced_ = false;   // Kills everything, then joins as a new node.
  bool renamed_ = false;  // Its new identity has been drawn.
  bool leaving_ = false;  // Ends once nothing runs.
  bool draining_ = false;
  bool ended_ = false;
  absl::Time drain_deadline_ = absl::InfiniteFuture();
  std::vector<v1::GpuHealth> failed_gpus_;  // That the head has not taken in yet.
  v1::NodeCondition condition_;             // As the head said it, for one that forgets.
  absl::Time condition_deadline_ = absl::InfiniteFuture();
  v1::SharingChanges sharing_;  // The same.
  absl::Time next_heartbeat_{};
  uint64_t last_executor_ = 0;
  uint64_t last_lease_ = 0;
  absl::btree_map<ExecutorId, Executor> executors_;
  absl::btree_map<uint64_t, Lease> leases_;  // In the order of coming.
  // Bundles of placement groups: held for a head that has forgotten them, and nothing more. Their
  // ends are not said: the head that ordered them counts on them.
  std::vector<v1::StartLease> reservations_;  // In the order of coming.
};

}  // namespace muster::worker
