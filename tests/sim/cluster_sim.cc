#include "tests/sim/cluster_sim.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/client/driver_core.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/protocol.h"
#include "runtime/worker/worker_core.h"
#include "tests/sim/checker.h"
#include "tests/sim/prng.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_executor.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_plan.h"

namespace muster::sim {
namespace {

constexpr absl::Duration kDrainWithin = absl::Minutes(5);
constexpr absl::Duration kForgetWithin = absl::Minutes(3);
constexpr char kBuildId[] = "5eed";

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
    for (const auto& [id, driver] : drivers_) driver->when_children_end = nullptr;
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

  void Liveness() {
    const auto failed = [this] { return !checker_.errors().empty(); };
    healed_ = true;
    network_.spike = absl::ZeroDuration();
    if (head_ == nullptr) StartHead();
    const auto workers = workers_;  // One that thaws may end.
    for (const auto& [number, worker] : workers) Thaw(worker);
    if (!plan_.small) {
      plan_.workers.push_back(BigWorker());
      plan_.labels.push_back(BigLabels());
      StartWorker(plan_.workers.size() - 1);
    }
    clock_.After(absl::Seconds(5), [this] { CancelNowhere(); });
    const absl::Time by = clock_.now() + kDrainWithin;
    clock_.RunUntil(clock_.now() + absl::Seconds(6), failed);
    clock_.RunUntil(by, [&] { return failed() || Unfinished() == 0; });
    if (failed()) return;
    if (Unfinished() > 0) {
      FailUnfinished();
      return;
    }
    CheckOutcomes();
    clock_.RunUntil(clock_.now() + kForgetWithin, failed);
    CheckNothingLeft("while the drivers stay");
    std::vector<std::shared_ptr<DriverProcess>> drivers;
    for (const auto& [id, driver] : drivers_) {
      if (!driver->nested) drivers.push_back(driver);
    }
    for (const auto& driver : drivers) SayGoodbye(driver);
    clock_.RunUntil(clock_.now() + kForgetWithin, failed);
    CheckNothingLeft("after the drivers' end");
    for (const auto& [number, worker] : workers_) {
      if (worker->core->executors() > 0) {
        checker_.Fail(absl::StrCat("worker ", number, " keeps ", worker->core->executors(),
                                   " executors of ended jobs"));
      }
    }
    if (open_questions_ > 0)
      checker_.Fail(absl::StrCat(open_questions_, " questions have no answer"));
  }

  size_t Unfinished() const {
    size_t unfinished = 0;
    for (const auto& [id, driver] : drivers_) unfinished += driver->core->unfinished();
    return unfinished;
  }

  void FailUnfinished() {
    for (const auto& [id, driver] : drivers_) {
      if (driver->core->unfinished() == 0) continue;
      std::string open;
      for (const auto& [number, task] : driver->tasks) {
        if (task->completions == 0)
          absl::StrAppend(&open, " ", number, task->ranks > 0 ? "(group)" : "");
      }
      checker_.Fail(absl::StrCat("driver ", id, " still has ", driver->core->unfinished(),
                                 " tasks ", absl::FormatDuration(kDrainWithin),
                                 " after all was healed:", open));
    }
  }

  void CheckOutcomes() {
    for (const auto& [id, driver] : drivers_) {
      for (const auto& [number, task] : driver->tasks) {
        if (task->completions == 0)
          checker_.Fail(absl::StrCat("task ", id, "/", number, " never ended"));
        if (!plan_.any_fault() && !task->may_fail && !task->status.ok()) {
          checker_.Fail(absl::StrCat("task ", id, "/", number, " (", task->class_name,
                                     ") ended without any fault as ", task->status.ToString()));
        }
      }
    }
  }

  void CheckNothingLeft(const std::string& when) {
    const head::HeadCore::Counts counts = head_->core->Count();
    if (counts.requests != 0 || counts.leases != 0 || counts.drivers != drivers_.size()) {
      checker_.Fail(absl::StrCat(when, " the head has ", counts.requests, " requests, ",
                                 counts.leases, " leases, ", counts.drivers, " drivers where ",
                                 drivers_.size(), " are"));
    }
    const v1::StatusReply status = head_->core->Status(clock_.now());
    for (const v1::NodeStatus& node : status.nodes()) {
      if (node.state() == "lost") continue;
      v1::Resources none = node.used();
      none.clear_custom();
      if (none.ByteSizeLong() > 0)
        checker_.Fail(absl::StrCat(when, " node ", node.id(),
                                   " is in use: ", node.used().ShortDebugString()));
    }
    for (const auto& [number, worker] : workers_) {
      if (!worker->core->welcomed())
        checker_.Fail(absl::StrCat(when, " worker ", number, " has not joined"));
      if (worker->core->leases() > 0)
        checker_.Fail(
            absl::StrCat(when, " worker ", number, " has ", worker->core->leases(), " leases"));
    }
    for (const auto& [id, driver] : drivers_) {
      if (driver->core->leases() > 0)
        checker_.Fail(
            absl::StrCat(when, " driver ", id, " has ", driver->core->leases(), " leases"));
    }
  }

  SimResult Result() {
    SimResult result;
    result.plan = plan_.ToString();
    for (const auto& task : kept_) {
      ++result.submitted;
      result.ended_once += task->completions == 1 ? 1 : 0;
      result.ended_ok += task->completions == 1 && task->status.ok() ? 1 : 0;
    }
    for (const auto& [id, driver] : drivers_) {
      for (const auto& [number, task] : driver->tasks) {
        ++result.submitted;
        result.ended_once += task->completions == 1 ? 1 : 0;
        result.ended_ok += task->completions == 1 && task->status.ok() ? 1 : 0;
      }
    }
    result.faults = faults_;
    result.trace = absl::StrFormat("%d steps, hash %016x", steps_, hash_);
    result.errors = checker_.errors();
    return result;
  }

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
            const google::protobuf::Message& message) {
    Note(who, number, what, message.SerializeAsString(),
         [&] { return message.ShortDebugString(); });
  }
  void Note(const char* who, uint64_t number, const char* what, const std::string& text = "") {
    Note(who, number, what, text, [&] { return text; });
  }

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
  void Up(const std::shared_ptr<WorkerProcess>& worker) {
    Step(worker, worker::HeadUp{}, "link up");
  }
  void Up(const std::shared_ptr<DriverProcess>& driver) {
    Step(driver, client::HeadUp{}, "link up");
  }
  void Down(const std::shared_ptr<WorkerProcess>& worker) {
    Step(worker, worker::HeadDown{}, "link down");
  }
  void Down(const std::shared_ptr<DriverProcess>& driver) {
    Step(driver, client::HeadDown{"the link broke"}, "link down");
  }

  // What reaches a process: nothing where it is dead, later where it is frozen.
  void Reach(const std::shared_ptr<WorkerProcess>& worker, std::function<void()> what) {
    if (worker->dead) return;
    if (worker->frozen) {
      worker->deferred.push_back(std::move(what));
    } else {
      what();
    }
  }
  void Reach(const std::shared_ptr<DriverProcess>& driver, const std::function<void()>& what) {
    if (!driver->dead) what();
  }
  void ReachPeer(const Stream& stream, const std::function<void()>& what) {
    if (stream.worker) {
      if (const auto worker = workers_.find(stream.process); worker != workers_.end())
        Reach(worker->second, what);
    } else if (const auto driver = drivers_.find(stream.process); driver != drivers_.end()) {
      Reach(driver->second, what);
    }
  }
  // The process sees that the stream is over, and opens another.
  void StreamIsDown(const std::shared_ptr<Stream>& stream) {
    ReachPeer(*stream, [this, stream] {
      const auto down = [&](const auto& process) {
        if (process->stream != stream) return;
        process->stream = nullptr;
        Down(process);
        Connect(process);
      };
      if (stream->worker) {
        down(workers_.at(stream->process));
      } else {
        down(drivers_.at(stream->process));
      }
    });
  }
  void HeadSeesEnd(const std::shared_ptr<HeadProcess>& head,
                   const std::shared_ptr<Stream>& stream) {
    if (head == nullptr || head != head_ || head->streams.erase(stream->id) == 0) return;
    if (stream->worker) {
      StepHead(head::WorkerClosed{stream->id}, "worker closed");
    } else {
      StepHead(head::DriverClosed{stream->id}, "driver closed");
    }
  }
  // Both ends see it at their own time; what is under way is lost.
  void Break(const std::shared_ptr<Stream>& stream) {
    stream->to_head.Cut();
    stream->to_process.Cut();
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(500)),
                 [this, stream] { StreamIsDown(stream); });
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
                 [this, stream, head = head_] { HeadSeesEnd(head, stream); });
  }
  // The process closes it: what it sent before arrives.
  void CloseFromProcess(const std::shared_ptr<Stream>& stream, bool flush) {
    if (flush) {
      FlushToHead(stream);
    } else {
      stream->head_batch.clear();
    }
    stream->to_process.Cut();
    stream->to_head.Send([this, stream, head = head_] { HeadSeesEnd(head, stream); });
  }

  void SendToHead(const std::shared_ptr<Stream>& stream, std::string bytes) {
    if (stream == nullptr) return;
    stream->head_batch.push_back(std::move(bytes));
    if (stream->head_batch.size() > 1) return;
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Microseconds(100)),
                 [this, stream] { FlushToHead(stream); });
  }
  void FlushToHead(const std::shared_ptr<Stream>& stream) {
    if (stream->head_batch.empty()) return;
    stream->to_head.Send(
        [this, stream, head = head_, batch = std::exchange(stream->head_batch, {})] {
          for (const std::string& bytes : batch) {
            if (head != head_ || !head->streams.contains(stream->id)) return;
            if (stream->worker) {
              v1::WorkerMessage message;
              Parse(bytes, message);
              Note("head", stream->process, "<- worker", message);
              StepHead(head::FromWorker{stream->id, std::move(message)}, nullptr);
            } else {
              v1::DriverMessage message;
              Parse(bytes, message);
              Note("head", stream->process, "<- driver", message);
              StepHead(head::FromDriver{stream->id, std::move(message)}, nullptr);
            }
          }
        });
  }
  void SendToProcess(const std::shared_ptr<Stream>& stream, std::string bytes) {
    stream->process_batch.push_back(std::move(bytes));
    if (stream->process_batch.size() > 1) return;
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Microseconds(100)),
                 [this, stream] { FlushToProcess(stream); });
  }
  void FlushToProcess(const std::shared_ptr<Stream>& stream) {
    if (stream->process_batch.empty()) return;
    stream->to_process.Send([this, stream, batch = std::exchange(stream->process_batch, {})] {
      ReachPeer(*stream, [this, stream, batch] {
        for (const std::string& bytes : batch) Arrive(stream, bytes);
      });
    });
  }
  void Arrive(const std::shared_ptr<Stream>& stream, const std::string& bytes) {
    if (stream->worker) {
      const auto known = workers_.find(stream->process);
      if (known == workers_.end()) return;  // It ended by an earlier message of the batch.
      const std::shared_ptr<WorkerProcess> worker = known->second;
      if (worker->stream != stream) return;
      v1::ToWorker message;
      Parse(bytes, message);
      Note("worker", worker->number, "<- head", message);
      Step(worker, worker::FromHead{std::move(message)}, nullptr);
      return;
    }
    const auto found = drivers_.find(stream->process);
    if (found == drivers_.end()) return;
    const std::shared_ptr<DriverProcess> driver = found->second;
    if (driver->stream != stream) return;
    v1::ToDriver message;
    Parse(bytes, message);
    if (message.has_lease_ended()) checker_.HearsOfEnd(driver->id, message.lease_ended().lease());
    Note("driver", driver->id, "<- head", message);
    Step(driver, client::FromHead{std::move(message)}, nullptr);
  }
  template <typename Message>
  void Parse(const std::string& bytes, Message& message) {
    if (!message.ParseFromString(bytes)) checker_.Fail("a message cannot be parsed");
  }

  // --- The head ---

  void StartHead() {
    head_ = std::make_shared<HeadProcess>();
    head_->id = prng_.Next();
    head::HeadConfig config;
    config.head = head_->id;
    config.address = "head:6379";
    config.start = clock_.now();
    config.node_timeout = plan_.node_timeout;
    head_->core = std::make_unique<head::HeadCore>(config);
    open_questions_ = 0;
    Note("head", 0, "starts");
  }

  void CrashHead() {
    Note("head", 0, "crashes");
    const std::shared_ptr<HeadProcess> head = std::exchange(head_, nullptr);
    for (const auto& [id, stream] : head->streams) {
      stream->to_head.Cut();
      stream->to_process.Cut();
      clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(100)),
                   [this, stream = stream] { StreamIsDown(stream); });
    }
    clock_.After(prng_.Between(absl::Milliseconds(50), absl::Seconds(8)), [this] {
      if (head_ == nullptr) StartHead();
    });
  }

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
    for (head::Action& action : actions) {
      std::visit([&](auto& done) { Do(*head, done); }, action);
    }
    ArmTick(head);
  }
  void Do(HeadProcess& head, const head::ToDriver& to) {
    const auto stream = head.streams.find(to.connection);
    if (stream != head.streams.end()) SendToProcess(stream->second, to.message.SerializeAsString());
  }
  void Do(HeadProcess& head, const head::ToWorker& to) {
    const auto stream = head.streams.find(to.connection);
    if (stream != head.streams.end()) SendToProcess(stream->second, to.message.SerializeAsString());
  }
  void Do(HeadProcess& head, const head::CloseConnection& close) {
    const auto found = head.streams.find(close.connection);
    if (found == head.streams.end()) return;
    const std::shared_ptr<Stream> stream = found->second;
    FlushToProcess(stream);
    stream->to_head.Cut();
    stream->to_process.Send([this, stream] { StreamIsDown(stream); });
    clock_.After(network_.DrawDelay(),
                 [this, stream, alive = head_] { HeadSeesEnd(alive, stream); });
  }
  void Do(HeadProcess&, const head::Answer& answer) {
    --open_questions_;
    Note("head", answer.query, "answers", answer.reply);
  }
  void Do(HeadProcess&, const head::Say& say) { Note("head", 0, "says", say.text); }

  void ArmTick(const std::shared_ptr<HeadProcess>& head) {
    Arm(head, [this, head] {
      if (head != head_) return;
      if (head->core->NextTick() > clock_.now()) {
        ArmTick(head);
        return;
      }
      StepHead(head::Tick{}, "tick");
      if (head->core->NextTick() <= clock_.now())
        checker_.Fail("the head's tick is due again at once");
    });
  }
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

  void ScheduleQuestion() {
    clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(3)), [this] {
      if (healed_) return;
      ScheduleQuestion();
      if (head_ == nullptr || drivers_.empty()) return;
      const DriverProcess& driver = *Pick(drivers_);
      const uint64_t task = prng_.Below(driver.last_task + 1);
      ++open_questions_;
      StepHead(head::Asked{++last_question_,
                           driver.core->TaskIdOf(task).substr(0, prng_.Percent(80) ? 12 : 1)},
               "asked");
    });
  }

  template <typename Map>
  typename Map::mapped_type Pick(const Map& map) {
    auto at = map.begin();
    for (uint64_t skip = prng_.Below(map.size()); skip > 0; --skip) ++at;
    return at->second;
  }

  // --- Workers ---

  void StartWorker(size_t slot) {
    auto worker = std::make_shared<WorkerProcess>();
    worker->number = ++last_worker_;
    worker->slot = slot;
    worker::WorkerConfig config;
    config.worker = prng_.Next();
    config.start = clock_.now();
    config.drain_timeout = prng_.Between(absl::Milliseconds(100), absl::Seconds(10));
    config.idle_executors_max = plan_.idle_executors_max;
    config.hello.set_host_id(absl::StrCat("host ", slot % 2));
    config.hello.set_host("host");
    *config.hello.mutable_resources() = plan_.workers[slot];
    for (const v1::Entry& label : plan_.labels[slot]) *config.hello.add_labels() = label;
    worker->core = std::make_unique<worker::WorkerCore>(config);
    workers_.emplace(worker->number, worker);
    checker_.WorkerStarts(worker->number, plan_.workers[slot]);
    Note("worker", worker->number, "starts");
    Connect(worker);
    ArmTick(worker);
  }

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
  void Do(const WorkerPtr& worker, const worker::ToHead& to) {
    SendToHead(worker->stream, to.message.SerializeAsString());
  }
  void Do(const WorkerPtr& worker, const worker::ToExecutor& to) {
    const auto found = worker->executors.find(to.executor);
    if (found == worker->executors.end()) return;
    const std::shared_ptr<ExecutorProcess> process = found->second;
    process->to_executor.Send([this, process, bytes = to.message.SerializeAsString()] {
      if (process->gone || process->sim == nullptr) return;
      v1::WorkerToExecutor message;
      Parse(bytes, message);
      Note("executor", process->sim->number(), "<- worker", message);
      process->sim->OnControl(message);
    });
  }
  void Do(const WorkerPtr& worker, const worker::Spawn& spawn) {
    auto process = std::make_shared<ExecutorProcess>(spawn.executor, network_);
    process->worker = worker->number;
    worker->executors.emplace(spawn.executor, process);
    const bool fails = plan_.start_failure && !healed_ && prng_.Percent(30);
    clock_.After(prng_.Between(absl::Milliseconds(1), absl::Milliseconds(300)),
                 [this, worker, process, fails] {
                   if (process->gone) return;
                   if (fails) {
                     EndExecutor(process, "exit status 127");
                     return;
                   }
                   MakeExecutor(worker, process);
                 });
  }
  void Do(const WorkerPtr& worker, const worker::Kill& kill) {
    const auto found = worker->executors.find(kill.executor);
    if (found == worker->executors.end()) return;
    const std::shared_ptr<ExecutorProcess> process = found->second;
    if (options_.plant == Plant::kExitTooSoon) {
      process->to_worker.Send([this, worker, process] { TellExit(worker, process, "killed"); });
    }
    clock_.After(
        prng_.Between(absl::ZeroDuration(),
                      absl::Milliseconds(options_.plant == Plant::kExitTooSoon ? 500 : 20)),
        [this, process] { EndExecutor(process, "killed by signal 9 (killed)"); });
  }
  void Do(const WorkerPtr& worker, const worker::Flush& flush) {
    v1::WorkerMessage message;
    message.mutable_logs_flushed()->set_driver(flush.driver);
    message.mutable_logs_flushed()->set_sequence(flush.sequence);
    SendToHead(worker->stream, message.SerializeAsString());
  }
  void Do(const WorkerPtr& worker, const worker::DrawIdentity&) {
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(1)), [this, worker] {
      Reach(worker,
            [this, worker] { Step(worker, worker::NewIdentity{prng_.Next()}, "new identity"); });
    });
  }
  void Do(const WorkerPtr& worker, const worker::Reconnect&) {
    if (worker->stream != nullptr)
      CloseFromProcess(std::exchange(worker->stream, nullptr), /*flush=*/true);
    Connect(worker);
  }
  void Do(const WorkerPtr& worker, const worker::End& end) {
    Note("worker", worker->number, "ends", end.status.ToString());
    EndWorker(worker, /*crash=*/false);
  }
  void Do(const WorkerPtr& worker, const worker::Say& say) {
    Note("worker", worker->number, "says", say.text);
  }

  void ArmTick(const WorkerPtr& worker) {
    Arm(worker, [this, worker] {
      Reach(worker, [this, worker] {
        if (worker->core->NextTick() > clock_.now()) {
          ArmTick(worker);
          return;
        }
        Step(worker, worker::Tick{}, "tick");
        if (!worker->dead && worker->core->NextTick() <= clock_.now())
          checker_.Fail("a worker's tick is due again at once");
      });
    });
  }

  void EndWorker(const WorkerPtr& worker, bool crash) {
    worker->dead = true;
    if (worker->stream != nullptr) {
      if (crash) {
        const std::shared_ptr<Stream> stream = std::exchange(worker->stream, nullptr);
        stream->to_head.Cut();
        stream->to_process.Cut();
        clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
                     [this, stream, head = head_] { HeadSeesEnd(head, stream); });
      } else {
        CloseFromProcess(std::exchange(worker->stream, nullptr), /*flush=*/true);
      }
    }
    for (const auto& [id, process] : worker->executors) {  // Their links to the worker end.
      clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(50)),
                   [this, process = process] { EndExecutor(process, "its worker is gone"); });
    }
    clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(5)),
                 [this, slot = worker->slot] { StartWorker(slot); });
    workers_.erase(worker->number);
  }

  void Thaw(const WorkerPtr& worker) {
    if (!worker->frozen) return;
    Note("worker", worker->number, "thaws");
    worker->frozen = false;
    std::deque<std::function<void()>> deferred = std::exchange(worker->deferred, {});
    for (const auto& what : deferred) Reach(worker, what);
  }

  // --- Executors ---

  void MakeExecutor(const WorkerPtr& worker, const std::shared_ptr<ExecutorProcess>& process) {
    const std::weak_ptr<ExecutorProcess> weak = process;
    SimExecutor::Owner owner;
    owner.to_worker = [this, weak](const v1::ExecutorToWorker& message) {
      ToWorker(weak.lock(), message);
    };
    owner.to_driver = [this](uint64_t connection, const v1::FromExecutor& message) {
      if (const auto link = data_.find(connection); link != data_.end())
        ToDriver(link->second, message);
    };
    owner.close_driver = [this](uint64_t connection) {
      if (const auto link = data_.find(connection); link != data_.end())
        CloseFromExecutor(link->second, "refused");
    };
    owner.start = [this, weak](const v1::PushTask& task) { StartTask(weak.lock(), task); };
    owner.cancel = [this, weak](bool aborted) { CancelRunning(weak.lock(), aborted); };
    owner.lease_changed = [this, weak] {
      const std::shared_ptr<ExecutorProcess> changed = weak.lock();
      checker_.Holds(changed->worker, changed->sim->number(), changed->sim->held());
    };
    owner.end = [this, weak] { EndExecutor(weak.lock(), "killed by signal 9 (killed)"); };
    process->sim = std::make_shared<SimExecutor>(clock_, ++last_executor_,
                                                 absl::StrCat(prng_.Next()), std::move(owner));
    Note("executor", process->sim->number(), "starts", absl::StrCat("on worker ", worker->number));
    v1::ExecutorToWorker ready;
    *ready.mutable_ready()->mutable_protocol() = OurProtocol();
    ready.mutable_ready()->set_build_id(kBuildId);
    ready.mutable_ready()->set_pid(static_cast<int32_t>(process->sim->number()));
    ToWorker(process, ready);
  }

  void ToWorker(const std::shared_ptr<ExecutorProcess>& process, const v1::ExecutorToWorker& sent) {
    process->to_worker.Send([this, process, bytes = sent.SerializeAsString()] {
      const auto worker = workers_.find(process->worker);
      if (worker == workers_.end()) return;
      Reach(worker->second, [this, worker = worker->second, process, bytes] {
        if (!worker->executors.contains(process->id)) return;
        v1::ExecutorToWorker message;
        Parse(bytes, message);
        Note("worker", worker->number, "<- executor", message);
        Step(worker, worker::FromExecutor{process->id, std::move(message)}, nullptr);
      });
    });
  }

  void EndExecutor(const std::shared_ptr<ExecutorProcess>& process, const std::string& how) {
    if (std::exchange(process->gone, true)) return;
    if (process->sim != nullptr) {
      Note("executor", process->sim->number(), "ends", how);
      process->sim->Die();
      checker_.Holds(process->worker, process->sim->number(), std::nullopt);
      std::vector<std::shared_ptr<DataLink>> links;
      for (const auto& [id, link] : data_) {
        if (link->executor == process->sim) links.push_back(link);
      }
      for (const auto& link : links) CloseFromExecutor(link, "its executor closed the connection");
      if (process->nested != nullptr) EndDriver(process->nested, /*crash=*/true);
    }
    process->to_worker.Send([this, process, how] {
      const auto worker = workers_.find(process->worker);
      if (worker == workers_.end()) return;
      Reach(worker->second,
            [this, worker = worker->second, process, how] { TellExit(worker, process, how); });
    });
  }
  void TellExit(const WorkerPtr& worker, const std::shared_ptr<ExecutorProcess>& process,
                const std::string& how) {
    if (worker->executors.erase(process->id) > 0)
      Step(worker, worker::ExecutorExited{process->id, how, ""}, "executor exited");
  }

  // --- Tasks ---

  void StartTask(const std::shared_ptr<ExecutorProcess>& process, const v1::PushTask& push) {
    const v1::LeaseKey& lease = process->sim->held()->lease();
    const auto driver = drivers_.find(lease.driver());
    sim::Run run;
    run.driver = lease.driver();
    run.sequence = push.sequence();
    run.executor = process->sim->number();
    run.lease = lease.SerializeAsString();
    run.generation = push.group().generation();
    run.rank = push.group().rank();
    run.ranks = push.group().size();
    Note("executor", run.executor, "starts task", push);
    if (driver == drivers_.end()) return;  // Nobody will hear: the connection's end will end it.
    const std::shared_ptr<SimTask> task = driver->second->tasks.at(push.sequence());
    const uint64_t number = checker_.Starts(run, *task, push.attempt());
    const uint64_t runs = process->sim->runs();
    const auto finish = [this, process, task, number, runs, sequence = push.sequence()] {
      if (!Runs(*process, runs)) return;  // It was cancelled.
      checker_.Finishes(number);
      Note("executor", process->sim->number(), "finishes task",
           absl::StrCat(task->driver, "/", sequence));
      process->sim->FinishTask(sequence,
                               task->fails ? absl::UnknownError("it fails") : absl::OkStatus(),
                               absl::StrCat(number));
    };
    if (run.ranks > 0) {
      // A rank meets all others first.
      const std::string meeting = absl::StrCat(run.driver, "/", run.sequence, "/", run.generation);
      std::vector<std::function<void()>>& met = meetings_[meeting];
      met.push_back([this, task, finish] { clock_.After(task->run, finish); });
      if (met.size() < run.ranks) return;
      for (const auto& go_on : std::exchange(met, {})) go_on();
      meetings_.erase(meeting);
      return;
    }
    if (task->children == 0) {
      clock_.After(task->run, finish);
      return;
    }
    clock_.After(task->run, [this, process, task, finish, runs] {
      if (Runs(*process, runs)) SubmitChildren(process, *task, finish);
    });
  }
  // Whether the task that was the executor's `runs`th is still running.
  static bool Runs(const ExecutorProcess& process, uint64_t runs) {
    return !process.sim->dead() && process.sim->running().has_value() &&
           process.sim->runs() == runs;
  }

  void CancelRunning(const std::shared_ptr<ExecutorProcess>& process, bool aborted) {
    const v1::PushTask push = *process->sim->running();
    const auto driver = drivers_.find(process->sim->held()->lease().driver());
    if (driver == drivers_.end() || !driver->second->tasks.at(push.sequence())->cooperates) return;
    clock_.After(absl::Milliseconds(1), [this, process, aborted, runs = process->sim->runs(),
                                         sequence = push.sequence()] {
      if (!Runs(*process, runs)) return;
      if (process->nested != nullptr && process->nested->when_children_end != nullptr) {
        process->nested->when_children_end = nullptr;
        Step(process->nested, client::TaskWaits{false, process->sim->held()->lease()},
             "waits no longer");
      }
      process->sim->FinishTask(
          sequence, aborted ? absl::AbortedError("aborted") : absl::CancelledError("cancelled"),
          "");
    });
  }

  void SubmitChildren(const std::shared_ptr<ExecutorProcess>& process, const SimTask& task,
                      std::function<void()> finish) {
    const v1::LeaseKey lease = process->sim->held()->lease();
    if (process->nested == nullptr) {
      process->nested = MakeDriver(process->sim->held()->job(), &lease);
      v1::RequestSpec spec;
      spec.set_bundles(1);
      spec.add_choices()->mutable_resources()->set_cpus(5000);
      spec.set_name("child");
      process->nested->classes.emplace_back(process->nested->core->AddClass(spec),
                                            DrawnSpec{spec, false});
    }
    const std::shared_ptr<DriverProcess> nested = process->nested;
    nested->children_left = task.children;
    ++nested->family;
    nested->when_children_end = [this, process, nested, lease, finish = std::move(finish)] {
      if (process->sim->dead()) return;
      Step(nested, client::TaskWaits{false, lease}, "waits no longer");
      finish();
    };
    process->sim->Block();
    checker_.Lends(process->worker, process->sim->number());
    for (int i = 0; i < task.children; ++i) {
      auto child = std::make_shared<SimTask>();
      child->run = prng_.Between(absl::Microseconds(50), absl::Milliseconds(300));
      child->max_retries = 3;
      child->class_name = "child";
      child->may_fail = plan_.queued_tasks_max < 1000;
      child->family = nested->family;
      Submit(nested, child, nested->classes[0].first, {});
    }
    Step(nested, client::TaskWaits{true, lease}, "waits");
  }

  // --- Data links ---

  void ToDriver(const std::shared_ptr<DataLink>& link, const v1::FromExecutor& sent) {
    link->to_driver.Send([this, link, bytes = sent.SerializeAsString()] {
      const auto driver = drivers_.find(link->driver);
      if (driver == drivers_.end() || !driver->second->links.contains(link->lease)) return;
      v1::FromExecutor message;
      Parse(bytes, message);
      for (const v1::TaskResult& result : message.results().results())
        checker_.Arrives(result.value());
      Note("driver", link->driver, "<- executor", message);
      Step(driver->second, client::FromExecutor{link->lease, std::move(message)}, nullptr);
    });
  }
  void CloseFromExecutor(const std::shared_ptr<DataLink>& link, const std::string& why) {
    data_.erase(link->id);
    link->to_driver.Send([this, link, why] { DriverSeesEnd(link, why); });
  }
  void DriverSeesEnd(const std::shared_ptr<DataLink>& link, const std::string& why) {
    const auto driver = drivers_.find(link->driver);
    if (driver == drivers_.end() || driver->second->links.erase(link->lease) == 0) return;
    Step(driver->second, client::LeaseBroke{link->lease, why}, "lease broke");
  }
  void CloseFromDriver(const std::shared_ptr<DataLink>& link) {
    link->to_executor.Send([this, link] {
      if (data_.erase(link->id) > 0) link->executor->OnClosed(link->id);
    });
  }
  void BreakData(const std::shared_ptr<DataLink>& link) {
    link->to_executor.Cut();
    link->to_driver.Cut();
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(100)),
                 [this, link] { DriverSeesEnd(link, "the connection broke"); });
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(100)), [this, link] {
      if (data_.erase(link->id) > 0) link->executor->OnClosed(link->id);
    });
  }

  // --- Drivers ---

  std::shared_ptr<DriverProcess> MakeDriver(uint64_t job, const v1::LeaseKey* parent) {
    auto driver = std::make_shared<DriverProcess>();
    driver->id = prng_.Next();
    client::DriverConfig config;
    config.driver = driver->id;
    config.address = "head:6379";
    config.start = clock_.now();
    config.idle_lease = plan_.idle_lease;
    config.reconnect_timeout = plan_.reconnect_timeout;
    config.requests_max = plan_.requests_max;
    config.tasks_per_push_max = plan_.tasks_per_push_max;
    config.queued_tasks_max = plan_.queued_tasks_max;
    config.hello.set_name("app");
    config.hello.set_host_id("host 0");
    config.hello.set_job(job == 0 ? driver->id : job);
    config.hello.mutable_binary()->set_build_id(kBuildId);
    config.hello.mutable_binary()->set_path("/app");
    config.hello.mutable_binary()->set_host_id("host 0");
    if (parent != nullptr) *config.hello.mutable_parent() = *parent;
    driver->nested = parent != nullptr;
    driver->core = std::make_unique<client::DriverCore>(std::move(config));
    driver->values.resize(1);
    drivers_.emplace(driver->id, driver);
    Note("driver", driver->id, "starts");
    driver->backoff = absl::ZeroDuration();
    Connect(driver);
    driver->backoff = absl::Milliseconds(50);
    return driver;
  }

  void StartDriver(int tasks, absl::Duration within) {
    const std::shared_ptr<DriverProcess> driver = MakeDriver(0, nullptr);
    for (int64_t i = prng_.Between(1, 5); i > 0; --i) {
      DrawnSpec drawn = DrawSpec(prng_, plan_.small);
      drawn.spec.set_name(absl::StrCat("class", i));
      const client::ClassNumber number = driver->core->AddClass(drawn.spec);
      driver->classes.emplace_back(number, std::move(drawn));
    }
    for (int i = 0; i < tasks; ++i) {
      const absl::Duration at =
          plan_.burst ? within / 2 : prng_.Between(absl::ZeroDuration(), within);
      clock_.After(at, [this, driver] {
        if (!driver->dead) SubmitDrawn(driver);
      });
    }
  }

  void SubmitDrawn(const std::shared_ptr<DriverProcess>& driver) {
    auto task = std::make_shared<SimTask>();
    const bool group = prng_.Percent(8);
    DrawnSpec drawn;
    client::ClassNumber task_class = 0;
    if (group) {
      drawn = DrawSpec(prng_, plan_.small);
      task->ranks = static_cast<uint32_t>(prng_.Between(1, 3));
      // The big worker, or one of the small ones, must be able to hold it.
      if (plan_.small) task->ranks = 1;
      if (drawn.spec.choices(0).resources().gpus() > 10000) task->ranks = 1;
      drawn.spec.set_bundles(task->ranks);
      drawn.spec.set_name("group");
    } else {
      const auto& [number, spec] = driver->classes[prng_.Below(driver->classes.size())];
      task_class = number;
      drawn = spec;
    }
    task->class_name = drawn.spec.name();
    task->max_retries = prng_.Percent(10) ? -1 : static_cast<int>(prng_.Between(0, 3));
    const uint64_t length = prng_.Below(10);
    task->run = length < 6   ? prng_.Between(absl::Microseconds(20), absl::Milliseconds(3))
                : length < 9 ? prng_.Between(absl::Milliseconds(3), absl::Milliseconds(200))
                             : prng_.Between(absl::Milliseconds(200), absl::Seconds(4));
    task->fails = prng_.Percent(8);
    task->cooperates = prng_.Percent(50);
    task->may_fail = task->fails || drawn.nowhere || drawn.spec.fail_if_infeasible() ||
                     plan_.queued_tasks_max < 1000;
    if (prng_.Percent(8)) {
      task->timeout = prng_.Between(absl::Milliseconds(1), absl::Seconds(3));
      task->may_fail = true;
    }
    if (!group && prng_.Percent(plan_.small ? 30 : 8))
      task->children = static_cast<int>(prng_.Between(1, 4));
    std::vector<client::ArgumentSlot> arguments;
    if (driver->last_task > 0 && prng_.Percent(25)) {
      for (int64_t i = prng_.Between(1, 3); i > 0; --i) {
        const uint64_t number =
            driver->last_task - prng_.Below(std::min<uint64_t>(driver->last_task, 10));
        const SimTask& producer = *driver->tasks.at(number);
        if (producer.completions > 0 && !producer.status.ok()) continue;
        if (producer.may_fail) task->may_fail = true;
        client::ArgumentSlot slot;
        if (producer.completions > 0) {
          slot.value = driver->values[number];
        } else {
          slot.producer = number;
        }
        arguments.push_back(std::move(slot));
      }
    }
    if (prng_.Percent(10)) {
      task->may_fail = true;
      const bool force = prng_.Percent(50);
      clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
                   [this, driver, task, force] {
                     if (!driver->dead && task->completions == 0)
                       Step(driver, client::CancelAsked{task->number, force}, "cancel");
                   });
    }
    if (!group) {
      Submit(driver, task, task_class, std::move(arguments));
      return;
    }
    Register(*driver, task);
    client::SubmitGroup submit;
    submit.task = task->number;
    submit.spec = drawn.spec;
    submit.call.name = "group";
    submit.call.arguments = std::move(arguments);
    submit.max_restarts = task->max_retries;
    submit.timeout = task->timeout;
    submit.cookie = task;
    if (drawn.nowhere) nowhere_.emplace_back(driver, task);
    Step(driver, std::move(submit), "submit group");
  }

  void Register(DriverProcess& driver, const std::shared_ptr<SimTask>& task) {
    task->driver = driver.id;
    task->number = ++driver.last_task;
    driver.tasks.emplace(task->number, task);
    driver.values.resize(driver.last_task + 1);
  }

  void Submit(const std::shared_ptr<DriverProcess>& driver, const std::shared_ptr<SimTask>& task,
              client::ClassNumber task_class, std::vector<client::ArgumentSlot> arguments) {
    Register(*driver, task);
    client::Submit submit;
    submit.task = task->number;
    submit.task_class = task_class;
    submit.call.name = task->class_name;
    submit.call.arguments = std::move(arguments);
    submit.max_retries = task->max_retries;
    submit.timeout = task->timeout;
    submit.cookie = task;
    for (const auto& [number, drawn] : driver->classes) {
      if (number == task_class && drawn.nowhere) nowhere_.emplace_back(driver, task);
    }
    Step(driver, std::move(submit), "submit");
  }

  void CancelNowhere() {
    for (const auto& [driver, task] : std::exchange(nowhere_, {})) {
      if (!driver->dead && task->completions == 0)
        Step(driver, client::CancelAsked{task->number, false}, "cancel");
    }
  }

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
  void Do(const DriverPtr& driver, const client::ToHead& to, Broke&) {
    if (options_.plant == Plant::kDropRequest && to.message.has_request() &&
        driver->stream != nullptr && !std::exchange(planted_, true))
      return;
    SendToHead(driver->stream, to.message.SerializeAsString());
  }
  void Do(const DriverPtr& driver, const struct client::Connect& connect, Broke& broke) {
    std::shared_ptr<SimExecutor> executor;
    for (const auto& [number, worker] : workers_) {
      for (const auto& [id, process] : worker->executors) {
        if (process->sim != nullptr && !process->gone &&
            process->sim->socket() == connect.granted.unix_socket())
          executor = process->sim;
      }
    }
    if (executor == nullptr) {
      broke.push_back(client::LeaseBroke{connect.lease, "connection refused"});
      return;
    }
    auto link = std::make_shared<DataLink>(++last_connection_, driver->id, connect.lease, network_);
    link->executor = std::move(executor);
    driver->links[connect.lease] = link;
    data_[link->id] = link;
    v1::ToExecutor open;
    *open.mutable_open()->mutable_lease() = connect.granted.lease();
    open.mutable_open()->set_token(connect.granted.token());
    Send(link, open);
  }
  void Send(const std::shared_ptr<DataLink>& link, const v1::ToExecutor& sent) {
    link->to_executor.Send([this, link, bytes = sent.SerializeAsString()] {
      if (!data_.contains(link->id)) return;
      v1::ToExecutor message;
      Parse(bytes, message);
      Note("executor", link->executor->number(), "<- driver", message);
      link->executor->OnFrame(link->id, message);
    });
  }
  void Do(const DriverPtr& driver, const client::ToExecutor& to, Broke&) {
    if (const auto link = driver->links.find(to.lease); link != driver->links.end())
      Send(link->second, to.message);
  }
  void Do(const DriverPtr& driver, const client::CloseConnection& close, Broke&) {
    const auto link = driver->links.find(close.lease);
    if (link == driver->links.end()) return;
    CloseFromDriver(link->second);
    driver->links.erase(link);
  }
  void Do(const DriverPtr& driver, const client::Complete& complete, Broke&) {
    const auto task = std::static_pointer_cast<SimTask>(complete.cookie);
    Note("driver", driver->id, "completes",
         absl::StrCat(task->number, " ", complete.status.ToString()));
    checker_.Completes(*task, complete.status, complete.value);
    if (options_.plant == Plant::kCompleteTwice && task->number == 2)
      checker_.Completes(*task, complete.status, complete.value);
    driver->values[task->number] = complete.value;
    if (!driver->nested || task->family != driver->family || --driver->children_left > 0) return;
    if (driver->when_children_end == nullptr) return;
    clock_.After(absl::ZeroDuration(), std::exchange(driver->when_children_end, nullptr));
  }
  void Do(const DriverPtr& driver, const client::Print& print, Broke&) {
    Note("driver", driver->id, "prints", print.text);
  }
  void Do(const DriverPtr&, const client::Output&, Broke&) {}
  void Do(const DriverPtr&, const client::Upload&, Broke&) {}
  void Do(const DriverPtr& driver, const client::Refused& refused, Broke&) {
    checker_.Fail(absl::StrCat("driver ", driver->id, " is refused: ", refused.status.ToString()));
  }
  void Do(const DriverPtr&, const client::Flushed&, Broke&) {}
  void Do(const DriverPtr&, const client::StoreAnswer&, Broke&) {}

  void ArmTick(const DriverPtr& driver) {
    Arm(driver, [this, driver] {
      if (driver->dead) return;
      if (driver->core->NextTick() > clock_.now()) {
        ArmTick(driver);
        return;
      }
      Step(driver, client::Tick{}, "tick");
      if (driver->core->NextTick() <= clock_.now())
        checker_.Fail("a driver's tick is due again at once");
    });
  }

  void SayGoodbye(const DriverPtr& driver) {
    v1::DriverMessage message;
    message.mutable_goodbye();
    SendToHead(driver->stream, message.SerializeAsString());
    EndDriver(driver, /*crash=*/false);
  }

  void EndDriver(const DriverPtr& driver, bool crash) {
    if (std::exchange(driver->dead, true)) return;
    Note("driver", driver->id, crash ? "crashes" : "ends");
    if (driver->stream != nullptr)
      CloseFromProcess(std::exchange(driver->stream, nullptr), !crash || prng_.Percent(50));
    for (const auto& [number, link] : std::exchange(driver->links, {})) CloseFromDriver(link);
    for (const auto& [number, task] : driver->tasks) {
      if (!crash || task->completions > 0) kept_.push_back(task);
    }
    driver->when_children_end = nullptr;  // It keeps the executor alive, which keeps the driver.
    drivers_.erase(driver->id);
  }

  // --- Faults ---

  void ScheduleFault() {
    clock_.After(prng_.Between(absl::ZeroDuration(), plan_.fault_interval * 2), [this] {
      if (healed_) return;
      ScheduleFault();
      ++faults_;
      Fault(prng_.Below(9));
    });
  }

  void Fault(uint64_t which) {
    if (which == 0 && plan_.link_loss && head_ != nullptr && !head_->streams.empty()) {
      const std::shared_ptr<Stream> stream = Pick(head_->streams);
      Note("fault", stream->process, "link lost");
      Break(stream);
    } else if (which == 1 && plan_.delay_spikes) {
      network_.spike = prng_.Between(absl::Milliseconds(10), absl::Seconds(2));
      clock_.After(prng_.Between(absl::Milliseconds(10), absl::Seconds(1)),
                   [this] { network_.spike = absl::ZeroDuration(); });
    } else if (which == 2 && plan_.data_loss && !data_.empty()) {
      const std::shared_ptr<DataLink> link = Pick(data_);
      Note("fault", link->id, "data link lost");
      BreakData(link);
    } else if (which == 3 && plan_.driver_crash) {
      const DriverPtr driver = Pick(drivers_);
      if (driver->nested) return;
      EndDriver(driver, /*crash=*/true);
      StartDriver(plan_.tasks_per_driver / 4, absl::Seconds(1));
    } else if (which == 4 && plan_.worker_crash && !workers_.empty()) {
      const WorkerPtr worker = Pick(workers_);
      Note("fault", worker->number, "worker crashes");
      EndWorker(worker, /*crash=*/true);
    } else if (which == 5 && plan_.worker_freeze && !workers_.empty()) {
      const WorkerPtr worker = Pick(workers_);
      if (worker->frozen) return;
      Note("fault", worker->number, "worker freezes");
      worker->frozen = true;
      clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(20)),
                   [this, worker] { Thaw(worker); });
    } else if (which == 6 && plan_.worker_drain && !workers_.empty()) {
      const WorkerPtr worker = Pick(workers_);
      if (std::exchange(worker->draining, true)) return;
      Reach(worker, [this, worker] { Step(worker, worker::DrainAsked{}, "drain"); });
    } else if (which == 7 && plan_.executor_crash && !workers_.empty()) {
      const WorkerPtr worker = Pick(workers_);
      if (worker->executors.empty()) return;
      EndExecutor(Pick(worker->executors), "killed by signal 11 (segmentation fault)");
    } else if (which == 8 && plan_.head_crash && head_ != nullptr && prng_.Percent(50)) {
      CrashHead();
    }
  }

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
  absl::btree_map<uint64_t, WorkerPtr> workers_;
  absl::btree_map<uint64_t, DriverPtr> drivers_;
  absl::btree_map<uint64_t, std::shared_ptr<DataLink>> data_;
  absl::btree_map<std::string, std::vector<std::function<void()>>> meetings_;  // Of ranks.
  std::vector<std::pair<DriverPtr, std::shared_ptr<SimTask>>> nowhere_;
  std::vector<std::shared_ptr<SimTask>> kept_;  // Of drivers that are gone: those that ended.
};

}  // namespace

SimResult Simulate(uint64_t seed, const SimOptions& options) {
  return ClusterSim(seed, options).Run();
}

}  // namespace muster::sim
