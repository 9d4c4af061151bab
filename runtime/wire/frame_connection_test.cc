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

}  // namespace
}  // namespace muster
