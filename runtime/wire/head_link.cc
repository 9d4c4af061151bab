#include "runtime/wire/head_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "muster/v1/cluster.grpc.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "runtime/wire/batch_queue.h"
#include "runtime/wire/grpc_log.h"
#include "runtime/wire/package_file.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/status_macros.h"

namespace muster {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(50);
constexpr absl::Duration kLongestBackoff = absl::Seconds(1);
constexpr absl::Duration kAnswerWithin = absl::Seconds(5);
constexpr absl::Duration kSnapshotWithin = absl::Minutes(1);
constexpr size_t kUnsentBytesMax = size_t{256} << 20;
constexpr absl::Duration kPackageTimeout = absl::Minutes(10);  // From the first byte to the last.
constexpr absl::Duration kPackageRetryFor = absl::Seconds(10);

// A channel is used for one attempt only: its own memory of failures would delay the next one.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address,
                                          int receive_bytes_max = kLinkMessageBytesMax) {
  RouteGrpcLog();
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);  // How long one connect may take.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 15'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 15'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetMaxReceiveMessageSize(receive_bytes_max);
  arguments.SetMaxSendMessageSize(kLinkMessageBytesMax);
  return grpc::CreateCustomChannel(absl::StrCat("dns:///", address),
                                   grpc::InsecureChannelCredentials(), arguments);
}

std::string InSeconds(absl::Duration duration) {
  if (duration < absl::Seconds(1)) return absl::FormatDuration(duration);
  return absl::StrCat(absl::ToInt64Seconds(duration), " s");
}

// In words: gRPC's own texts are nested lists of everything it tried.
std::string CauseOf(const grpc::Status& status) {
  if (status.ok()) return "it closed the connection";
  const std::string text = absl::AsciiStrToLower(status.error_message());
  struct Known {
    absl::string_view part;
    absl::string_view cause;
  };
  static constexpr Known kKnown[] = {
      {"connection refused", "connection refused"},
      {"no route to host", "no route to host"},
      {"network is unreachable", "network is unreachable"},
      {"timed out", "timed out"},
      {"timeout occurred", "timed out"},
      {"keepalive watchdog", "it does not answer"},
      {"ping timeout", "it does not answer"},
      {"dns resolution failed", "name not resolved"},
      {"domain name not found", "name not resolved"},
      {"name resolution", "name not resolved"},
      {"connection reset", "it closed the connection"},
      {"socket closed", "it closed the connection"},
      {"goaway", "it closed the connection"},
      {"broken pipe", "it closed the connection"},
      {"server shutdown", "it is ending"},
      {"trying to connect an http1.x server", "that is another kind of server"},
      {"settings frame", "that is another kind of server"},
  };
  for (const Known& known : kKnown) {
    if (absl::StrContains(text, known.part)) return std::string(known.cause);
  }
  return status.error_message().empty() ? "it does not answer" : status.error_message();
}

bool CouldNotConnect(const grpc::Status& status) {
  const std::string text = absl::AsciiStrToLower(status.error_message());
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         (absl::StrContains(text, "failed to connect") || absl::StrContains(text, "resolution") ||
          absl::StrContains(text, "name not found"));
}

template <typename Out, typename OutBatch, typename InBatch>
class Link final : public HeadLink<Out, InBatch> {
 public:
  using Callbacks = typename HeadLink<Out, InBatch>::Callbacks;
  using Reactor = grpc::ClientBidiReactor<OutBatch, InBatch>;
  // Begins the call on the stub.
  using Begin = void (*)(v1::Head::Stub& stub, grpc::ClientContext* context, Reactor* reactor);

  Link(std::string address, Callbacks callbacks, Begin begin)
      : address_(std::move(address)),
        callbacks_(std::move(callbacks)),
        begin_(begin),
        thread_([this] { Run(); }) {}
  ~Link() override { Stop(absl::ZeroDuration()); }

  void Send(Out message) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Stop(absl::Duration flush_for) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Attempt;

  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<Attempt> Current() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return attempt_;
  }
  void AttemptDone(const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    done_ = status;
    changed_.SignalAll();
  }

  const std::string address_;
  const Callbacks callbacks_;
  const Begin begin_;

  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<Attempt> attempt_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> done_ ABSL_GUARDED_BY(mutex_);  // Of attempt_.
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool joined_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// One connection. gRPC calls the On...() methods; no call of ours into gRPC is made under the lock.
template <typename Out, typename OutBatch, typename InBatch>
class Link<Out, OutBatch, InBatch>::Attempt final
    : public Reactor,
      public std::enable_shared_from_this<Link<Out, OutBatch, InBatch>::Attempt> {
 public:
  explicit Attempt(Link& link) : link_(link), stub_(v1::Head::NewStub(NewChannel(link.address_))) {}

  void Start() {
    link_.begin_(*stub_, &context_, this);
    this->AddHold();  // Until the last read is over and no write is in flight: others start writes.
    this->StartCall();
  }

  void Send(Out message) ABSL_LOCKS_EXCLUDED(mutex_) {
    bool overflow = false;
    {
      MutexLock lock(&mutex_);
      if (!up_ || ended_ || closing_) return;
      if (replaying_on_.has_value() && *replaying_on_ != std::this_thread::get_id()) {
        held_.push_back(std::move(message));
        return;
      }
      out_.Push(std::move(message));
      overflow = out_.bytes() > kUnsentBytesMax;
      if (overflow) why_ = "it does not read what is sent";
    }
    if (overflow) {
      context_.TryCancel();
    } else {
      Proceed();
    }
  }

  // Half-closes once all is written.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    bool connecting = false;
    {
      MutexLock lock(&mutex_);
      closing_ = true;
      connecting = !up_;
    }
    if (connecting) return Cancel();
    Proceed();
  }
  void Cancel() { context_.TryCancel(); }

  bool was_up() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return up_;
  }
  // Why we ended it ourselves; empty: we did not.
  std::string why() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return why_;
  }

  void OnReadInitialMetadataDone(bool ok) override {
    if (!ok) return End();
    {
      MutexLock lock(&mutex_);
      if (closing_) {
        context_.TryCancel();
      } else {
        up_ = true;
        replaying_on_ = std::this_thread::get_id();
      }
    }
    if (was_up()) {
      link_.callbacks_.on_up();
      MutexLock lock(&mutex_);
      replaying_on_.reset();
      for (Out& message : held_) out_.Push(std::move(message));
      held_.clear();
    }
    Proceed();
    this->StartRead(&reading_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End();
    InBatch batch = std::exchange(reading_, InBatch());
    link_.callbacks_.on_batch(std::move(batch));
    this->StartRead(&reading_);
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      write_in_flight_ = false;
      out_.Written();
      if (!ok) out_.Clear();  // The read fails too, and ends it.
    }
    Proceed();
  }
  void OnWritesDoneDone(bool) override {
    {
      MutexLock lock(&mutex_);
      write_in_flight_ = false;
    }
    Proceed();
  }

  void OnDone(const grpc::Status& status) override { link_.AttemptDone(status); }

 private:
  void End() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      ended_ = true;
      out_.Clear();
    }
    Proceed();
  }

  void Proceed() ABSL_LOCKS_EXCLUDED(mutex_) {
    enum class Next { kWrite, kWritesDone, kRemoveHold };
    Next next = Next::kWrite;
    {
      MutexLock lock(&mutex_);
      if (write_in_flight_ || hold_removed_) return;
      if (ended_) {
        next = Next::kRemoveHold;
        hold_removed_ = true;
      } else if (!out_.empty()) {
        write_in_flight_ = true;
        writing_ = out_.Pop();
      } else if (closing_ && !writes_done_ && !replaying_on_.has_value()) {
        next = Next::kWritesDone;
        write_in_flight_ = true;
        writes_done_ = true;
      } else {
        return;
      }
    }
    switch (next) {
      case Next::kWrite:
        return this->StartWrite(&writing_);
      case Next::kWritesDone:
        return this->StartWritesDone();
      case Next::kRemoveHold:
        return this->RemoveHold();
    }
  }

  Link& link_;
  const std::unique_ptr<v1::Head::Stub> stub_;
  grpc::ClientContext context_;
  InBatch reading_;
  OutBatch writing_;  // Untouched while write_in_flight_.

  mutable Mutex mutex_;
  BatchQueue<OutBatch> out_ ABSL_GUARDED_BY(mutex_);
  bool up_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  bool writes_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool hold_removed_ ABSL_GUARDED_BY(mutex_) = false;
  std::string why_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::thread::id> replaying_on_ ABSL_GUARDED_BY(mutex_);
  std::vector<Out> held_ ABSL_GUARDED_BY(mutex_);
};

template <typename Out, typename OutBatch, typename InBatch>
void Link<Out, OutBatch, InBatch>::Send(Out message) {
  if (const std::shared_ptr<Attempt> attempt = Current()) attempt->Send(std::move(message));
}

template <typename Out, typename OutBatch, typename InBatch>
void Link<Out, OutBatch, InBatch>::Run() {
  absl::Duration backoff = kFirstBackoff;
  for (;;) {
    auto attempt = std::make_shared<Attempt>(*this);
    grpc::Status status;
    {
      MutexLock lock(&mutex_);
      if (stopping_) return;
      attempt_ = attempt;
      done_.reset();
    }
    attempt->Start();
    {
      MutexLock lock(&mutex_);
      while (!done_.has_value()) changed_.Wait(&mutex_);
      status = *done_;
      attempt_.reset();
      if (stopping_) return;
    }
    const bool was_up = attempt->was_up();
    const std::string cause = attempt->why().empty() ? CauseOf(status) : attempt->why();
    attempt.reset();
    callbacks_.on_down(absl::UnavailableError(
        absl::StrCat(was_up ? "lost the head at " : "no muster head at ", address_, ": ", cause)));
    if (was_up) backoff = kFirstBackoff;
    MutexLock lock(&mutex_);
    const absl::Time until = MonotonicNow() + backoff;
    while (!stopping_ && MonotonicNow() < until) changed_.WaitFor(&mutex_, until - MonotonicNow());
    if (stopping_) return;
    backoff = std::min(2 * backoff, kLongestBackoff);
  }
}

template <typename Out, typename OutBatch, typename InBatch>
void Link<Out, OutBatch, InBatch>::Stop(absl::Duration flush_for) {
  std::shared_ptr<Attempt> attempt;
  {
    MutexLock lock(&mutex_);
    if (std::exchange(stopping_, true)) {
      while (!joined_) changed_.Wait(&mutex_);
      return;
    }
    attempt = attempt_;
    changed_.SignalAll();
  }
  if (attempt != nullptr) {
    attempt->Close();
    bool over = false;
    {
      const absl::Time until = MonotonicNow() + flush_for;
      MutexLock lock(&mutex_);
      while (!done_.has_value() && MonotonicNow() < until) {
        changed_.WaitFor(&mutex_, until - MonotonicNow());
      }
      over = done_.has_value();
    }
    if (!over) attempt->Cancel();
  }
  thread_.join();
  MutexLock lock(&mutex_);
  joined_ = true;
  changed_.SignalAll();
}

}  // namespace

std::unique_ptr<DriverLink> ConnectDriver(const std::string& address,
                                          DriverLink::Callbacks callbacks) {
  using DriverLinkImpl = Link<v1::DriverMessage, v1::DriverBatch, v1::ToDriverBatch>;
  return std::make_unique<DriverLinkImpl>(
      address, std::move(callbacks),
      [](v1::Head::Stub& stub, grpc::ClientContext* context, DriverLinkImpl::Reactor* reactor) {
        stub.async()->ConnectDriver(context, reactor);
      });
}

std::unique_ptr<WorkerLink> ConnectWorker(const std::string& address,
                                          WorkerLink::Callbacks callbacks) {
  using WorkerLinkImpl = Link<v1::WorkerMessage, v1::WorkerBatch, v1::ToWorkerBatch>;
  return std::make_unique<WorkerLinkImpl>(
      address, std::move(callbacks),
      [](v1::Head::Stub& stub, grpc::ClientContext* context, WorkerLinkImpl::Reactor* reactor) {
        stub.async()->ConnectWorker(context, reactor);
      });
}

class HeadClient::Impl {
 public:
  explicit Impl(std::string address) : address_(std::move(address)) {}

  struct How {
    absl::Duration retry_for;  // While no head answers.
    absl::Duration answer_within;
    bool again = true;  // A call that was cut off may be repeated.
  };
  // A head that is there may be busy: it has longer to answer than people want to wait for none.
  static How Question(absl::Duration timeout) {
    return {timeout, std::max(timeout, kAnswerWithin)};
  }

  absl::Status Call(
      const How& how,
      absl::FunctionRef<grpc::Status(v1::Head::Stub&, grpc::ClientContext&)> call) const;
  const std::string& address() const { return address_; }

 private:
  const std::string address_;
};

absl::Status HeadClient::Impl::Call(
    const How& how,
    absl::FunctionRef<grpc::Status(v1::Head::Stub&, grpc::ClientContext&)> call) const {
  const absl::Time start = MonotonicNow();
  absl::Duration backoff = kFirstBackoff;
  std::string cause;
  do {
    const std::unique_ptr<v1::Head::Stub> stub = v1::Head::NewStub(
        NewChannel(address_, /*receive_bytes_max=*/-1));  // A snapshot may be large.
    grpc::ClientContext context;
    context.set_deadline(
        absl::ToChronoTime(absl::Now() + how.answer_within - (MonotonicNow() - start)));
    const grpc::Status status = call(*stub, context);
    if (status.ok()) return absl::OkStatus();
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      if (cause.empty()) cause = "it does not answer";
      break;
    }
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.error_message());
    }
    cause = CauseOf(status);
    if (!how.again && !CouldNotConnect(status)) {
      return absl::UnavailableError(
          absl::StrCat("the head at ", address_, " did not answer: ", cause));
    }
    const absl::Duration left = how.retry_for - (MonotonicNow() - start);
    absl::SleepFor(std::min(backoff, left));
    backoff = std::min(2 * backoff, kLongestBackoff);
  } while (MonotonicNow() - start < how.retry_for);
  return absl::UnavailableError(absl::StrCat("no muster head at ", address_, ": ", cause,
                                             " (tried for ", InSeconds(MonotonicNow() - start),
                                             "). Start one with: muster head"));
}

HeadClient::HeadClient(std::string address) : impl_(std::make_unique<Impl>(std::move(address))) {}
HeadClient::~HeadClient() = default;

absl::StatusOr<v1::StatusReply> HeadClient::GetStatus(absl::Duration timeout) {
  v1::StatusRequest request;
  *request.mutable_protocol() = OurProtocol();
  v1::StatusReply reply;
  MUSTER_RETURN_IF_ERROR(impl_->Call(Impl::Question(timeout), [&](auto& stub, auto& context) {
    return stub.GetStatus(&context, request, &reply);
  }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return reply;
}

absl::StatusOr<v1::ExplainReply> HeadClient::Explain(const std::string& task_prefix,
                                                     absl::Duration timeout) {
  v1::ExplainRequest request;
  *request.mutable_protocol() = OurProtocol();
  request.set_task_prefix(ToUtf8(task_prefix));
  v1::ExplainReply reply;
  MUSTER_RETURN_IF_ERROR(impl_->Call(Impl::Question(timeout), [&](auto& stub, auto& context) {
    return stub.Explain(&context, request, &reply);
  }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return reply;
}

absl::StatusOr<v1::DecisionsReply> HeadClient::GetDecisions(uint64_t number,
                                                            const std::string& task_prefix,
                                                            int most, absl::Duration timeout) {
  v1::DecisionsRequest request;
  *request.mutable_protocol() = OurProtocol();
  request.set_number(number);
  request.set_task_prefix(ToUtf8(task_prefix));
  request.set_most(static_cast<uint32_t>(most));
  v1::DecisionsReply reply;
  MUSTER_RETURN_IF_ERROR(impl_->Call(Impl::Question(timeout), [&](auto& stub, auto& context) {
    return stub.GetDecisions(&context, request, &reply);
  }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return reply;
}

absl::StatusOr<v1::ControlNodeReply> HeadClient::ControlNode(v1::ControlNodeRequest request,
                                                             absl::Duration timeout) {
  *request.mutable_protocol() = OurProtocol();
  v1::ControlNodeReply reply;
  MUSTER_RETURN_IF_ERROR(impl_->Call(Impl::Question(timeout), [&](auto& stub, auto& context) {
    return stub.ControlNode(&context, request, &reply);
  }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return reply;
}

absl::StatusOr<v1::SetSharingReply> HeadClient::SetSharing(v1::SetSharingRequest request,
                                                           absl::Duration timeout) {
  *request.mutable_protocol() = OurProtocol();
  v1::SetSharingReply reply;
  MUSTER_RETURN_IF_ERROR(impl_->Call(Impl::Question(timeout), [&](auto& stub, auto& context) {
    return stub.SetSharing(&context, request, &reply);
  }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return reply;
}

absl::StatusOr<std::string> HeadClient::GetSnapshot(absl::Duration timeout) {
  v1::SnapshotRequest request;
  *request.mutable_protocol() = OurProtocol();
  v1::SnapshotReply reply;
  MUSTER_RETURN_IF_ERROR(impl_->Call({timeout, kSnapshotWithin}, [&](auto& stub, auto& context) {
    return stub.GetSnapshot(&context, request, &reply);
  }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return std::move(*reply.mutable_json());
}

absl::StatusOr<v1::StopReply> HeadClient::Stop(absl::Duration timeout) {
  v1::StopRequest request;
  *request.mutable_protocol() = OurProtocol();
  v1::StopReply reply;
  MUSTER_RETURN_IF_ERROR(
      impl_->Call({timeout, std::max(timeout, kAnswerWithin), false},
                  [&](auto& stub, auto& context) { return stub.Stop(&context, request, &reply); }));
  MUSTER_RETURN_IF_ERROR(FromProto(reply.refused()));
  return reply;
}

absl::Status HeadClient::UploadPackage(const std::string& build_id, const std::string& path) {
  MUSTER_RETURN_IF_ERROR(CheckBuildId(build_id));
  v1::PackageReply reply;
  absl::Status read;
  MUSTER_RETURN_IF_ERROR(
      impl_->Call({kPackageRetryFor, kPackageTimeout}, [&](auto& stub, auto& context) {
        const auto writer = stub.UploadPackage(&context, &reply);
        bool first = true;
        read = ReadPackage(path, [&](PackagePiece piece) {
          v1::PackageChunk chunk;
          if (std::exchange(first, false)) {
            *chunk.mutable_protocol() = OurProtocol();
            chunk.set_build_id(build_id);
            chunk.set_size_bytes(piece.size_bytes);
          }
          chunk.set_data(std::move(piece.data));
          chunk.set_sha256(std::move(piece.sha256));
          return writer->Write(chunk);  // False: the head has answered already.
        });
        if (!read.ok()) context.TryCancel();
        writer->WritesDone();
        const grpc::Status status = writer->Finish();
        return read.ok() ? status : grpc::Status::OK;
      }));
  MUSTER_RETURN_IF_ERROR(read);
  return FromProto(reply.status());
}

absl::Status HeadClient::FetchPackage(const std::string& build_id, const std::string& path) {
  MUSTER_RETURN_IF_ERROR(CheckBuildId(build_id));
  v1::PackageRequest request;
  *request.mutable_protocol() = OurProtocol();
  request.set_build_id(build_id);
  absl::Status received;
  MUSTER_RETURN_IF_ERROR(
      impl_->Call({kPackageRetryFor, kPackageTimeout}, [&](auto& stub, auto& context) {
        std::optional<PackageWriter> file;
        std::string sha256;
        received = absl::OkStatus();
        const auto receive = [&](const v1::PackageChunk& chunk) -> absl::Status {
          if (!file.has_value()) {
            MUSTER_ASSIGN_OR_RETURN(PackageWriter created,
                                    PackageWriter::Create(path, chunk.size_bytes()));
            file.emplace(std::move(created));
          }
          sha256 = chunk.sha256();
          return file->Append(chunk.data());
        };
        const auto reader = stub.FetchPackage(&context, request);
        v1::PackageChunk chunk;
        while (received.ok() && reader->Read(&chunk)) received = receive(chunk);
        if (!received.ok()) context.TryCancel();
        const grpc::Status status = reader->Finish();
        if (!received.ok()) return grpc::Status::OK;
        if (!status.ok()) return status;
        received = file.has_value() ? file->Finish(sha256)
                                    : absl::DataLossError(absl::StrCat(path, " did not come"));
        return grpc::Status::OK;
      }));
  return received;
}

}  // namespace muster
