#include "runtime/wire/head_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/clock.h"
#include "runtime/wire/frame_connection.h"
#include "runtime/wire/head_server.h"
#include "runtime/wire/link_fixture.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_internal::Notes;
using testing_internal::RecordingListener;

std::unique_ptr<HeadServer> StartHead(RecordingListener& listener, int port = 0) {
  auto server = HeadServer::Start({.port = port}, listener);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}
std::string AddressOf(const HeadServer& server) {
  return absl::StrCat("127.0.0.1:", server.port());
}

v1::DriverMessage Hello(const std::string& name) {
  v1::DriverMessage message;
  message.mutable_hello()->set_name(name);
  return message;
}

// A port on which nobody listens.
int FreePort() {
  const auto listener = ListenTcp("127.0.0.1", 0);
  EXPECT_TRUE(listener.ok());
  close(listener->fd);
  return listener->port;
}

// A driver's link that notes what it gets, and sends a hello whenever it is up.
class TestDriver {
 public:
  explicit TestDriver(const std::string& address)
      : link_(ConnectDriver(address, {.on_up = [this] { OnUp(); },
                                      .on_batch =
                                          [this](const v1::ToDriverBatch& batch) {
                                            for (const auto& message : batch.messages())
                                              OnMessage(message);
                                          },
                                      .on_down =
                                          [this](const absl::Status& why) {
                                            notes.Add(absl::StrCat("down: ", why.message()));
                                          }})) {
    made_ = true;
    made_.notify_all();
  }
  DriverLink& link() { return *link_; }

  Notes notes;

 private:
  void OnUp() {
    made_.wait(false);
    notes.Add("up");
    link_->Send(Hello("score"));
  }
  void OnMessage(const v1::ToDriver& message) {
    if (message.has_welcome()) notes.Add(message.welcome().node_name());
    if (message.has_rejected()) notes.Add(absl::StrCat("rejected ", message.rejected().request()));
  }

  std::atomic<bool> made_{false};
  std::unique_ptr<DriverLink> link_;  // Last: its callbacks use the rest.
};

TEST(HeadLinkTest, DriverAndHeadExchangeBatches) {
  RecordingListener listener;
  const auto server = StartHead(listener);
  listener.on_driver = [&](ConnectionId connection, const v1::DriverMessage& message) {
    listener.notes.Add(message.hello().name());
    v1::ToDriver answer;
    answer.mutable_welcome()->set_node_name("welcome");
    server->SendToDriver(connection, answer);
  };
  TestDriver driver(AddressOf(*server));
  EXPECT_TRUE(driver.notes.AwaitCount(2));
  EXPECT_THAT(driver.notes.all(), ElementsAre("up", "welcome"));
  EXPECT_THAT(listener.notes.all(), ElementsAre("score"));
  driver.link().Stop(absl::Seconds(5));
  EXPECT_TRUE(listener.notes.AwaitCount(2));
  EXPECT_THAT(listener.notes.all(), ElementsAre("score", "driver closed"));
}

TEST(HeadLinkTest, QuestionsAreAnswered) {
  RecordingListener listener;
  const auto server = StartHead(listener);
  HeadClient client(AddressOf(*server));
  EXPECT_EQ(client.GetStatus(absl::Seconds(10))->version(), "here");
  EXPECT_EQ(client.Explain("4f2a", absl::Seconds(10))->text(), "4f2a");
  EXPECT_EQ(client.Stop(absl::Seconds(10)).status(), absl::UnauthenticatedError("no"));
}

TEST(HeadLinkTest, QuestionWithoutAHeadNamesAddressAndCause) {
  const int port = FreePort();
  HeadClient client(absl::StrCat("127.0.0.1:", port));
  EXPECT_EQ(client.GetStatus(absl::Seconds(1)).status(),
            absl::UnavailableError(absl::StrCat("no muster head at 127.0.0.1:", port,
                                                ": connection refused (tried for 1 s). Start one "
                                                "with: muster head")));
  HeadClient nowhere("no-such-host.invalid:6379");
  EXPECT_THAT(std::string(nowhere.GetStatus(absl::Milliseconds(100)).status().message()),
              HasSubstr("no muster head at no-such-host.invalid:6379: "));
}

}  // namespace
}  // namespace muster
