#include "runtime/head/head.h"

#include <unistd.h>

#include <atomic>
#include <deque>
#include <functional>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/host_id.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/random.h"
#include "runtime/head/background.h"
#include "runtime/head/head_core.h"
#include "runtime/snapshot/event_recorder.h"
#include "runtime/wire/head_server.h"
#include "runtime/wire/protocol.h"

namespace muster::head {
namespace {

constexpr absl::Duration kStopPatience = absl::Seconds(5);

class RunningHead final : public Head, public HeadListener {
 public:
  explicit RunningHead(const HeadOptions& options) : options_(options) {}

  ~RunningHead() override {
    Stop();
    if (thread_.joinable()) thread_.join();
    background_.Stop();
    recorder_.reset();
    server_.reset();
  }

  absl::Status Listen() {
    HeadServer::Options server;
    server.host = options_.host;
    server.port = options_.port;
    server.package_directory = options_.package_directory;
    absl::StatusOr<std::unique_ptr<HeadServer>> started = HeadServer::Start(server, *this);
    if (!started.ok()) return started.status();
    server_ = *std::move(started);
    HeadConfig config;
    config.head = RandomId();
    config.address = Address();
    config.pid = getpid();
    config.protocol = OurProtocol();
    config.check_peer = [address = config.address](const v1::Protocol& theirs) {
      return CheckPeer(theirs, address);
    };
    config.start = MonotonicNow();
    config.node_timeout = options_.node_timeout;
    config.hierarchy = options_.hierarchy;
    config.placement = options_.placement;
    config.overtaken_max = options_.overtaken_max;
    config.reservation_after = options_.reservation_after;
    config.infeasible_grace = options_.infeasible_grace;
    config.quarantine_grace = options_.quarantine_grace;
    config.waiting_requests_max = options_.waiting_requests_max;
    config.waiting_per_tenant_max = options_.waiting_per_tenant_max;
    config.nodes_max = options_.nodes_max;
    config.decisions_kept = options_.decisions_kept;
    config.decision_detail = options_.decision_detail;
    config.on_event = [this](const sched::Event& event) {
      if (recorder_ != nullptr) recorder_->Record(event);
    };
    config.sharing = options_.sharing;
    config.tenants = options_.tenants;
    config.quotas = options_.quotas;
    core_ = std::make_unique<HeadCore>(config);
    if (!options_.record_events.empty()) {
      absl::StatusOr<std::unique_ptr<snapshot::EventRecorder>> recorder =
          snapshot::EventRecorder::Start(
              {.path = options_.record_events, .bytes_max = options_.record_bytes_max},
              [this] { return core_->TakeSnapshot().snapshot; });
      if (!recorder.ok()) return recorder.status();
      recorder_ = *std::move(recorder);
    }
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  int port() const override { return server_->port(); }

  void WaitUntilStopped() override {
    MutexLock lock(&mutex_);
    while (!over_) changed_.Wait(&mutex_);
  }

  void Stop() override {
    MutexLock lock(&mutex_);
    stop_ = true;
    changed_.SignalAll();
  }

  // On gRPC's threads.
  void OnDriver(ConnectionId connection, v1::DriverBatch batch) override {
    MutexLock lock(&mutex_);
    if (!HasRoom(connection, static_cast<size_t>(batch.messages_size()))) return;
    for (v1::DriverMessage& message : *batch.mutable_messages()) {
      mailbox_.emplace_back(FromDriver{connection, std::move(message)});
    }
    changed_.SignalAll();
  }
  void OnWorker(ConnectionId connection, v1::WorkerBatch batch) override {
    MutexLock lock(&mutex_);
    if (!HasRoom(connection, static_cast<size_t>(batch.messages_size()))) return;
    for (v1::WorkerMessage& message : *batch.mutable_messages()) {
      mailbox_.emplace_back(FromWorker{connection, std::move(message)});
    }
    changed_.SignalAll();
  }
  void OnDriverClosed(ConnectionId connection) override { Push(DriverClosed{connection}); }
  void OnWorkerClosed(ConnectionId connection) override { Push(WorkerClosed{connection}); }

  void OnStatus(v1::StatusRequest request, std::function<void(v1::StatusReply)> reply) override {
    Push([this, peer = request.protocol(), reply = std::move(reply)] {
      if (!Refuses(peer, reply)) reply(core_->Status(MonotonicNow()));
    });
  }
  void OnExplain(v1::ExplainRequest request, std::function<void(v1::ExplainReply)> reply) override {
    Push([this, request = std::move(request), reply = std::move(reply)] {
      if (Refuses(request.protocol(), reply)) return;
      const uint64_t query = ++last_query_;
      answers_[query] = reply;
      Step(Asked{query, request.task_prefix()});
    });
  }
  void OnDecisions(v1::DecisionsRequest request,
                   std::function<void(v1::DecisionsReply)> reply) override {
    Push([this, request = std::move(request), reply = std::move(reply)] {
      if (Refuses(request.protocol(), reply)) return;
      if (request.task_prefix().empty()) {
        Step(Tick{});  // Ages are counted up to now.
        reply(core_->Decisions(request.number(), request.most()));
        return;
      }
      const uint64_t query = ++last_query_;
      answers_[query] = [this, reply](const v1::ExplainReply& explained) {
        reply(core_->DecisionsAbout(explained));
      };
      Step(Asked{query, request.task_prefix()});
    });
  }
  void OnSnapshot(v1::SnapshotRequest request,
                  std::function<void(v1::SnapshotReply)> reply) override {
    Push([this, peer = request.protocol(), reply = std::move(reply)] {
      if (Refuses(peer, reply)) return;
      Step(Tick{});
      // Text takes longer than the copy: the head goes on meanwhile.
      background_.Do([file = core_->TakeSnapshot(), reply] {
        v1::SnapshotReply answer;
        answer.set_json(ToJson(file, snapshot::Style::kLines));
        reply(std::move(answer));
      });
    });
  }
  void OnControl(v1::ControlNodeRequest request,
                 std::function<void(v1::ControlNodeReply)> reply) override {
    Push([this, request = std::move(request), reply = std::move(reply)] {
      if (Refuses(request.protocol(), reply)) return;
      v1::ControlNodeReply answer;
      const absl::Status status = core_->CheckControl(request);
      *answer.mutable_status() = ToProto(status);
      if (status.ok()) {
        Step(NodeControl{request});
        *answer.mutable_node() = core_->NodeStatusOf(request.node(), MonotonicNow());
      }
      reply(std::move(answer));
    });
  }
  void OnSetSharing(v1::SetSharingRequest request,
                    std::function<void(v1::SetSharingReply)> reply) override {
    Push([this, request = std::move(request), reply = std::move(reply)] {
      if (Refuses(request.protocol(), reply)) return;
      v1::SetSharingReply answer;
      const absl::Status status = core_->CheckSharing(request);
      if (status.ok()) {
        Step(SharingControl{request});
        answer = core_->SharingAfter(request);
      }
      *answer.mutable_status() = ToProto(status);
      reply(std::move(answer));
    });
  }
  void OnStop(v1::StopRequest request, std::function<void(v1::StopReply)> reply) override {
    Push([this, peer = request.protocol(), reply = std::move(reply)] {
      if (Refuses(peer, reply)) return;
      v1::StopReply stopping;
      stopping.add_pids(getpid());
      const v1::StatusReply status = core_->Status(MonotonicNow());
      for (const v1::NodeStatus& node : status.nodes()) {
        if (node.state() != "lost" && node.host_id() == HostId()) stopping.add_pids(node.pid());
      }
      reply(std::move(stopping));
      Log(LogLevel::kInfo, "asked to stop the cluster");
      stop_by_ = MonotonicNow() + kStopPatience;
      Step(StopAsked{});
    });
  }

 private:
  using Call = std::function<void()>;  // On the head's thread.
  using Mail = std::variant<FromDriver, DriverClosed, FromWorker, WorkerClosed, Call>;

  std::string Address() const { return absl::StrCat(options_.host, ":", server_->port()); }

  // Whether it is refused for its protocol or token; then it has its answer.
  template <typename Reply>
  bool Refuses(const v1::Protocol& peer, const std::function<void(Reply)>& reply) const {
    const absl::Status status = CheckPeer(peer, Address());
    if (status.ok()) return false;
    Reply refused;
    *refused.mutable_refused() = ToProto(status);
    reply(std::move(refused));
    return true;
  }

  bool HasRoom(ConnectionId connection, size_t messages) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (mailbox_.size() + messages <= options_.mailbox_max) return true;
    Log(LogLevel::kWarning, "the head's mailbox is full (", mailbox_.size(),
        " messages): a connection is closed, and will come back");
    server_->Close(connection);
    return false;
  }

  void Push(Mail mail) {
    MutexLock lock(&mutex_);
    mailbox_.push_back(std::move(mail));
    changed_.SignalAll();
  }

  void Run() {
    std::deque<Mail> mails;
    while (true) {
      const absl::Time next = std::min(core_->NextTick(), stop_by_);
      {
        MutexLock lock(&mutex_);
        while (mailbox_.empty() && !stop_ && MonotonicNow() < next) {
          changed_.WaitFor(&mutex_, next - MonotonicNow());
        }
        if (stop_) break;
        std::swap(mails, mailbox_);
      }
      for (Mail& mail : mails) Handle(mail);
      mails.clear();
      if (MonotonicNow() >= core_->NextTick()) Step(Tick{});
      if (stop_by_ != absl::InfiniteFuture() &&
          (core_->AllWorkersGone() || MonotonicNow() >= stop_by_))
        break;
    }
    MutexLock lock(&mutex_);
    over_ = true;
    changed_.SignalAll();
  }

  void Handle(Mail& mail) {
    if (const Call* call = std::get_if<Call>(&mail)) {
      (*call)();
    } else if (FromDriver* driver = std::get_if<FromDriver>(&mail)) {
      Step(std::move(*driver));
    } else if (FromWorker* worker = std::get_if<FromWorker>(&mail)) {
      Step(std::move(*worker));
    } else if (const DriverClosed* driver_closed = std::get_if<DriverClosed>(&mail)) {
      Step(*driver_closed);
    } else if (const WorkerClosed* worker_closed = std::get_if<WorkerClosed>(&mail)) {
      Step(*worker_closed);
    }
  }

  template <typename What>
  void Step(What what) {
    Event event;
    event.at = MonotonicNow();
    event.what = std::move(what);
    std::vector<Action> actions;
    core_->Step(event, actions);
    for (Action& action : actions) std::visit([this](auto& done) { Do(done); }, action);
  }

  void Do(ToDriver& to) { server_->SendToDriver(to.connection, std::move(to.message)); }
  void Do(ToWorker& to) { server_->SendToWorker(to.connection, std::move(to.message)); }
  void Do(const CloseConnection& close) { server_->Close(close.connection); }
  void Do(Answer& answer) {
    const auto asker = answers_.find(answer.query);
    if (asker == answers_.end()) return;
    asker->second(std::move(answer.reply));
    answers_.erase(asker);
  }
  void Do(const Say& say) { Log(say.warning ? LogLevel::kWarning : LogLevel::kInfo, say.text); }

  const HeadOptions options_;
  std::unique_ptr<HeadServer> server_;
  std::unique_ptr<HeadCore> core_;  // The head's thread's, once it runs.
  std::unique_ptr<snapshot::EventRecorder> recorder_;
  Background background_;
  absl::Time stop_by_ = absl::InfiniteFuture();
  uint64_t last_query_ = 0;
  absl::btree_map<uint64_t, std::function<void(v1::ExplainReply)>> answers_;
  std::thread thread_;

  Mutex mutex_;
  CondVar changed_;
  std::deque<Mail> mailbox_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Head>> Head::Start(const HeadOptions& options) {
  auto head = std::make_unique<RunningHead>(options);
  if (absl::Status status = head->Listen(); !status.ok()) return status;
  return head;
}

}  // namespace muster::head
