// Link 3's frames between two processes over a Unix socket, and how long a link to a live head
// takes to open.
//
//   BM_FrameRoundTrip/0: both ends sleep; /1: the one that waits spins for up to 50 us first.
//   BM_FramesCorked: frames of 100 bytes one way, 100 to a system call; items per second.
//   BM_LinkOpen: ConnectDriver() to on_up, on loopback.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "muster/v1/common.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/reactor.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/head_server.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

v1::Status Message() {
  v1::Status message;
  message.set_message(std::string(90, 'x'));
  return message;
}

// A process that sends back every frame whose `code` is 1, and counts the others.
class EchoProcess {
 public:
  explicit EchoProcess(bool spin) {
    std::array<int, 2> fds;
    MUSTER_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()) == 0);
    child_ = fork();
    if (child_ == 0) {
      close(fds[0]);
      Serve(fds[1], spin);
      _exit(0);
    }
    close(fds[1]);
    fd_ = fds[0];
  }
  ~EchoProcess() { waitpid(child_, nullptr, 0); }
  int fd() const { return fd_; }

 private:
  static void Serve(int fd, bool spin) {
    Reactor reactor({.spin = absl::Microseconds(50)});
    const auto connection = FrameConnection::Adopt(reactor, fd);
    bool closed = false;
    v1::Status message;
    connection->Start(
        [&](absl::string_view frame) {
          MUSTER_CHECK(message.ParseFromArray(frame.data(), static_cast<int>(frame.size())));
          if (message.code() == 1) connection->Send(message);
        },
        [&](const absl::Status&) { closed = true; });
    reactor.RunUntil([&] { return closed; }, absl::InfiniteFuture(), spin);
  }

  pid_t child_;
  int fd_;
};

// One end of the connection with an echo process.
class Client {
 public:
  explicit Client(bool spin)
      : echo_(spin), spin_(spin), reactor_({.spin = absl::Microseconds(50)}) {
    connection_ = FrameConnection::Adopt(reactor_, echo_.fd());
    connection_->Start([this](absl::string_view) { ++replies_; }, [](const absl::Status&) {});
  }
  FrameConnection& connection() { return *connection_; }
  void AwaitReplies(int64_t count) {
    reactor_.RunUntil([&] { return replies_ >= count; }, absl::InfiniteFuture(), spin_);
  }
  void AwaitWritten() {
    reactor_.RunUntil([&] { return connection_->unsent_bytes() == 0; }, absl::InfiniteFuture());
  }

 private:
  EchoProcess echo_;
  const bool spin_;
  Reactor reactor_;
  std::shared_ptr<FrameConnection> connection_;
  int64_t replies_ = 0;
};

void BM_FrameRoundTrip(benchmark::State& state) {
  Client client(state.range(0) == 1);
  v1::Status message = Message();
  message.set_code(1);
  int64_t sent = 0;
  for (auto _ : state) {
    client.connection().Send(message);
    client.AwaitReplies(++sent);
  }
  client.connection().Close();
}
BENCHMARK(BM_FrameRoundTrip)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMicrosecond);

void BM_FramesCorked(benchmark::State& state) {
  constexpr int kCorked = 100;
  Client client(false);
  v1::Status message = Message();
  int64_t asked = 0;
  for (auto _ : state) {
    client.connection().Cork();
    for (int i = 0; i < kCorked; ++i) client.connection().Send(message);
    client.connection().Uncork();
    if (client.connection().unsent_bytes() > 1'000'000) client.AwaitWritten();
  }
  message.set_code(1);
  client.connection().Send(message);
  client.AwaitReplies(++asked);
  state.SetItemsProcessed(state.iterations() * kCorked);
  client.connection().Close();
}
BENCHMARK(BM_FramesCorked)->UseRealTime();

class QuietListener : public HeadListener {
  void OnDriver(ConnectionId, v1::DriverBatch) override {}
  void OnDriverClosed(ConnectionId) override {}
  void OnWorker(ConnectionId, v1::WorkerBatch) override {}
  void OnWorkerClosed(ConnectionId) override {}
  void OnStatus(v1::StatusRequest, std::function<void(v1::StatusReply)>) override {}
  void OnExplain(v1::ExplainRequest, std::function<void(v1::ExplainReply)>) override {}
  void OnDecisions(v1::DecisionsRequest, std::function<void(v1::DecisionsReply)>) override {}
  void OnSnapshot(v1::SnapshotRequest, std::function<void(v1::SnapshotReply)>) override {}
  void OnControl(v1::ControlNodeRequest, std::function<void(v1::ControlNodeReply)>) override {}
  void OnSetSharing(v1::SetSharingRequest, std::function<void(v1::SetSharingReply)>) override {}
  void OnStop(v1::StopRequest, std::function<void(v1::StopReply)>) override {}
};

void BM_LinkOpen(benchmark::State& state) {
  QuietListener listener;
  const auto server = HeadServer::Start({}, listener);
  MUSTER_CHECK(server.ok());
  const std::string address = absl::StrCat("127.0.0.1:", (*server)->port());
  for (auto _ : state) {
    std::atomic<bool> up{false};
    const auto link = ConnectDriver(address, {.on_up =
                                                  [&] {
                                                    up = true;
                                                    up.notify_all();
                                                  },
                                              .on_batch = [](const auto&) {},
                                              .on_down = [](const auto&) {}});
    up.wait(false);
    state.PauseTiming();
    link->Stop(absl::ZeroDuration());
    state.ResumeTiming();
  }
}
BENCHMARK(BM_LinkOpen)->UseRealTime()->Unit(benchmark::kMicrosecond)->Iterations(200);

}  // namespace
}  // namespace muster

BENCHMARK_MAIN();
