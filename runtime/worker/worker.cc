#include "runtime/worker/worker.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/host_id.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/random.h"
#include "runtime/base/reactor.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/protocol.h"
#include "runtime/worker/executor_process.h"
#include "runtime/worker/worker_core.h"

namespace muster::worker {
namespace {

constexpr size_t kLogLinesMax = 10'000;  // Kept while the head is away.
constexpr absl::Duration kSayDownEvery = absl::Seconds(10);
constexpr absl::Duration kGpuWait = absl::Seconds(1);  // And how long an end may wait for it.

class RunningWorker final : public Worker {
 public:
  explicit RunningWorker(const WorkerOptions& options)
      : options_(options), reactor_(Reactor::Options{}) {
    WorkerConfig config;
    config.worker = RandomId();
    config.start = MonotonicNow();
    config.drain_timeout = options.drain_timeout;
    *config.hello.mutable_protocol() = OurProtocol();
    config.hello.set_name(options.name);
    config.hello.set_host_id(options.host_id.empty() ? HostId() : options.host_id);
    config.hello.set_host(options.host);
    config.hello.set_pid(getpid());
    *config.hello.mutable_resources() = options.resources;
    for (const v1::Entry& label : options.labels) *config.hello.add_labels() = label;
    config.idle_executors_max =
        static_cast<int>(std::clamp<int64_t>(options.resources.cpus() / 10000, 2, 64));
    core_ = std::make_unique<WorkerCore>(config);
  }

  absl::Status Run() override {
    std::error_code ignored;
    std::filesystem::create_directories(options_.directory + "/logs", ignored);
    std::filesystem::create_directories(options_.directory + "/packages", ignored);
    OpenLink();
    if (options_.watch_gpus) watcher_ = std::thread([this] { WatchGpus(); });
    while (!ended_.has_value()) {
      const auto has_mail = [this] {
        MutexLock lock(&mutex_);
        return !mailbox_.empty();
      };
      reactor_.RunUntil([&] { return ended_.has_value() || has_mail(); }, core_->NextTick());
      std::deque<decltype(Event::what)> mails;
      {
        MutexLock lock(&mutex_);
        std::swap(mails, mailbox_);
      }
      for (auto& mail : mails) Step(std::move(mail));
      if (core_->welcomed() && !joined_) {
        joined_ = true;
        if (options_.on_joined) options_.on_joined();
      }
      if (MonotonicNow() >= core_->NextTick()) Step(Tick{});
      if (reconnect_) {
        reconnect_ = false;
        link_->Stop(absl::ZeroDuration());
        OpenLink();
      }
    }
    link_->Stop(absl::Seconds(1));  // What was said last goes out.
    processes_.clear();
    watching_ = false;
    if (watcher_.joinable()) watcher_.join();
    for (std::thread& fetcher : fetchers_) fetcher.join();
    return *ended_;
  }

  void Drain() override { Push(DrainAsked{}); }
  void EndNow() override { Push(EndAsked{}); }
  void SetLabels(std::vector<v1::Entry> labels) override { Push(LabelsRead{std::move(labels)}); }

 private:
  void WatchGpus() {
    while (watching_) {
      for (const GpuTrouble& trouble : options_.watch_gpus(kGpuWait)) {
        Push(GpuFailed{static_cast<uint32_t>(trouble.device), trouble.reason});
      }
    }
  }

  void OpenLink() {
    WorkerLink::Callbacks callbacks;
    callbacks.on_up = [this] {
      say_down_at_ = absl::InfinitePast();
      Push(HeadUp{});
    };
    callbacks.on_batch = [this](v1::ToWorkerBatch batch) {
      MutexLock lock(&mutex_);
      for (v1::ToWorker& message : *batch.mutable_messages())
        mailbox_.emplace_back(FromHead{std::move(message)});
      reactor_.Wake();
    };
    callbacks.on_down = [this](const absl::Status& why) {
      // Attempts follow each other within a second.
      if (!leaving_ && MonotonicNow() >= say_down_at_) {
        Log(LogLevel::kWarning, "no link to the head: ", why.message(), "; keeps trying");
        say_down_at_ = MonotonicNow() + kSayDownEvery;
      }
      Push(HeadDown{});
    };
    link_ = ConnectWorker(options_.address, std::move(callbacks));
  }

  void Push(decltype(Event::what) what) {
    {
      MutexLock lock(&mutex_);
      mailbox_.push_back(std::move(what));
    }
    reactor_.Wake();
  }

  void Step(decltype(Event::what) what) {
    Event event;
    event.at = MonotonicNow();
    event.what = std::move(what);
    std::vector<Action> actions;
    core_->Step(event, actions);
    for (Action& action : actions) std::visit([this](auto& done) { Do(done); }, action);
  }

  void Do(ToHead& to) {
    if (to.message.has_leaving()) leaving_ = true;  // The head closes the link: no news.
    link_->Send(std::move(to.message));
    SendKeptLines();
  }
  void Do(const ToExecutor& to) {
    const auto process = processes_.find(to.executor);
    if (process != processes_.end()) process->second->Send(to.message);
  }
  void Do(const Kill& kill) {
    const auto process = processes_.find(kill.executor);
    if (process != processes_.end()) process->second->Kill();
  }
  void Do(const Flush& flush) {
    for (const auto& [id, process] : processes_) {
      if (core_->DriverOf(id) == flush.driver) process->FlushOutput();
    }
    v1::WorkerMessage message;
    message.mutable_logs_flushed()->set_driver(flush.driver);
    message.mutable_logs_flushed()->set_sequence(flush.sequence);
    link_->Send(std::move(message));
  }
  void Do(const DrawIdentity&) { Push(NewIdentity{RandomId()}); }
  void Do(const Reconnect&) { reconnect_ = true; }
  void Do(const End& end) { ended_ = end.status; }
  void Do(const Say& say) { Log(say.warning ? LogLevel::kWarning : LogLevel::kInfo, say.text); }

  void Do(const Spawn& spawn) {
    if (spawn.same_host) {
      StartProcess(spawn.executor, spawn.binary, spawn.binary.path());
      return;
    }
    const std::string path =
        absl::StrCat(options_.directory, "/packages/", spawn.binary.build_id());
    struct stat info;
    if (stat(path.c_str(), &info) == 0) {
      StartProcess(spawn.executor, spawn.binary, path);
      return;
    }
    // The link's own thread must not wait for a download, nor this one.
    fetchers_.emplace_back([this, executor = spawn.executor, binary = spawn.binary, path] {
      HeadClient head(options_.address);
      absl::Status fetched;
      for (int attempt = 0; attempt < 50; ++attempt) {  // The driver may still be uploading.
        fetched = head.FetchPackage(binary.build_id(), path);
        if (fetched.ok() || !absl::IsNotFound(fetched)) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
      }
      MutexLock lock(&mutex_);
      fetched_.push_back(Fetched{executor, binary, path, fetched});
      reactor_.At(MonotonicNow(), [this] { StartFetched(); });
    });
  }

  struct Fetched {
    ExecutorId executor;
    v1::Binary binary;
    std::string path;
    absl::Status status;
  };
  void StartFetched() {
    std::vector<Fetched> fetched;
    {
      MutexLock lock(&mutex_);
      std::swap(fetched, fetched_);
    }
    for (const Fetched& one : fetched) {
      if (one.status.ok()) {
        StartProcess(one.executor, one.binary, one.path);
      } else {
        Step(ExecutorExited{
            one.executor, absl::StrCat("the program could not be fetched: ", one.status.message()),
            ""});
      }
    }
  }

  void StartProcess(ExecutorId id, const v1::Binary& binary, const std::string& program) {
    ExecutorProcess::Options process;
    process.program = program;
    process.argv.assign(binary.argv().begin(), binary.argv().end());
    process.working_directory = binary.working_directory();
    process.environment = {absl::StrCat("MUSTER_HEAD=", options_.address)};
    process.log_stem = absl::StrCat(options_.directory, "/logs/executor-");
    ExecutorProcess::Callbacks callbacks;
    callbacks.on_message = [this, id](const v1::ExecutorToWorker& message) {
      Step(FromExecutor{id, message});
    };
    callbacks.on_output = [this, id](std::vector<OutputLine> lines) {
      Forward(id, std::move(lines));
    };
    callbacks.on_exit = [this, id](std::string how, std::string last_stderr) {
      processes_.erase(id);
      Step(ExecutorExited{id, std::move(how), std::move(last_stderr)});
    };
    absl::StatusOr<std::unique_ptr<ExecutorProcess>> started =
        ExecutorProcess::Start(reactor_, process, std::move(callbacks));
    if (!started.ok()) {
      // As an event of its own: the core is in the middle of a step.
      Push(ExecutorExited{id, std::string(started.status().message()), ""});
      return;
    }
    processes_.emplace(id, *std::move(started));
  }

  void Forward(ExecutorId id, std::vector<OutputLine> lines) {
    const uint64_t driver = core_->DriverOf(id);
    if (driver == 0) return;  // Of no task: the node's files have it.
    v1::WorkerMessage message;
    v1::LogLines& log = *message.mutable_log();
    log.set_driver(driver);
    const auto process = processes_.find(id);
    for (OutputLine& line : lines) {
      v1::LogLines::Line& out = *log.add_lines();
      out.set_is_stderr(line.is_stderr);
      out.set_task(ToUtf8(line.task));
      out.set_text(ToUtf8(line.text));
      out.set_node(core_->node_name());
      if (process != processes_.end()) out.set_pid(process->second->pid());
    }
    kept_lines_ += static_cast<size_t>(log.lines_size());
    kept_.push_back(std::move(message));
    SendKeptLines();
  }

  void SendKeptLines() {
    if (core_->welcomed()) {
      for (v1::WorkerMessage& message : kept_) link_->Send(std::move(message));
      kept_.clear();
      kept_lines_ = 0;
      return;
    }
    while (kept_lines_ > kLogLinesMax) {
      kept_lines_ -= static_cast<size_t>(kept_.front().log().lines_size());
      kept_.pop_front();
    }
  }

  const WorkerOptions options_;
  Reactor reactor_;
  std::unique_ptr<WorkerCore> core_;
  std::unique_ptr<WorkerLink> link_;
  absl::Time say_down_at_ = absl::InfinitePast();  // The link's callbacks', one at a time.
  bool reconnect_ = false;
  bool joined_ = false;
  std::atomic<bool> leaving_{false};
  std::optional<absl::Status> ended_;
  std::deque<v1::WorkerMessage> kept_;  // Output for a head that is away.
  size_t kept_lines_ = 0;
  std::vector<std::thread> fetchers_;
  std::atomic<bool> watching_{true};
  std::thread watcher_;  // Of GPUs.
  absl::btree_map<ExecutorId, std::unique_ptr<ExecutorProcess>> processes_;

  Mutex mutex_;
  std::deque<decltype(Event::what)> mailbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<Fetched> fetched_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Worker> Worker::Create(const WorkerOptions& options) {
  return std::make_unique<RunningWorker>(options);
}

}  // namespace muster::worker
