// Frames on a stream socket (Unix or TCP): a fixed header (magic, length) and the bytes of one
// protobuf message. A FrameConnection reads and writes them without blocking, on a Reactor.
//
// A frame: "MSF1", the length of the message as 4 bytes, lowest first, the message.
// What is queued with Send() is written at once as far as the socket takes it; the rest follows
// when it is writable. Cork()/Uncork() put several frames into one system call.
// Errors: a peer that closes, breaks, or sends something that is not a frame (bad magic, longer
// than the bound) ends the connection: `on_close` is called once, with the reason, and nothing
// after it.
// Thread-safety: Send, Cork, Uncork, Close, CloseAfterFlush and set_frame_bytes_max from any
// thread; callbacks on the reactor's polling thread, one at a time. They may close the connection.
// The reactor must outlive it.
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

inline constexpr size_t kFrameBytesMaxUnknownPeer =
    64 * 1024;  // Until the peer has said who it is.
inline constexpr size_t kFrameBytesMax =
    size_t{2000} * 1000 * 1000;  // Protobuf's own limit is 2 GiB.

class FrameConnection : public std::enable_shared_from_this<FrameConnection> {
 public:
  using OnFrame = std::function<void(absl::string_view frame)>;  // Valid during the call.
  using OnClose = std::function<void(absl::Status why)>;  // OK: the peer closed between two frames.

  // Takes the descriptor, makes it non-blocking. Callbacks start once Start() is called. `peer` is
  // its name in error texts; left empty, it is asked of the socket ("pid 812", "10.0.0.1:4711").
  static std::shared_ptr<FrameConnection> Adopt(Reactor& reactor, int fd, std::string peer = "");
  ~FrameConnection();  // Close(), unless CloseAfterFlush() was called: then the flush goes on.

  void Start(OnFrame on_frame, OnClose on_close);
  void Send(const google::protobuf::MessageLite& message);
  void Cork();    // Counted: each Cork() needs its Uncork().
  void Uncork();  // Flushes.
  // Drops what is not written; no callback follows (one that runs on another thread meanwhile
  // ends). Idempotent.
  void Close();
  // No callback follows either. Ends once all is written and the peer has read it and closed, or
  // has let 5 s pass after the last byte was written.
  void CloseAfterFlush();
  // Of what is received, from the next frame on; at first kFrameBytesMaxUnknownPeer.
  void set_frame_bytes_max(size_t bytes);
  size_t unsent_bytes() const;
  int fd() const;  // -1 once closed.
  const std::string& peer() const;

 private:
  class Impl;
  explicit FrameConnection(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Listening sockets. Abstract Unix sockets leave no file behind; only the same user may connect
// (SO_PEERCRED), and only to the same user's. `name` is at most 107 bytes, and a name in use is
// kAlreadyExists.
absl::StatusOr<int> ListenUnixAbstract(absl::string_view name);
struct TcpListener {
  int fd = -1;
  int port = 0;
};
// Port 0: the kernel picks.
// Errors: kAlreadyExists "cannot listen on 127.0.0.1:6379: in use by another process".
absl::StatusOr<TcpListener> ListenTcp(const std::string& host, int port);
// Accepts one connection, non-blocking; kUnavailable when none is waiting, kPermissionDenied for
// another user's, kResourceExhausted when there are no descriptors left (the connection stays
// waiting: accept again later, not at once).
absl::StatusOr<int> AcceptFrom(int listener);
absl::StatusOr<int> ConnectUnixAbstract(absl::string_view name);
// "10.0.0.1:4711" or "[::1]:4711"; connecting goes on in the background, writes are queued
// meanwhile. What goes wrong then comes to on_close; pass `address` to Adopt(), so that it is
// named. A name is resolved here, which blocks.
absl::StatusOr<int> ConnectTcp(const std::string& address);

}  // namespace muster
