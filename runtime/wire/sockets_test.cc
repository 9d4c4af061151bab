#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "muster/v1/common.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/random.h"
#include "runtime/wire/frame_connection.h"

namespace muster {
namespace {

using testing::HasSubstr;

TEST(SocketsTest, UnixConnectionIsAcceptedFromTheSameUser) {
  const std::string name = absl::StrCat("muster-test-", RandomHex(8));
  const absl::StatusOr<int> listener = ListenUnixAbstract(name);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_EQ(AcceptFrom(*listener).status().code(), absl::StatusCode::kUnavailable);
  const absl::StatusOr<int> client = ConnectUnixAbstract(name);
  ASSERT_TRUE(client.ok()) << client.status();
  const absl::StatusOr<int> server = AcceptFrom(*listener);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(ListenUnixAbstract(name).status().code(), absl::StatusCode::kAlreadyExists);
  for (const int fd : {*listener, *client, *server}) {
    EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
  }
}

TEST(SocketsTest, MissingUnixSocketIsNamed) {
  const absl::Status status = ConnectUnixAbstract("muster-not-there").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("@muster-not-there: Connection refused"));
  EXPECT_EQ(ConnectUnixAbstract(std::string(200, 'x')).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SocketsTest, TakenPortSaysSo) {
  const absl::StatusOr<TcpListener> listener = ListenTcp("127.0.0.1", 0);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_GT(listener->port, 0);
  EXPECT_EQ(ListenTcp("127.0.0.1", listener->port).status(),
            absl::AlreadyExistsError(absl::StrCat("cannot listen on 127.0.0.1:", listener->port,
                                                  ": in use by another process")));
  close(listener->fd);
  EXPECT_EQ(ListenTcp("127.0.0.1", 70000).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SocketsTest, ConnectTcpQueuesUntilConnected) {
  const absl::StatusOr<TcpListener> listener = ListenTcp("127.0.0.1", 0);
  ASSERT_TRUE(listener.ok());
  const std::string address = absl::StrCat("127.0.0.1:", listener->port);
  const absl::StatusOr<int> fd = ConnectTcp(address);
  ASSERT_TRUE(fd.ok()) << fd.status();
  Reactor reactor({});
  const auto client = FrameConnection::Adopt(reactor, *fd, address);
  v1::Status message;
  message.set_message("hello");
  client->Send(message);
  client->Start([](absl::string_view) {}, [](const absl::Status&) {});
  absl::StatusOr<int> accepted = absl::UnavailableError("");
  ASSERT_TRUE(reactor.RunUntil(
      [&] {
        accepted = AcceptFrom(listener->fd);
        return accepted.ok();
      },
      MonotonicNow() + absl::Seconds(20)));
  const auto server = FrameConnection::Adopt(reactor, *accepted);
  bool got = false;
  server->Start([&](absl::string_view) { got = true; }, [](const absl::Status&) {});
  EXPECT_TRUE(reactor.RunUntil([&] { return got; }, MonotonicNow() + absl::Seconds(20)));
  close(listener->fd);
}

TEST(SocketsTest, RefusedTcpConnectionIsReportedWithAddressAndCause) {
  const absl::StatusOr<TcpListener> listener = ListenTcp("127.0.0.1", 0);
  ASSERT_TRUE(listener.ok());
  close(listener->fd);
  const std::string address = absl::StrCat("127.0.0.1:", listener->port);
  absl::Status why;
  const absl::StatusOr<int> fd = ConnectTcp(address);
  if (fd.ok()) {
    Reactor reactor({});
    const auto client = FrameConnection::Adopt(reactor, *fd, address);
    bool closed = false;
    client->Start([](absl::string_view) {},
                  [&](const absl::Status& status) {
                    closed = true;
                    why = status;
                  });
    EXPECT_TRUE(reactor.RunUntil([&] { return closed; }, MonotonicNow() + absl::Seconds(20)));
  } else {
    why = fd.status();
  }
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(why.message()), HasSubstr(absl::StrCat(address, ": ")));
  EXPECT_THAT(std::string(why.message()), HasSubstr("onnection refused"));
}

TEST(SocketsTest, BadAddressesAreRefused) {
  for (const char* address : {"", "host", ":1", "host:", "host:0", "host:65536", "host:x"}) {
    EXPECT_EQ(ConnectTcp(address).status().code(), absl::StatusCode::kInvalidArgument) << address;
  }
}

}  // namespace
}  // namespace muster
