// Frames on a stream socket (Unix or TCP): a fixed header (magic, length) and the bytes of one protobuf message.
// A FrameConnection reads and writes them without blocking, on a Reactor.
//
// What is queued with Send() is written at once as far as the socket takes it; the rest follows when it is
// writable. Cork()/Uncork() put several frames into one system call.
// Errors: a peer that closes, breaks, or sends something that is not a frame (bad magic, longer than the
// bound) ends the connection: `on_close` is called once, with the reason, and nothing after it.
// Thread-safety: Send, Close and set_frame_bytes_max from any thread; callbacks on the reactor's polling thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/reactor.h"

namespace google::protobuf {
class MessageLite;
}

namespace muster {

inline constexpr size_t kFrameBytesMaxUnknownPeer = 64 * 1024;     // Until the peer has said who it is.
inline constexpr size_t kFrameBytesMax = size_t{2000} * 1000 * 1000;  // Protobuf's own limit is 2 GiB.

class FrameConnection : public std::enable_shared_from_this<FrameConnection> {
 public:
  using OnFrame = std::function<void(absl::string_view frame)>;  // Valid during the call.
  using OnClose = std::function<void(absl::Status why)>;         // OK: the peer closed between two frames.

  // Takes the descriptor, makes it non-blocking. Callbacks start once Start() is called.
  static std::shared_ptr<FrameConnection> Adopt(Reactor& reactor, int fd);
  ~FrameConnection();

  void Start(OnFrame on_frame, OnClose on_close);
  void Send(const google::protobuf::MessageLite& message);
  void Cork();
  void Uncork();  // Flushes.
  void Close();   // Drops what is not written; no callback follows. Idempotent.
  void CloseAfterFlush();
  void set_frame_bytes_max(size_t bytes);
  size_t unsent_bytes() const;
  int fd() const;

 private:
  class Impl;
  explicit FrameConnection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Listening sockets. Abstract Unix sockets leave no file behind; only the same user may connect (SO_PEERCRED).
absl::StatusOr<int> ListenUnixAbstract(absl::string_view name);
struct TcpListener {
  int fd = -1;
  int port = 0;
};
absl::StatusOr<TcpListener> ListenTcp(const std::string& host, int port);
// Accepts one connection; kUnavailable when none is waiting, kPermissionDenied for another user's.
absl::StatusOr<int> AcceptFrom(int listener);
absl::StatusOr<int> ConnectUnixAbstract(absl::string_view name);
// "10.0.0.1:4711"; connecting goes on in the background, writes are queued meanwhile.
absl::StatusOr<int> ConnectTcp(const std::string& address);

}  // namespace muster
