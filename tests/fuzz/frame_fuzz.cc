// Bytes arrive on a connection in pieces of any size: every frame comes out once and in order, or
// the connection ends once, with a reason; what the reader gave is what was in the bytes.
//
// Input: one byte that sizes the pieces, then the stream. A second stream, made of frames cut from
// the same bytes, must come out as it went in.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "muster/v1/common.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/reactor.h"
#include "runtime/wire/frame_connection.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

struct Outcome {
  std::vector<std::string> frames;
  int closes = 0;
  absl::Status why;
};

Outcome Feed(Reactor& reactor, absl::string_view bytes, size_t piece) {
  int fds[2];
  MUSTER_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  Outcome outcome;
  const auto connection = FrameConnection::Adopt(reactor, fds[0]);
  connection->Start([&](absl::string_view frame) { outcome.frames.emplace_back(frame); },
                    [&](absl::Status why) {
                      ++outcome.closes;
                      outcome.why = std::move(why);
                    });
  while (!bytes.empty() && outcome.closes == 0) {
    const absl::string_view now = bytes.substr(0, piece);
    if (send(fds[1], now.data(), now.size(), MSG_NOSIGNAL) < 0) break;
    bytes.remove_prefix(now.size());
    reactor.RunUntil([] { return false; }, absl::InfinitePast());
  }
  close(fds[1]);
  MUSTER_CHECK(
      reactor.RunUntil([&] { return outcome.closes > 0; }, MonotonicNow() + absl::Seconds(10)));
  MUSTER_CHECK(outcome.closes == 1);
  return outcome;
}

std::string Frame(absl::string_view body) {
  std::string frame = "MSF1";
  for (int i = 0; i < 4; ++i) frame.push_back(static_cast<char>((body.size() >> (8 * i)) & 0xff));
  frame.append(body.data(), body.size());
  return frame;
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static muster::Reactor& reactor = *new muster::Reactor({});
  if (size < 1 || size > 4096) return 0;
  const size_t piece = std::max<size_t>(1, data[0]);
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);

  const muster::Outcome as_is = muster::Feed(reactor, bytes, piece);
  std::string again;
  for (const std::string& frame : as_is.frames) again += muster::Frame(frame);
  MUSTER_CHECK(bytes.substr(0, again.size()) == again);
  MUSTER_CHECK(as_is.why.ok() == (again.size() == bytes.size()));

  std::vector<std::string> sent;
  std::string stream;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = static_cast<uint8_t>(bytes[at]);
    sent.emplace_back(bytes.substr(at, length));
    stream += muster::Frame(sent.back());
    at += std::max<size_t>(1, length);
  }
  const muster::Outcome framed = muster::Feed(reactor, stream, piece);
  MUSTER_CHECK(framed.why.ok());
  MUSTER_CHECK(framed.frames == sent);
  return 0;
}
