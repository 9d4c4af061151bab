#include "runtime/wire/frame_connection.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "muster/v1/common.pb.h"
#include "runtime/base/clock.h"

namespace muster {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

v1::Status Message(size_t bytes) {
  v1::Status message;
  message.set_code(1);
  message.set_message(std::string(bytes, 'x'));
  return message;
}

// One end of a socket pair as a connection, the other as it is.
class FrameConnectionTest : public testing::Test {
 protected:
  FrameConnectionTest() : reactor_({}) {
    std::array<int, 2> fds;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    raw_ = fds[1];
    connection_ = FrameConnection::Adopt(reactor_, fds[0]);
  }
  ~FrameConnectionTest() override {
    if (raw_ >= 0) close(raw_);
  }

  void Start() {
    connection_->Start([this](absl::string_view frame) { frames_.emplace_back(frame); },
                       [this](absl::Status why) {
                         ++closes_;
                         why_ = std::move(why);
                       });
  }
  void WriteRaw(absl::string_view bytes) {
    ASSERT_EQ(send(raw_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void CloseRaw() { close(std::exchange(raw_, -1)); }
  bool RunUntilClosed() {
    return reactor_.RunUntil([this] { return closes_ > 0; }, MonotonicNow() + kLong);
  }
  static std::string Frame(absl::string_view body) {
    std::string frame = "MSF1";
    for (int i = 0; i < 4; ++i) frame.push_back(static_cast<char>((body.size() >> (8 * i)) & 0xff));
    return absl::StrCat(frame, body);
  }

  Reactor reactor_;
  int raw_ = -1;
  std::shared_ptr<FrameConnection> connection_;
  std::vector<std::string> frames_;
  int closes_ = 0;
  absl::Status why_;
};

TEST_F(FrameConnectionTest, CarriesMessagesOfAllSizes) {
  const auto other = FrameConnection::Adopt(reactor_, std::exchange(raw_, -1));
  connection_->set_frame_bytes_max(kFrameBytesMax);
  other->set_frame_bytes_max(kFrameBytesMax);
  Start();
  std::vector<size_t> got;
  v1::Status parsed;
  other->Start(
      [&](absl::string_view frame) {
        ASSERT_TRUE(parsed.ParseFromArray(frame.data(), static_cast<int>(frame.size())));
        got.push_back(parsed.message().size());
        other->Send(parsed);
      },
      [](const absl::Status&) {});
  const std::vector<size_t> sizes = {0, 1, 64 * 1024 - 4, 64 * 1024, 64 * 1024 + 9, 100'000'000, 3};
  for (const size_t size : sizes) connection_->Send(Message(size));
  ASSERT_TRUE(
      reactor_.RunUntil([&] { return frames_.size() == sizes.size(); }, MonotonicNow() + kLong));
  EXPECT_EQ(got, sizes);
  for (size_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(parsed.ParseFromString(frames_[i]));
    EXPECT_EQ(parsed.message(), std::string(sizes[i], 'x'));
  }
}

TEST_F(FrameConnectionTest, EmptyMessageIsAFrame) {
  Start();
  WriteRaw(Frame(""));
  WriteRaw(absl::StrCat(Frame("a"), Frame(""), Frame("bc"), "MSF"));
  ASSERT_TRUE(reactor_.RunUntil([&] { return frames_.size() == 4; }, MonotonicNow() + kLong));
  EXPECT_EQ(frames_, (std::vector<std::string>{"", "a", "", "bc"}));
  EXPECT_EQ(closes_, 0);
}

TEST_F(FrameConnectionTest, FramesMayComeByteByByte) {
  Start();
  const std::string bytes = absl::StrCat(Frame("first"), Frame("second"));
  for (const char byte : bytes) {
    WriteRaw(absl::string_view(&byte, 1));
    ASSERT_FALSE(reactor_.RunUntil([] { return false; }, absl::InfinitePast()));
  }
  ASSERT_TRUE(reactor_.RunUntil([&] { return frames_.size() == 2; }, MonotonicNow() + kLong));
  EXPECT_EQ(frames_, (std::vector<std::string>{"first", "second"}));
}

TEST_F(FrameConnectionTest, PeerThatClosesBetweenFramesIsOk) {
  Start();
  WriteRaw(Frame("last"));
  CloseRaw();
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_, absl::OkStatus());
  EXPECT_EQ(frames_.size(), 1u);
  EXPECT_EQ(connection_->fd(), -1);
  connection_->Send(Message(1));  // Dropped.
  EXPECT_EQ(connection_->unsent_bytes(), 0u);
}

TEST_F(FrameConnectionTest, GarbageEndsTheConnectionAtItsFirstByte) {
  Start();
  WriteRaw("G");
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(why_.message()),
              testing::MatchesRegex("pid [0-9]+ sent something that is not a frame"));
  EXPECT_EQ(closes_, 1);
}

TEST_F(FrameConnectionTest, GarbageAfterAFrameEndsTheConnection) {
  Start();
  WriteRaw(absl::StrCat(Frame("good"), "GET / HTTP/1.1\r\n"));
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(frames_, std::vector<std::string>{"good"});
}

TEST_F(FrameConnectionTest, OversizedLengthEndsTheConnection) {
  Start();
  WriteRaw(Frame(std::string(kFrameBytesMaxUnknownPeer, 'x')));
  ASSERT_TRUE(reactor_.RunUntil([&] { return !frames_.empty(); }, MonotonicNow() + kLong));
  WriteRaw(absl::string_view("MSF1\xff\xff\xff\xff", 8));
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(why_.message()),
              HasSubstr("sent a frame of 4294967295 bytes; at most 65536 are allowed"));
}

TEST_F(FrameConnectionTest, BoundMayBeRaisedByTheFirstFrame) {
  connection_->Start(
      [this](absl::string_view frame) {
        frames_.emplace_back(frame);
        connection_->set_frame_bytes_max(kFrameBytesMax);
      },
      [this](const absl::Status&) { ++closes_; });
  const std::string large(200'000, 'x');
  std::thread writer([&] { WriteRaw(absl::StrCat(Frame("hello"), Frame(large))); });
  ASSERT_TRUE(reactor_.RunUntil([&] { return frames_.size() == 2; }, MonotonicNow() + kLong));
  writer.join();
  EXPECT_EQ(frames_[1], large);
}

TEST_F(FrameConnectionTest, PeerThatClosesInTheMiddleOfAFrameIsNamed) {
  Start();
  WriteRaw("MSF1\x05");
  CloseRaw();
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(why_.message()), HasSubstr("closed in the middle of a frame"));
}

TEST_F(FrameConnectionTest, PeerThatNeverReadsLeavesBytesUnsentAndOthersUnharmed) {
  Start();
  std::array<int, 2> fds;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  const auto healthy = FrameConnection::Adopt(reactor_, fds[0]);
  const auto healthy_peer = FrameConnection::Adopt(reactor_, fds[1]);
  int got = 0;
  healthy->Start([](absl::string_view) {}, [](const absl::Status&) {});
  healthy_peer->Start([&](absl::string_view) { ++got; }, [](const absl::Status&) {});
  size_t before = 0;
  for (int i = 1; i <= 50; ++i) {
    connection_->Send(Message(100'000));
    EXPECT_GE(connection_->unsent_bytes(), before);
    before = connection_->unsent_bytes();
    healthy->Send(Message(10));
    ASSERT_TRUE(reactor_.RunUntil([&] { return got == i; }, MonotonicNow() + kLong));
  }
  EXPECT_GT(connection_->unsent_bytes(), 3'000'000u);
  CloseRaw();
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(connection_->unsent_bytes(), 0u);
}

TEST_F(FrameConnectionTest, CorkedFramesLeaveTogether) {
  Start();
  connection_->Cork();
  for (int i = 0; i < 3; ++i) connection_->Send(Message(10));
  char byte = 0;
  EXPECT_EQ(recv(raw_, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_GT(connection_->unsent_bytes(), 0u);
  connection_->Uncork();
  EXPECT_EQ(connection_->unsent_bytes(), 0u);
  std::string all(1000, '\0');
  const size_t frame = 8 + Message(10).ByteSizeLong();
  EXPECT_EQ(recv(raw_, all.data(), all.size(), MSG_DONTWAIT), static_cast<ssize_t>(3 * frame));
}

TEST_F(FrameConnectionTest, CloseFromACallbackIsTheLastOne) {
  connection_->Start(
      [this](absl::string_view frame) {
        frames_.emplace_back(frame);
        connection_->Close();
        connection_.reset();
      },
      [this](const absl::Status&) { ++closes_; });
  WriteRaw(absl::StrCat(Frame("one"), Frame("two")));
  ASSERT_TRUE(reactor_.RunUntil([&] { return !frames_.empty(); }, MonotonicNow() + kLong));
  ASSERT_FALSE(reactor_.RunUntil([] { return false; }, MonotonicNow() + absl::Milliseconds(2)));
  EXPECT_EQ(frames_.size(), 1u);
  EXPECT_EQ(closes_, 0);
}

TEST_F(FrameConnectionTest, CloseAfterFlushWritesAllThatWasSent) {
  Start();
  const size_t large = 5'000'000;
  connection_->Send(Message(large));
  connection_->CloseAfterFlush();
  connection_.reset();
  std::atomic<size_t> received{0};
  std::atomic<bool> eof{false};
  std::thread reader([&] {
    std::string bytes(1 << 16, '\0');
    for (;;) {
      const ssize_t got = recv(raw_, bytes.data(), bytes.size(), 0);
      if (got <= 0) break;
      received += static_cast<size_t>(got);
    }
    eof = true;
    reactor_.Wake();
  });
  EXPECT_TRUE(reactor_.RunUntil([&] { return eof.load(); }, MonotonicNow() + kLong));
  reader.join();
  EXPECT_EQ(received, 8 + Message(large).ByteSizeLong());
  EXPECT_EQ(closes_, 0);
}

TEST_F(FrameConnectionTest, CloseWhileOthersSend) {
  for (int round = 0; round < 50; ++round) {
    std::array<int, 2> fds;
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    const auto connection = FrameConnection::Adopt(reactor_, fds[0]);
    const auto peer = FrameConnection::Adopt(reactor_, fds[1]);
    std::atomic<int> got{0};
    bool peer_closed = false;
    connection->Start([](absl::string_view) {}, [](const absl::Status&) {});
    peer->Start([&](absl::string_view) { ++got; },
                [&](const absl::Status&) { peer_closed = true; });
    std::vector<std::thread> senders;
    for (int i = 0; i < 2; ++i) {
      senders.emplace_back([&] {
        for (int n = 0; n < 200; ++n) connection->Send(Message(5000));
      });
    }
    std::thread closer([&] {
      while (got.load() < 3) std::this_thread::yield();
      connection->Close();
    });
    ASSERT_TRUE(reactor_.RunUntil([&] { return peer_closed; }, MonotonicNow() + kLong));
    for (std::thread& sender : senders) sender.join();
    closer.join();
    EXPECT_EQ(connection->unsent_bytes(), 0u);
  }
}

TEST_F(FrameConnectionTest, PeerThatClosesWhileWeWriteGivesOneReason) {
  Start();
  connection_->Send(Message(10'000'000));
  CloseRaw();
  connection_->Send(Message(10));
  ASSERT_TRUE(RunUntilClosed());
  EXPECT_EQ(why_.code(), absl::StatusCode::kUnavailable);
  ASSERT_FALSE(reactor_.RunUntil([] { return false; }, MonotonicNow() + absl::Milliseconds(2)));
  EXPECT_EQ(closes_, 1);
}

}  // namespace
}  // namespace muster
