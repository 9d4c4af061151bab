#include "runtime/wire/head_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/link_fixture.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing_internal::Notes;
using testing_internal::RecordingListener;

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

class HeadServerTest : public testing::Test {
 protected:
  HeadServerTest() {
    SetUpLog("head", LogLevel::kInfo);
    listener_.on_worker = [this](ConnectionId id, const v1::WorkerMessage& message) {
      listener_.notes.Add(absl::StrCat(message.hello().name(), " ", id));
    };
  }

  void Start(HeadServer::Options options = {}) {
    auto server = HeadServer::Start(options, listener_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    address_ = absl::StrCat("127.0.0.1:", server_->port());
  }
  // A worker's link whose hello the head has seen; `connection` is the head's name for it.
  std::unique_ptr<WorkerLink> JoinWorker(Notes& notes, ConnectionId& connection) {
    auto link = ConnectWorker(
        address_,
        {.on_up = [&notes] { notes.Add("up"); },
         .on_batch =
             [&notes](const v1::ToWorkerBatch& batch) {
               for (int i = 0; i < batch.messages_size(); ++i) notes.Add("message");
             },
         .on_down = [&notes](const absl::Status& why) { notes.Add(std::string(why.message())); }});
    EXPECT_TRUE(notes.AwaitCount(1));
    const std::string name = RandomHex(4);
    v1::WorkerMessage hello;
    hello.mutable_hello()->set_name(name);
    link->Send(hello);
    EXPECT_TRUE(listener_.notes.Await([&](const auto& all) {
      for (const std::string& note : all) {
        const std::pair<std::string, std::string> hello_of = absl::StrSplit(note, ' ');
        if (hello_of.first == name) return absl::SimpleAtoi(hello_of.second, &connection);
      }
      return false;
    }));
    return link;
  }
  // A plain TCP connection that sends `bytes` and waits until it is closed.
  void SendGarbage(absl::string_view bytes) {
    const absl::StatusOr<int> fd = ConnectTcp(address_);
    ASSERT_TRUE(fd.ok());
    pollfd writable = {*fd, POLLOUT, 0};
    ASSERT_EQ(poll(&writable, 1, 20'000), 1);
    ASSERT_EQ(send(*fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    std::string answer(1 << 16, '\0');
    for (;;) {
      pollfd readable = {*fd, POLLIN, 0};
      ASSERT_EQ(poll(&readable, 1, 20'000), 1) << "the connection stays open";
      if (recv(*fd, answer.data(), answer.size(), 0) <= 0) break;
    }
    close(*fd);
  }
  // Ends the server, so that all lines are there.
  std::string LogOf(const std::function<void()>& body) {
    testing::internal::CaptureStderr();
    body();
    server_.reset();
    std::string text = testing::internal::GetCapturedStderr();
    return text;
  }
  static int Warnings(const std::string& text) {
    int count = 0;
    for (size_t at = text.find(" WARNING "); at != std::string::npos;
         at = text.find(" WARNING ", at + 1)) {
      ++count;
    }
    return count;
  }

  RecordingListener listener_;
  std::unique_ptr<HeadServer> server_;
  std::string address_;
};

TEST_F(HeadServerTest, TakenPortIsRefusedInOneLine) {
  Start();
  const auto second = HeadServer::Start({.port = server_->port()}, listener_);
  EXPECT_EQ(second.status(),
            absl::AlreadyExistsError(absl::StrCat(
                "cannot listen on 127.0.0.1:", server_->port(),
                ": in use by another process; choose one with --port (0 picks a free one)")));
}

TEST_F(HeadServerTest, GarbageIsClosedWithOneWarningAndOthersAreUnharmed) {
  Start();
  Notes notes;
  ConnectionId worker = 0;
  const std::string log = LogOf([&] {
    auto link = JoinWorker(notes, worker);
    SendGarbage("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    SendGarbage(std::string(100'000, '\xff'));
    server_->SendToWorker(worker, v1::ToWorker());
    EXPECT_TRUE(notes.AwaitCount(2));
    EXPECT_EQ(notes.all().back(), "message");
    link->Stop(absl::Seconds(5));
  });
  EXPECT_EQ(Warnings(log), 2) << log;
  EXPECT_THAT(log, HasSubstr("it sent \"GET / HTTP/1.1"));
  EXPECT_THAT(log, HasSubstr("which is not gRPC"));
}

TEST_F(HeadServerTest, BadHttp2IsClosedWithOneWarning) {
  Start();
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  const std::string oversized("\xff\xff\xff\0\0\0\0\0\1", 9);
  const std::string log = LogOf(
      [&] { SendGarbage(absl::StrCat(kPreface, settings, oversized, std::string(100'000, 'x'))); });
  EXPECT_EQ(Warnings(log), 1) << log;
  EXPECT_THAT(log, HasSubstr("it spoke HTTP/2 badly"));
}

TEST_F(HeadServerTest, ProbeThatSaysNothingIsNoWarning) {
  Start();
  Notes notes;
  ConnectionId worker = 0;
  const std::string log = LogOf([&] {
    const absl::StatusOr<int> fd = ConnectTcp(address_);
    ASSERT_TRUE(fd.ok());
    close(*fd);
    JoinWorker(notes, worker);
  });
  EXPECT_EQ(Warnings(log), 0) << log;
}

TEST_F(HeadServerTest, StreamThatSaysNothingIsClosed) {
  Start({.first_message_within = absl::Milliseconds(50)});
  Notes notes;
  const std::string log = LogOf([&] {
    const auto link = ConnectWorker(
        address_,
        {.on_up = [&] { notes.Add("up"); },
         .on_batch = [](const auto&) {},
         .on_down = [&](const absl::Status& why) { notes.Add(std::string(why.message())); }});
    EXPECT_TRUE(notes.AwaitCount(2));
    link->Stop(absl::ZeroDuration());
  });
  EXPECT_EQ(notes.all()[0], "up");
  EXPECT_THAT(notes.all()[1], HasSubstr(absl::StrCat("lost the head at ", address_)));
  EXPECT_THAT(log, HasSubstr("it did not say who it is"));
}

TEST_F(HeadServerTest, PeerThatDoesNotReadIsClosedAndOthersAreUnharmed) {
  Start({.unsent_bytes_max = size_t{8} << 20});
  std::atomic<ConnectionId> slow{0};
  listener_.on_worker = [&](ConnectionId id, const v1::WorkerMessage&) {
    if (slow.exchange(id) == 0) listener_.notes.Add("hello");
  };
  std::atomic<bool> release{false};
  Notes notes;
  const std::string log = LogOf([&] {
    std::atomic<WorkerLink*> self{nullptr};
    const auto link =
        ConnectWorker(address_, {.on_up =
                                     [&] {
                                       self.wait(nullptr);
                                       self.load()->Send(v1::WorkerMessage());
                                     },
                                 .on_batch = [&](const auto&) { release.wait(false); },
                                 .on_down = [&](const auto&) { notes.Add("down"); }});
    self = link.get();
    self.notify_all();
    ASSERT_TRUE(listener_.notes.AwaitCount(1));
    const ConnectionId connection = slow;
    v1::ToWorker large;
    large.mutable_start()->mutable_binary()->add_argv(std::string(1 << 20, 'x'));
    const absl::Time until = MonotonicNow() + absl::Seconds(60);
    while (listener_.notes.all().back() != "worker closed" && MonotonicNow() < until) {
      server_->SendToWorker(connection, large);
    }
    EXPECT_EQ(listener_.notes.all().back(), "worker closed");
    release = true;
    release.notify_all();
    EXPECT_TRUE(notes.AwaitCount(1));
    link->Stop(absl::ZeroDuration());
  });
  EXPECT_EQ(Warnings(log), 1) << log;
  EXPECT_THAT(log, HasSubstr("it does not read"));
}

TEST_F(HeadServerTest, CloseComesAfterWhatWasSent) {
  Start();
  Notes notes;
  ConnectionId worker = 0;
  auto link = JoinWorker(notes, worker);
  for (int i = 0; i < 1000; ++i) server_->SendToWorker(worker, v1::ToWorker());
  server_->Close(worker);
  EXPECT_TRUE(notes.AwaitCount(1002));
  EXPECT_THAT(notes.all()[1000], "message");
  EXPECT_THAT(notes.all()[1001], HasSubstr("it closed the connection"));
  server_->SendToWorker(worker, v1::ToWorker());  // Dropped.
}

TEST_F(HeadServerTest, EndsWithinASecondAndWritesWhatWasSent) {
  std::function<void(v1::StopReply)> never;  // Never called: the caller is told.
  listener_.on_stop = [&](std::function<void(v1::StopReply)> reply) {
    never = std::move(reply);
    listener_.notes.Add("asked");
  };
  Start();
  Notes notes;
  ConnectionId worker = 0;
  auto link = JoinWorker(notes, worker);
  std::thread asker([this] {
    EXPECT_EQ(HeadClient(address_).Stop(absl::Seconds(60)).status().code(),
              absl::StatusCode::kUnavailable);
  });
  EXPECT_TRUE(listener_.notes.Await([](const auto& all) { return all.back() == "asked"; }));
  v1::ToWorker shutdown;
  shutdown.mutable_shutdown();
  server_->SendToWorker(worker, shutdown);
  const absl::Time start = MonotonicNow();
  server_.reset();
  EXPECT_LT(MonotonicNow() - start, absl::Seconds(1));
  EXPECT_TRUE(notes.AwaitCount(3));
  EXPECT_EQ(notes.all()[1], "message");
  asker.join();
}

TEST_F(HeadServerTest, LinkFindsARestartedHeadAtOnce) {
  Start();
  Notes notes;
  ConnectionId worker = 0;
  auto link = JoinWorker(notes, worker);
  const int port = server_->port();
  server_.reset();
  ASSERT_TRUE(notes.Await(
      [](const auto& all) { return absl::StrContains(all.back(), "connection refused"); }));
  EXPECT_THAT(notes.all()[1], HasSubstr("lost the head at 127.0.0.1:"));
  Start({.port = port});
  const absl::Time start = MonotonicNow();
  EXPECT_TRUE(notes.Await([](const auto& all) { return all.back() == "up"; }));
  EXPECT_LT(MonotonicNow() - start, absl::Seconds(3));
}

TEST_F(HeadServerTest, MessageAboveTheLimitBreaksOnlyItsStream) {
  Start();
  Notes notes;
  Notes other_notes;
  ConnectionId worker = 0;
  auto link = JoinWorker(notes, worker);
  auto other = JoinWorker(other_notes, worker);
  const ConnectionId healthy = worker;
  v1::WorkerMessage large;
  large.mutable_log()->add_lines()->set_text(std::string(70'000'000, 'x'));
  link->Send(large);
  EXPECT_TRUE(notes.AwaitCount(2));
  server_->SendToWorker(healthy, v1::ToWorker());
  EXPECT_TRUE(other_notes.AwaitCount(2));
  EXPECT_EQ(other_notes.all()[1], "message");
}

class PackageServiceTest : public HeadServerTest {
 protected:
  PackageServiceTest() : directory_(absl::StrCat(testing::TempDir(), "/muster-", RandomHex(8))) {
    std::filesystem::create_directories(directory_);
    content_.resize(3'500'000);
    for (size_t i = 0; i < content_.size(); ++i) content_[i] = static_cast<char>(i * 7 / 3);
    std::ofstream(Path("app")) << content_;
  }
  ~PackageServiceTest() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  std::string Path(const std::string& name) const { return absl::StrCat(directory_, "/", name); }
  static std::string ReadFile(const std::string& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }

  const std::string directory_;
  std::string content_;
};

TEST_F(PackageServiceTest, ApplicationIsUploadedOnceAndFetched) {
  Start({.package_directory = Path("store")});
  HeadClient client(address_);
  EXPECT_FALSE(server_->HasPackage("abcd0123"));
  EXPECT_EQ(client.UploadPackage("abcd0123", Path("app")), absl::OkStatus());
  EXPECT_TRUE(server_->HasPackage("abcd0123"));
  EXPECT_EQ(client.UploadPackage("abcd0123", Path("app")), absl::OkStatus());
  EXPECT_EQ(client.FetchPackage("abcd0123", Path("copy")), absl::OkStatus());
  EXPECT_EQ(ReadFile(Path("copy")), content_);
  EXPECT_EQ(client.FetchPackage("ffff0000", Path("none")).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(Path("none")));
  EXPECT_EQ(client.UploadPackage("../evil", Path("app")).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(client.UploadPackage("abcd9999", Path("missing")).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(server_->HasPackage("abcd9999"));
}

TEST_F(PackageServiceTest, ApplicationAboveTheBoundIsRefused) {
  Start({.package_directory = Path("store"), .package_bytes_max = 1'000'000});
  const absl::Status status = HeadClient(address_).UploadPackage("abcd0123", Path("app"));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3500000 bytes"));
}

TEST_F(PackageServiceTest, HeadWithoutAStoreSaysSo) {
  Start();
  EXPECT_EQ(HeadClient(address_).UploadPackage("abcd0123", Path("app")),
            absl::FailedPreconditionError("this head keeps no packages"));
}

TEST_F(PackageServiceTest, StoreThatFailsIsReportedToTheUploader) {
  Start({.package_directory = Path("store")});
  std::filesystem::remove_all(Path("store"));
  std::ofstream(Path("store")) << "no directory";
  const absl::Status status = HeadClient(address_).UploadPackage("abcd0123", Path("app"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Not a directory"));
  EXPECT_FALSE(server_->HasPackage("abcd0123"));
}

TEST_F(PackageServiceTest, WrongTokenIsRefused) {
  Start({.package_directory = Path("store")});
  HeadClient client(address_);
  v1::Protocol theirs;
  // The client sends what the environment says; the head compares with what it says then.
  setenv("MUSTER_AUTH_TOKEN_PATH", Path("no-such-token").c_str(), 1);
  const absl::Status status = client.UploadPackage("abcd0123", Path("app"));
  unsetenv("MUSTER_AUTH_TOKEN_PATH");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("the head at ", address_, " asks for a token")));
}

}  // namespace
}  // namespace muster
