// The inside of Simulate(): the real cores of head, workers and drivers, joined by simulated wires.
// One class in several files, by what is simulated; see each file's head.
#pragma once

#include <algorithm>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/client/driver_core.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/protocol.h"
#include "runtime/worker/worker_core.h"
#include "scheduler/snapshot.h"
#include "tests/sim/checker.h"
#include "tests/sim/cluster_sim.h"
#include "tests/sim/prng.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_executor.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_plan.h"

namespace muster::sim {

inline constexpr absl::Duration kDrainWithin = absl::Minutes(5);
inline constexpr absl::Duration kForgetWithin = absl::Minutes(3);
inline constexpr char kBuildId[] = "5eed";

// A driver's or worker's stream with the head, as runtime/wire/head_link.h promises it.
struct Stream {
  Stream(uint64_t id_in, bool worker_in, uint64_t process_in, SimNetwork& network)
      : id(id_in), worker(worker_in), process(process_in), to_head(network), to_process(network) {}
  const uint64_t id;
  const bool worker;
  const uint64_t process;
  Pipe to_head;
  Pipe to_process;
  std::vector<std::string> head_batch;
  std::vector<std::string> process_batch;
};

struct HeadProcess {
  uint64_t id = 0;
  std::unique_ptr<head::HeadCore> core;
  absl::btree_map<uint64_t, std::shared_ptr<Stream>> streams;
  absl::Time tick_at = absl::InfiniteFuture();
};

// A connection between a driver and the executor of one of its leases.
struct DataLink {
  DataLink(uint64_t id_in, uint64_t driver_in, uint64_t lease_in, SimNetwork& network)
      : id(id_in), driver(driver_in), lease(lease_in), to_executor(network), to_driver(network) {}
  const uint64_t id;
  const uint64_t driver;
  const client::LeaseNumber lease;
  std::shared_ptr<SimExecutor> executor;
  Pipe to_executor;
  Pipe to_driver;
};

// A placement group that a driver made.
struct SimGroup {
  uint64_t request = 0;
  std::vector<client::ClassNumber> inside;  // The classes of what runs in it.
  bool placed = false;                      // It was, at least once.
  bool removed = false;
  bool over = false;
};

struct DriverProcess {
  uint64_t id = 0;
  std::unique_ptr<client::DriverCore> core;
  std::shared_ptr<Stream> stream;
  uint64_t connecting = 0;
  absl::Duration backoff = absl::Milliseconds(50);
  absl::Time tick_at = absl::InfiniteFuture();
  absl::btree_map<client::LeaseNumber, std::shared_ptr<DataLink>> links;
  absl::btree_map<uint64_t, std::shared_ptr<SimTask>> tasks;
  std::vector<std::pair<client::ClassNumber, DrawnSpec>> classes;
  std::vector<std::shared_ptr<const std::string>> values;  // Results, by task.
  std::vector<std::shared_ptr<SimGroup>> groups;
  uint64_t last_task = 0;
  bool dead = false;
  // Of a driver inside an executor: the task that waits for its children.
  bool nested = false;
  uint64_t family = 0;
  int children_left = 0;
  std::function<void()> when_children_end;
};

struct ExecutorProcess {
  ExecutorProcess(worker::ExecutorId id_in, SimNetwork& network)
      : id(id_in), to_worker(network), to_executor(network) {}
  const worker::ExecutorId id;
  uint64_t worker = 0;
  std::shared_ptr<SimExecutor> sim;  // Null while it starts.
  Pipe to_worker;
  Pipe to_executor;
  bool gone = false;
  std::shared_ptr<DriverProcess> nested;
};

struct WorkerProcess {
  uint64_t number = 0;
  size_t slot = 0;  // Of the plan.
  std::unique_ptr<worker::WorkerCore> core;
  std::shared_ptr<Stream> stream;
  uint64_t connecting = 0;
  absl::Duration backoff = absl::Milliseconds(50);
  absl::Time tick_at = absl::InfiniteFuture();
  absl::btree_map<worker::ExecutorId, std::shared_ptr<ExecutorProcess>> executors;
  bool dead = false;
  bool frozen = false;
  bool draining = false;
  absl::btree_set<uint32_t> broken_gpus;
  std::deque<std::function<void()>> deferred;  // What reached it while it was frozen.
};

class ClusterSim {
 public:
  ClusterSim(uint64_t seed, const SimOptions& options)
      : options_(options), prng_(seed), plan_(DrawPlan(prng_)), network_(clock_, prng_) {
    network_.delay_max = plan_.delay_max;
  }
  ClusterSim(const ClusterSim&) = delete;
  ClusterSim& operator=(const ClusterSim&) = delete;
  ~ClusterSim() {
    // What refers to its own holder.
    for (const auto& [id, driver] : drivers_) driver->when_children_end = nullptr;
    for (const auto& [number, worker] : workers_) worker->deferred.clear();
  }

  SimResult Run() {
    StartHead();
    for (size_t slot = 0; slot < plan_.workers.size(); ++slot) {
      clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(1)),
                   [this, slot] { StartWorker(slot); });
    }
    for (int i = 0; i < plan_.drivers; ++i) StartDriver(plan_.tasks_per_driver, plan_.load_time);
    if (plan_.any_fault()) ScheduleFault();
    ScheduleQuestion();
    const auto failed = [this] { return !checker_.errors().empty(); };
    const absl::Time heal = clock_.now() + plan_.load_time;
    if (!clock_.RunUntil(heal, failed)) Liveness();
    return Result();
  }

 private:
  // --- Phases ---

  void Liveness();

  size_t Unfinished() const;

  void FailUnfinished();

  void CheckOutcomes();

  void CheckNothingLeft(const std::string& when);

  SimResult Result();

  // --- The trace ---

  // One line for each step; `bytes` is what was told or done.
  template <typename Text>
  void Note(const char* who, uint64_t number, const char* what, const std::string& bytes,
            const Text& text) {
    const auto mix = [this](const void* data, size_t size) {
      const auto* byte = static_cast<const unsigned char*>(data);
      for (size_t i = 0; i < size; ++i) hash_ = (hash_ ^ byte[i]) * 0x100000001b3ULL;
    };
    ++steps_;
    const int64_t at = absl::ToUnixNanos(clock_.now());
    mix(&at, sizeof(at));
    mix(&number, sizeof(number));
    mix(what, std::char_traits<char>::length(what));
    mix(bytes.data(), bytes.size());
    if (!options_.verbose) return;
    const std::string line =
        absl::StrFormat("%12.6f %s %x %s %s\n", absl::ToDoubleSeconds(clock_.now() - start_), who,
                        number, what, std::string(text()));
    fwrite(line.data(), 1, line.size(), stdout);
    fflush(stdout);
  }
  void Note(const char* who, uint64_t number, const char* what,
            const google::protobuf::Message& message);
  void Note(const char* who, uint64_t number, const char* what, const std::string& text = "");

  // --- Streams with the head ---

  template <typename Process>
  void Connect(const std::shared_ptr<Process>& process) {
    const uint64_t attempt = ++process->connecting;
    clock_.After(process->backoff + network_.DrawDelay(), [this, process, attempt] {
      Reach(process, [this, process, attempt] {
        if (process->connecting != attempt || process->stream != nullptr) return;
        if (head_ == nullptr) {
          process->backoff = std::min(process->backoff * 2, absl::Duration(absl::Seconds(1)));
          Down(process);
          Connect(process);
          return;
        }
        process->backoff = absl::Milliseconds(50);
        process->stream = std::make_shared<Stream>(++last_connection_, IsWorker(*process),
                                                   NumberOf(*process), network_);
        head_->streams[process->stream->id] = process->stream;
        Up(process);
      });
    });
  }
  static bool IsWorker(const WorkerProcess&) { return true; }
  static bool IsWorker(const DriverProcess&) { return false; }
  static uint64_t NumberOf(const WorkerProcess& worker) { return worker.number; }
  static uint64_t NumberOf(const DriverProcess& driver) { return driver.id; }
  void Up(const std::shared_ptr<WorkerProcess>& worker);
  void Up(const std::shared_ptr<DriverProcess>& driver);
  void Down(const std::shared_ptr<WorkerProcess>& worker);
  void Down(const std::shared_ptr<DriverProcess>& driver);

  // What reaches a process: nothing where it is dead, later where it is frozen.
  void Reach(const std::shared_ptr<WorkerProcess>& worker, std::function<void()> what);
  void Reach(const std::shared_ptr<DriverProcess>& driver, const std::function<void()>& what);
  void ReachPeer(const Stream& stream, const std::function<void()>& what);
  // The process sees that the stream is over, and opens another.
  void StreamIsDown(const std::shared_ptr<Stream>& stream);
  void HeadSeesEnd(const std::shared_ptr<HeadProcess>& head, const std::shared_ptr<Stream>& stream);
  // Both ends see it at their own time; what is under way is lost.
  void Break(const std::shared_ptr<Stream>& stream);
  // The process closes it: what it sent before arrives.
  void CloseFromProcess(const std::shared_ptr<Stream>& stream, bool flush);

  void SendToHead(const std::shared_ptr<Stream>& stream, std::string bytes);
  void FlushToHead(const std::shared_ptr<Stream>& stream);
  void SendToProcess(const std::shared_ptr<Stream>& stream, std::string bytes);
  void FlushToProcess(const std::shared_ptr<Stream>& stream);
  void Arrive(const std::shared_ptr<Stream>& stream, const std::string& bytes);
  template <typename Message>
  void Parse(const std::string& bytes, Message& message) {
    if (!message.ParseFromString(bytes)) checker_.Fail("a message cannot be parsed");
  }

  // --- The head ---

  void StartHead();

  void CrashHead();

  template <typename What>
  void StepHead(What what, const char* note) {
    if (note != nullptr) Note("head", 0, note);
    head::Event event;
    event.at = clock_.now();
    event.what = std::move(what);
    std::vector<head::Action> actions;
    const std::shared_ptr<HeadProcess> head = head_;
    head->core->Step(event, actions);
    head->core->CheckInvariants();
    if (++head_steps_ % 64 == 0) CheckSnapshot(*head->core);
    for (head::Action& action : actions) {
      std::visit([&](auto& done) { Do(*head, done); }, action);
    }
    ArmTick(head);
  }
  void Do(HeadProcess& head, const head::ToDriver& to);
  void Do(HeadProcess& head, const head::ToWorker& to);
  void Do(HeadProcess& head, const head::CloseConnection& close);
  void Do(HeadProcess&, const head::Answer& answer);
  void Do(HeadProcess&, const head::Say& say) { Note("head", 0, "says", say.text); }

  void ArmTick(const std::shared_ptr<HeadProcess>& head);
  template <typename Process, typename Fire>
  void Arm(const std::shared_ptr<Process>& process, Fire fire) {
    const absl::Time next = process->core->NextTick();
    if (next == absl::InfiniteFuture()) return;
    const absl::Time at = std::max(next, clock_.now() + absl::Milliseconds(1));
    if (process->tick_at <= at) return;
    process->tick_at = at;
    clock_.At(at, [process, at, fire] {
      if (process->tick_at != at) return;
      process->tick_at = absl::InfiniteFuture();
      fire();
    });
  }

  void ScheduleQuestion();
  void CheckSnapshot(const head::HeadCore& core);

  template <typename Map>
  typename Map::mapped_type Pick(const Map& map) {
    auto at = map.begin();
    for (uint64_t skip = prng_.Below(map.size()); skip > 0; --skip) ++at;
    return at->second;
  }

  // --- Workers ---

  void StartWorker(size_t slot);

  template <typename What>
  void Step(const std::shared_ptr<WorkerProcess>& worker, What what, const char* note) {
    if (worker->dead) return;
    if (note != nullptr) Note("worker", worker->number, note);
    worker::Event event;
    event.at = clock_.now();
    event.what = std::move(what);
    std::vector<worker::Action> actions;
    worker->core->Step(event, actions);
    worker->core->CheckInvariants();
    for (worker::Action& action : actions) {
      std::visit([&](auto& done) { Do(worker, done); }, action);
    }
    ArmTick(worker);
  }
  using WorkerPtr = std::shared_ptr<WorkerProcess>;
  void Do(const WorkerPtr& worker, const worker::ToHead& to);
  void Do(const WorkerPtr& worker, const worker::ToExecutor& to);
  void Do(const WorkerPtr& worker, const worker::Spawn& spawn);
  void Do(const WorkerPtr& worker, const worker::Kill& kill);
  void Do(const WorkerPtr& worker, const worker::Flush& flush);
  void Do(const WorkerPtr& worker, const worker::DrawIdentity&);
  void Do(const WorkerPtr& worker, const worker::Reconnect&);
  void Do(const WorkerPtr& worker, const worker::End& end);
  void Do(const WorkerPtr& worker, const worker::Say& say);

  void ArmTick(const WorkerPtr& worker);

  void EndWorker(const WorkerPtr& worker, bool crash);

  void Thaw(const WorkerPtr& worker);

  // --- Executors ---

  void MakeExecutor(const WorkerPtr& worker, const std::shared_ptr<ExecutorProcess>& process);

  void ToWorker(const std::shared_ptr<ExecutorProcess>& process, const v1::ExecutorToWorker& sent);

  void EndExecutor(const std::shared_ptr<ExecutorProcess>& process, const std::string& how);
  void TellExit(const WorkerPtr& worker, const std::shared_ptr<ExecutorProcess>& process,
                const std::string& how);

  // --- Tasks ---

  void StartTask(const std::shared_ptr<ExecutorProcess>& process, const v1::PushTask& push);
  // Whether the task that was the executor's `runs`th is still running.
  static bool Runs(const ExecutorProcess& process, uint64_t runs);

  void LeaveSoon(const std::shared_ptr<ExecutorProcess>& process);
  void CancelRunning(const std::shared_ptr<ExecutorProcess>& process, bool aborted);

  void SubmitChildren(const std::shared_ptr<ExecutorProcess>& process, const SimTask& task,
                      std::function<void()> finish);

  // --- Data links ---

  void ToDriver(const std::shared_ptr<DataLink>& link, const v1::FromExecutor& sent);
  void CloseFromExecutor(const std::shared_ptr<DataLink>& link, const std::string& why);
  void DriverSeesEnd(const std::shared_ptr<DataLink>& link, const std::string& why);
  void CloseFromDriver(const std::shared_ptr<DataLink>& link);
  void BreakData(const std::shared_ptr<DataLink>& link);

  // --- Drivers ---

  std::shared_ptr<DriverProcess> MakeDriver(uint64_t job, const v1::LeaseKey* parent);

  void StartDriver(int tasks, absl::Duration within);

  void SubmitDrawn(const std::shared_ptr<DriverProcess>& driver);
  // Of some the name of a node that is there now.
  std::string DrawNode();
  void AskForNode(const std::string& node, DrawnSpec& drawn);

  void Register(DriverProcess& driver, const std::shared_ptr<SimTask>& task);

  void Submit(const std::shared_ptr<DriverProcess>& driver, const std::shared_ptr<SimTask>& task,
              client::ClassNumber task_class, std::vector<client::ArgumentSlot> arguments);

  void CancelNowhere();

  void MakeGroup(const std::shared_ptr<DriverProcess>& driver);
  void RemoveWhenPlaced(const std::shared_ptr<DriverProcess>& driver,
                        const std::shared_ptr<SimGroup>& group);
  void CheckGroups(const sched::Snapshot& snapshot);

  using DriverPtr = std::shared_ptr<DriverProcess>;
  template <typename What>
  void Step(const DriverPtr& driver, What what, const char* note) {
    if (driver->dead) return;
    if (note != nullptr) Note("driver", driver->id, note);
    client::Event event;
    event.at = clock_.now();
    event.what = std::move(what);
    std::vector<client::Action> actions;
    driver->core->Step(std::move(event), actions);
    driver->core->CheckInvariants();
    std::vector<client::LeaseBroke> broke;
    for (client::Action& action : actions) {
      std::visit([&](auto& done) { Do(driver, done, broke); }, action);
    }
    for (client::LeaseBroke& one : broke) Step(driver, std::move(one), "lease broke");
    ArmTick(driver);
  }
  using Broke = std::vector<client::LeaseBroke>;
  void Do(const DriverPtr& driver, const client::ToHead& to, Broke&);
  void Do(const DriverPtr& driver, const struct client::Connect& connect, Broke& broke);
  void Send(const std::shared_ptr<DataLink>& link, const v1::ToExecutor& sent);
  void Do(const DriverPtr& driver, const client::ToExecutor& to, Broke&);
  void Do(const DriverPtr& driver, const client::CloseConnection& close, Broke&);
  void Do(const DriverPtr& driver, const client::Complete& complete, Broke&);
  void Do(const DriverPtr& driver, const client::Print& print, Broke&);
  void Do(const DriverPtr&, const client::Output&, Broke&) {}
  void Do(const DriverPtr&, const client::Upload&, Broke&) {}
  void Do(const DriverPtr& driver, const client::GroupChanged& changed, Broke&);
  void Do(const DriverPtr& driver, const client::Refused& refused, Broke&);
  void Do(const DriverPtr&, const client::Flushed&, Broke&) {}
  void Do(const DriverPtr&, const client::StoreAnswer&, Broke&) {}

  void ArmTick(const DriverPtr& driver);

  void SayGoodbye(const DriverPtr& driver);

  void EndDriver(const DriverPtr& driver, bool crash);

  // --- Faults ---

  void ScheduleFault();
  void LoseLink();
  void DelayAll();
  void LoseDataLink();
  void CrashDriver();
  void CrashWorker();
  void FreezeWorker();
  void DrainWorker();
  void CrashExecutor();
  void MaybeCrashHead();
  void OperateNode();
  void ChangeSharing();
  void BreakGpu();

  bool Control(const WorkerPtr& worker, v1::ControlNodeRequest request);
  void UndoControl(const WorkerPtr& worker);
  bool SetSharing(const v1::SetSharingRequest& request);
  void CheckSharingOutlivesTheHead();
  void OpenQuota();
  void CheckQuarantines();

  const SimOptions options_;
  Prng prng_;
  SimPlan plan_;
  SimClock clock_;
  SimNetwork network_;
  const absl::Time start_ = clock_.now();
  Checker checker_;
  bool healed_ = false;
  bool planted_ = false;
  int faults_ = 0;
  uint64_t steps_ = 0;
  uint64_t hash_ = 0xcbf29ce484222325ULL;
  uint64_t last_connection_ = 0;
  uint64_t last_worker_ = 0;
  uint64_t last_executor_ = 0;
  uint64_t last_question_ = 0;
  int open_questions_ = 0;
  std::shared_ptr<HeadProcess> head_;
  uint64_t head_steps_ = 0;
  absl::Time head_knows_at_ = absl::InfinitePast();  // From then on no lease may still come back.
  absl::btree_map<uint64_t, WorkerPtr> workers_;
  absl::btree_map<uint64_t, DriverPtr> drivers_;
  absl::btree_map<uint64_t, std::shared_ptr<DataLink>> data_;
  absl::btree_map<std::string, std::vector<std::function<void()>>> meetings_;  // Of ranks.
  std::vector<std::pair<DriverPtr, std::shared_ptr<SimTask>>> nowhere_;
  std::vector<std::shared_ptr<SimTask>> kept_;  // Of drivers that are gone: those that ended.
};

}  // namespace muster::sim
