#include "runtime/wire/head_server.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "muster/v1/cluster.grpc.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/reactor.h"
#include "runtime/wire/batch_queue.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/wire/gate.h"
#include "runtime/wire/grpc_log.h"
#include "runtime/wire/package_file.h"
#include "runtime/wire/protocol.h"
#include "scheduler/base/status_macros.h"

namespace muster {
namespace {

constexpr absl::Duration kFlushWithin = absl::Milliseconds(400);
constexpr absl::Duration kEndWithin = absl::Milliseconds(300);

// One driver's or worker's stream. gRPC calls the On...() methods, never two of one kind at once;
// no call of ours into gRPC is made under the lock.
template <typename InBatch, typename OutBatch>
class Stream final : public grpc::ServerBidiReactor<InBatch, OutBatch>,
                     public std::enable_shared_from_this<Stream<InBatch, OutBatch>> {
 public:
  struct Events {
    std::function<void(InBatch batch)> on_batch;
    std::function<void(bool delivered)> on_done;  // The stream has ended; it may be forgotten.
  };

  Stream(grpc::CallbackServerContext* context, std::string name, size_t unsent_bytes_max)
      : context_(context), name_(std::move(name)), unsent_bytes_max_(unsent_bytes_max) {}

  // Lives until on_done at least.
  void Begin(Events events) {
    events_ = std::move(events);
    self_ = this->shared_from_this();
    this->StartSendInitialMetadata();
    this->StartRead(&reading_);
  }

  template <typename Message>
  void Send(Message message) ABSL_LOCKS_EXCLUDED(mutex_) {
    bool overflow = false;
    {
      MutexLock lock(&mutex_);
      if (ending_ || broken_) return;
      out_.Push(std::move(message));
      overflow = out_.bytes() > unsent_bytes_max_;
    }
    if (overflow) {
      Break(absl::StrCat("it does not read: more than ", unsent_bytes_max_, " bytes wait for it"));
    } else {
      Proceed();
    }
  }

  // Ends the stream once what was sent is written.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      ending_ = true;
    }
    Proceed();
  }

  // Ends the stream now.
  void Break(absl::string_view why) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      if (broken_ || finished_) return;
      broken_ = true;
      out_.Clear();
      context_->TryCancel();
    }
    Log(LogLevel::kWarning, "closed ", name_, ": ", why);
    Proceed();
  }

  bool delivered() const { return delivered_.load(); }

  void OnReadDone(bool ok) override {
    if (!ok) {  // The peer is done or gone; what is queued for it may still be written.
      Close();
      return;
    }
    delivered_ = true;
    InBatch batch = std::exchange(reading_, InBatch());
    events_.on_batch(std::move(batch));
    this->StartRead(&reading_);
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      write_in_flight_ = false;
      out_.Written();
      if (!ok) {
        broken_ = true;
        out_.Clear();
      }
    }
    Proceed();
  }

  void OnCancel() override {
    bool by_peer = false;
    {
      MutexLock lock(&mutex_);
      by_peer = !broken_ && !ending_;
      broken_ = true;
      out_.Clear();
    }
    if (by_peer) Log(LogLevel::kInfo, name_, " broke off");
    Proceed();
  }

  void OnDone() override {
    const std::shared_ptr<Stream> self = std::move(self_);
    const Events events = std::move(events_);
    events.on_done(delivered());
  }

 private:
  // Writes the next batch, or finishes.
  void Proceed() ABSL_LOCKS_EXCLUDED(mutex_) {
    bool finish = false;
    {
      MutexLock lock(&mutex_);
      if (write_in_flight_ || finished_) return;
      if (!broken_ && !out_.empty()) {
        write_in_flight_ = true;
        writing_ = out_.Pop();
      } else if (broken_ || ending_) {
        finish = true;
        finished_ = true;
      } else {
        return;
      }
    }
    if (finish) {
      this->Finish(grpc::Status::OK);
    } else {
      this->StartWrite(&writing_);
    }
  }

  grpc::CallbackServerContext* const context_;
  const std::string name_;
  const size_t unsent_bytes_max_;
  Events events_;
  std::shared_ptr<Stream> self_;
  InBatch reading_;
  OutBatch writing_;  // Untouched while write_in_flight_.
  std::atomic<bool> delivered_{false};

  Mutex mutex_;
  BatchQueue<OutBatch> out_ ABSL_GUARDED_BY(mutex_);
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};
using DriverStream = Stream<v1::DriverBatch, v1::ToDriverBatch>;
using WorkerStream = Stream<v1::WorkerBatch, v1::ToWorkerBatch>;

// A unary call that waits for the listener's answer.
class PendingCall {
 public:
  explicit PendingCall(grpc::ServerUnaryReactor* reactor) : reactor_(reactor) {}
  ~PendingCall() { Refuse(); }

  // The first to come answers; `answer` writes the reply.
  void Answer(absl::FunctionRef<void()> answer) {
    if (answered_.exchange(true)) return;
    answer();
    reactor_->Finish(grpc::Status::OK);
  }
  void Refuse() {
    if (answered_.exchange(true)) return;
    reactor_->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the head is ending"));
  }

 private:
  grpc::ServerUnaryReactor* const reactor_;
  std::atomic<bool> answered_{false};
};

// The calls that wait, so that none outlives the server. Kept alive by the calls themselves.
class PendingCalls : public std::enable_shared_from_this<PendingCalls> {
 public:
  std::shared_ptr<PendingCall> Add(grpc::ServerUnaryReactor* reactor) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::shared_ptr<PendingCall> call(new PendingCall(reactor),
                                      [self = shared_from_this()](PendingCall* ended) {
                                        self->Remove(ended);
                                        delete ended;
                                      });
    MutexLock lock(&mutex_);
    calls_.emplace(call.get(), call);
    if (ended_) call->Refuse();
    return call;
  }
  void End() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::shared_ptr<PendingCall>> calls;  // Freed without the lock.
    MutexLock lock(&mutex_);
    ended_ = true;
    for (const auto& [key, weak] : calls_) {
      if (std::shared_ptr<PendingCall> call = weak.lock()) calls.push_back(std::move(call));
    }
    for (const auto& call : calls) call->Refuse();
  }

 private:
  void Remove(PendingCall* call) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    calls_.erase(call);
  }

  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<PendingCall*, std::weak_ptr<PendingCall>> calls_ ABSL_GUARDED_BY(mutex_);
};

// Packages are read and written in the calls' own threads, which may wait for the disk; all else by
// callbacks.
using Service =
    v1::Head::WithCallbackMethod_ConnectDriver<v1::Head::WithCallbackMethod_ConnectWorker<
        v1::Head::WithCallbackMethod_GetStatus<v1::Head::WithCallbackMethod_Explain<
            v1::Head::WithCallbackMethod_GetDecisions<v1::Head::WithCallbackMethod_GetSnapshot<
                v1::Head::WithCallbackMethod_Stop<v1::Head::WithCallbackMethod_ControlNode<
                    v1::Head::WithCallbackMethod_SetSharing<v1::Head::Service>>>>>>>>>;

class HeadServerImpl final : public HeadServer, public Service {
 public:
  HeadServerImpl(const Options& options, HeadListener& listener)
      : options_(options), listener_(listener), reactor_({.background_thread = true}) {}
  ~HeadServerImpl() override;

  absl::Status Listen();

  int port() const override { return port_; }
  void SendToDriver(ConnectionId connection, v1::ToDriver message) override {
    if (const auto stream = Find(drivers_, connection)) stream->Send(std::move(message));
  }
  void SendToWorker(ConnectionId connection, v1::ToWorker message) override {
    if (const auto stream = Find(workers_, connection)) stream->Send(std::move(message));
  }
  void Close(ConnectionId connection) override {
    if (const auto stream = Find(drivers_, connection)) stream->Close();
    if (const auto stream = Find(workers_, connection)) stream->Close();
  }
  bool HasPackage(const std::string& build_id) const override {
    return CheckBuildId(build_id).ok() && !options_.package_directory.empty() &&
           access(PackagePath(build_id).c_str(), R_OK) == 0;
  }

  grpc::ServerBidiReactor<v1::DriverBatch, v1::ToDriverBatch>* ConnectDriver(
      grpc::CallbackServerContext* context) override {
    return Open(context, "the driver", drivers_, &HeadListener::OnDriver,
                &HeadListener::OnDriverClosed);
  }
  grpc::ServerBidiReactor<v1::WorkerBatch, v1::ToWorkerBatch>* ConnectWorker(
      grpc::CallbackServerContext* context) override {
    return Open(context, "the worker", workers_, &HeadListener::OnWorker,
                &HeadListener::OnWorkerClosed);
  }
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::StatusRequest* request,
                                      v1::StatusReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnStatus);
  }
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context,
                                    const v1::ExplainRequest* request,
                                    v1::ExplainReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnExplain);
  }
  grpc::ServerUnaryReactor* ControlNode(grpc::CallbackServerContext* context,
                                        const v1::ControlNodeRequest* request,
                                        v1::ControlNodeReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnControl);
  }
  grpc::ServerUnaryReactor* SetSharing(grpc::CallbackServerContext* context,
                                       const v1::SetSharingRequest* request,
                                       v1::SetSharingReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnSetSharing);
  }
  grpc::ServerUnaryReactor* GetDecisions(grpc::CallbackServerContext* context,
                                         const v1::DecisionsRequest* request,
                                         v1::DecisionsReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnDecisions);
  }
  grpc::ServerUnaryReactor* GetSnapshot(grpc::CallbackServerContext* context,
                                        const v1::SnapshotRequest* request,
                                        v1::SnapshotReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnSnapshot);
  }
  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const v1::StopRequest* request, v1::StopReply* reply) override {
    return Ask(context, *request, reply, &HeadListener::OnStop);
  }
  grpc::Status UploadPackage(grpc::ServerContext* context,
                             grpc::ServerReader<v1::PackageChunk>* reader,
                             v1::PackageReply* reply) override;
  grpc::Status FetchPackage(grpc::ServerContext* context, const v1::PackageRequest* request,
                            grpc::ServerWriter<v1::PackageChunk>* writer) override;

 private:
  template <typename S>
  using Streams = absl::flat_hash_map<ConnectionId, std::shared_ptr<S>>;

  template <typename S>
  std::shared_ptr<S> Find(const Streams<S>& streams, ConnectionId connection)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    const auto it = streams.find(connection);
    return it == streams.end() ? nullptr : it->second;
  }

  template <typename InBatch, typename OutBatch>
  grpc::ServerBidiReactor<InBatch, OutBatch>* Open(grpc::CallbackServerContext* context,
                                                   absl::string_view kind,
                                                   Streams<Stream<InBatch, OutBatch>>& streams,
                                                   void (HeadListener::*on_batch)(ConnectionId,
                                                                                  InBatch),
                                                   void (HeadListener::*on_closed)(ConnectionId))
      ABSL_LOCKS_EXCLUDED(mutex_);

  template <typename Request, typename Reply>
  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext* context, const Request& request,
                                Reply* reply,
                                void (HeadListener::*ask)(Request, std::function<void(Reply)>))
      ABSL_LOCKS_EXCLUDED(mutex_);

  bool HasStreams() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !drivers_.empty() || !workers_.empty();
  }
  void AwaitStreams(absl::Duration longest) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Receive(grpc::ServerReader<v1::PackageChunk>& reader);
  absl::Status CheckPackages() const;
  std::string PackagePath(const std::string& build_id) const {
    return absl::StrCat(options_.package_directory, "/", build_id);
  }
  std::string OurName() const { return absl::StrCat("the head at ", options_.host, ":", port_); }

  const Options options_;
  HeadListener& listener_;
  Reactor reactor_;
  int port_ = 0;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Gate> gate_;

  Mutex mutex_;
  CondVar stream_ended_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  ConnectionId last_connection_ ABSL_GUARDED_BY(mutex_) = 0;
  // Looked at under the lock only; passed to Find() and Open() by reference.
  Streams<DriverStream> drivers_;
  Streams<WorkerStream> workers_;
  const std::shared_ptr<PendingCalls> calls_ = std::make_shared<PendingCalls>();
};

absl::Status HeadServerImpl::Listen() {
  RouteGrpcLog();
  if (!options_.package_directory.empty()) {
    MUSTER_RETURN_IF_ERROR(PreparePackageDirectory(options_.package_directory));
  }
  absl::StatusOr<TcpListener> listener = ListenTcp(options_.host, options_.port);
  if (absl::IsAlreadyExists(listener.status())) {
    return absl::AlreadyExistsError(
        absl::StrCat(listener.status().message(), "; choose one with --port (0 picks a free one)"));
  }
  MUSTER_RETURN_IF_ERROR(listener.status());
  port_ = listener->port;

  grpc::ServerBuilder builder;
  builder.RegisterService(this);
  acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(kLinkMessageBytesMax);
  builder.SetMaxSendMessageSize(kLinkMessageBytesMax);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 15'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 15'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 16);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 60'000);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    close(listener->fd);
    return absl::InternalError("gRPC cannot start a server");
  }
  gate_ = std::make_unique<Gate>(
      reactor_, listener->fd, [this, fd = listener->fd](int connection, const std::string& begin) {
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters p;
        p.listener_fd = fd;
        p.fd = connection;
        const grpc::Slice slice(begin);
        p.read_buffer = grpc::ByteBuffer(&slice, 1);
        acceptor_->HandleNewConnection(&p);
      });
  gate_->Start();
  return absl::OkStatus();
}

HeadServerImpl::~HeadServerImpl() {
  if (server_ == nullptr) return;
  gate_->Stop();
  std::vector<std::shared_ptr<DriverStream>> drivers;
  std::vector<std::shared_ptr<WorkerStream>> workers;
  {
    MutexLock lock(&mutex_);
    ending_ = true;
    for (const auto& [id, stream] : drivers_) drivers.push_back(stream);
    for (const auto& [id, stream] : workers_) workers.push_back(stream);
  }
  for (const auto& stream : drivers) stream->Close();
  for (const auto& stream : workers) stream->Close();
  AwaitStreams(kFlushWithin);
  calls_->End();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + kEndWithin));
  AwaitStreams(absl::InfiniteDuration());  // Cancelled by now.
  server_.reset();
  gate_.reset();
}

void HeadServerImpl::AwaitStreams(absl::Duration longest) {
  const absl::Time until = MonotonicNow() + longest;
  MutexLock lock(&mutex_);
  while (HasStreams() && MonotonicNow() < until) {
    stream_ended_.WaitFor(&mutex_, until - MonotonicNow());
  }
}

template <typename InBatch, typename OutBatch>
grpc::ServerBidiReactor<InBatch, OutBatch>* HeadServerImpl::Open(
    grpc::CallbackServerContext* context, absl::string_view kind,
    Streams<Stream<InBatch, OutBatch>>& streams,
    void (HeadListener::*on_batch)(ConnectionId, InBatch),
    void (HeadListener::*on_closed)(ConnectionId)) {
  using S = Stream<InBatch, OutBatch>;
  const std::string peer = context->peer();
  gate_->NoteCall(peer);
  ConnectionId id = 0;
  bool ending = false;
  const auto stream =
      std::make_shared<S>(context, absl::StrCat(kind, " at ", peer), options_.unsent_bytes_max);
  {
    MutexLock lock(&mutex_);
    id = ++last_connection_;
    streams.emplace(id, stream);
    ending = ending_;
  }
  stream->Begin({
      .on_batch = [this, id,
                   on_batch](InBatch batch) { (listener_.*on_batch)(id, std::move(batch)); },
      .on_done =
          [this, id, on_closed, &streams](bool delivered) {
            if (delivered) (listener_.*on_closed)(id);
            std::shared_ptr<S> forgotten;  // Freed without the lock.
            MutexLock lock(&mutex_);
            const auto it = streams.find(id);
            forgotten = std::move(it->second);
            streams.erase(it);
            stream_ended_.SignalAll();
          },
  });
  if (ending) stream->Close();
  reactor_.At(MonotonicNow() + options_.first_message_within, [weak = std::weak_ptr<S>(stream)] {
    const std::shared_ptr<S> open = weak.lock();
    if (open != nullptr && !open->delivered()) open->Break("it did not say who it is");
  });
  return stream.get();
}

template <typename Request, typename Reply>
grpc::ServerUnaryReactor* HeadServerImpl::Ask(
    grpc::CallbackServerContext* context, const Request& request, Reply* reply,
    void (HeadListener::*ask)(Request, std::function<void(Reply)>)) {
  gate_->NoteCall(context->peer());
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const std::shared_ptr<PendingCall> call = calls_->Add(reactor);
  (listener_.*ask)(
      request, [call, reply](Reply answer) { call->Answer([&] { *reply = std::move(answer); }); });
  return reactor;
}

absl::Status HeadServerImpl::CheckPackages() const {
  if (!options_.package_directory.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError("this head keeps no packages");
}

grpc::Status HeadServerImpl::UploadPackage(grpc::ServerContext* context,
                                           grpc::ServerReader<v1::PackageChunk>* reader,
                                           v1::PackageReply* reply) {
  gate_->NoteCall(context->peer());
  const absl::Status status = Receive(*reader);
  if (!status.ok()) Log(LogLevel::kWarning, "package refused: ", status.message());
  *reply->mutable_status() = ToProto(status);
  return grpc::Status::OK;
}

absl::Status HeadServerImpl::Receive(grpc::ServerReader<v1::PackageChunk>& reader) {
  MUSTER_RETURN_IF_ERROR(CheckPackages());
  v1::PackageChunk chunk;
  if (!reader.Read(&chunk)) return absl::DataLossError("an upload without a single chunk");
  MUSTER_RETURN_IF_ERROR(CheckProtocol(chunk.protocol(), "this program", OurName()));
  MUSTER_RETURN_IF_ERROR(CheckToken(chunk.protocol(), OurName()));
  MUSTER_RETURN_IF_ERROR(CheckBuildId(chunk.build_id()));
  if (chunk.size_bytes() > options_.package_bytes_max) {
    return absl::ResourceExhaustedError(absl::StrCat("the application has ", chunk.size_bytes(),
                                                     " bytes; the head keeps at most ",
                                                     options_.package_bytes_max));
  }
  if (HasPackage(chunk.build_id())) return absl::OkStatus();
  MUSTER_ASSIGN_OR_RETURN(PackageWriter writer,
                          PackageWriter::Create(PackagePath(chunk.build_id()), chunk.size_bytes()));
  std::string sha256;
  do {
    MUSTER_RETURN_IF_ERROR(writer.Append(chunk.data()));
    sha256 = chunk.sha256();
  } while (reader.Read(&chunk));
  return writer.Finish(sha256);
}

grpc::Status HeadServerImpl::FetchPackage(grpc::ServerContext* context,
                                          const v1::PackageRequest* request,
                                          grpc::ServerWriter<v1::PackageChunk>* writer) {
  gate_->NoteCall(context->peer());
  const auto send = [&]() -> absl::Status {
    MUSTER_RETURN_IF_ERROR(CheckPackages());
    MUSTER_RETURN_IF_ERROR(CheckProtocol(request->protocol(), "this program", OurName()));
    MUSTER_RETURN_IF_ERROR(CheckToken(request->protocol(), OurName()));
    MUSTER_RETURN_IF_ERROR(CheckBuildId(request->build_id()));
    if (!HasPackage(request->build_id())) {
      return absl::NotFoundError(
          absl::StrCat("the head has no application with build id ", request->build_id()));
    }
    return ReadPackage(PackagePath(request->build_id()), [&](PackagePiece piece) {
      v1::PackageChunk chunk;
      chunk.set_build_id(request->build_id());
      chunk.set_size_bytes(piece.size_bytes);
      chunk.set_data(std::move(piece.data));
      chunk.set_sha256(std::move(piece.sha256));
      return writer->Write(chunk);
    });
  };
  const absl::Status status = send();
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HeadServer>> HeadServer::Start(const Options& options,
                                                              HeadListener& listener) {
  auto server = std::make_unique<HeadServerImpl>(options, listener);
  MUSTER_RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace muster
