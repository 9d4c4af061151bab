#include "runtime/wire/frame_connection.h"

#include <fcntl.h>
#include <google/protobuf/message_lite.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

constexpr char kMagic[4] = {'M', 'S', 'F', '1'};
constexpr size_t kHeaderBytes = 8;
constexpr size_t kReadBytes =
    size_t{64} * 1024;  // Frames up to this length are read many at a time.
constexpr size_t kChunkBytes = size_t{64} * 1024;  // Small frames share a chunk up to this length.
constexpr size_t kReadPerRound = size_t{4} * 1024 * 1024;  // Then other descriptors get their turn.
constexpr size_t kIoVectors = 16;
constexpr absl::Duration kLingerFor = absl::Seconds(5);

void WriteHeader(char* to, uint32_t length) {
  std::memcpy(to, kMagic, sizeof(kMagic));
  for (int i = 0; i < 4; ++i) to[4 + i] = static_cast<char>((length >> (8 * i)) & 0xff);
}
uint32_t ReadLength(const char* header) {
  uint32_t length = 0;
  for (int i = 0; i < 4; ++i) {
    length |= static_cast<uint32_t>(static_cast<unsigned char>(header[4 + i])) << (8 * i);
  }
  return length;
}

std::string PeerName(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "peer";
  if (address.ss_family == AF_UNIX) {
    ucred credentials = {};
    socklen_t size = sizeof(credentials);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size);
    return absl::StrCat("pid ", credentials.pid);
  }
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof(host), port,
                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "peer";
  }
  return absl::StrCat(host, ":", port);
}

std::string CauseOf(int error) {
  std::string text = strerrordesc_np(error);
  if (!text.empty()) text[0] = absl::ascii_tolower(static_cast<unsigned char>(text[0]));
  return text;
}

// Uninitialised memory: what is read into it is written once.
struct Buffer {
  std::unique_ptr<char[]> bytes;
  size_t capacity = 0;
  size_t filled = 0;

  bool Allocate(size_t wanted) {
    bytes.reset(new (std::nothrow) char[wanted]);
    capacity = bytes == nullptr ? 0 : wanted;
    filled = 0;
    return bytes != nullptr;
  }
};

// Frames to be written, in order. Small ones share a chunk.
class OutQueue {
 public:
  size_t size() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

  // Returns room for `length` more bytes, which count as queued; nullptr where there is no memory.
  char* Extend(size_t length) {
    if (chunks_.empty() || chunks_.back().capacity - chunks_.back().filled < length) {
      Buffer chunk = std::exchange(spare_, Buffer());
      if (chunk.capacity < length && !chunk.Allocate(std::max(length, kChunkBytes))) return nullptr;
      chunk.filled = 0;
      chunks_.push_back(std::move(chunk));
    }
    Buffer& chunk = chunks_.back();
    char* const room = chunk.bytes.get() + chunk.filled;
    chunk.filled += length;
    bytes_ += length;
    return room;
  }

  int Fill(std::array<iovec, kIoVectors>& vectors) {
    int count = 0;
    size_t offset = written_;
    for (const Buffer& chunk : chunks_) {
      if (count == static_cast<int>(kIoVectors)) break;
      vectors[count++] = {chunk.bytes.get() + offset, chunk.filled - offset};
      offset = 0;
    }
    return count;
  }

  void Advance(size_t written) {
    bytes_ -= written;
    written_ += written;
    while (!chunks_.empty() && written_ >= chunks_.front().filled) {
      written_ -= chunks_.front().filled;
      if (chunks_.front().capacity == kChunkBytes) spare_ = std::move(chunks_.front());
      chunks_.pop_front();
    }
  }

  void Clear() {
    chunks_.clear();
    bytes_ = 0;
    written_ = 0;
  }

 private:
  std::deque<Buffer> chunks_;
  Buffer spare_;        // The last chunk written, for its memory.
  size_t written_ = 0;  // Of the first chunk.
  size_t bytes_ = 0;
};

}  // namespace

class FrameConnection::Impl : public std::enable_shared_from_this<FrameConnection::Impl> {
 public:
  Impl(Reactor& reactor, int fd, std::string peer)
      : reactor_(reactor), peer_(std::move(peer)), fd_(fd) {}
  ~Impl() {
    if (fd_ >= 0) close(fd_);
  }

  void Start(OnFrame on_frame, OnClose on_close) ABSL_LOCKS_EXCLUDED(mutex_);
  void Send(const google::protobuf::MessageLite& message) ABSL_LOCKS_EXCLUDED(mutex_);
  void Cork() ABSL_LOCKS_EXCLUDED(mutex_);
  void Uncork() ABSL_LOCKS_EXCLUDED(mutex_);
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  void CloseAfterFlush() ABSL_LOCKS_EXCLUDED(mutex_);
  // The owner is gone.
  void Abandon() ABSL_LOCKS_EXCLUDED(mutex_);
  void set_frame_bytes_max(size_t bytes) { frame_bytes_max_ = bytes; }
  size_t unsent_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  int fd() const ABSL_LOCKS_EXCLUDED(mutex_);
  const std::string& peer() const { return peer_; }

 private:
  // kFlushing: CloseAfterFlush() was called. kLingering: all is written, the peer is to close.
  enum class State { kNew, kOpen, kFlushing, kLingering, kClosed };
  struct Callbacks {
    OnFrame on_frame;
    OnClose on_close;
  };

  void Watch(State state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailWrite(std::string cause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Linger() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchWrites(bool wanted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is to be freed after the lock is left.
  std::shared_ptr<Callbacks> CloseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseFdIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The rest runs on the polling thread only.
  void OnEvents(uint32_t events) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Enter() ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave() ABSL_LOCKS_EXCLUDED(mutex_);
  void Read() ABSL_LOCKS_EXCLUDED(mutex_);
  void Discard() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteFailed() ABSL_LOCKS_EXCLUDED(mutex_);
  // Delivers all whole frames; false once the connection is closed.
  bool Deliver() ABSL_LOCKS_EXCLUDED(mutex_);
  bool DeliverOne(absl::string_view frame) ABSL_LOCKS_EXCLUDED(mutex_);
  void End(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnEof() ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<Callbacks> CallbacksIfOpen() ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsLingering() const ABSL_LOCKS_EXCLUDED(mutex_);

  Reactor& reactor_;
  const std::string peer_;
  std::atomic<size_t> frame_bytes_max_{kFrameBytesMaxUnknownPeer};

  mutable Mutex mutex_;
  int fd_ ABSL_GUARDED_BY(mutex_);
  State state_ ABSL_GUARDED_BY(mutex_) = State::kNew;
  OutQueue out_ ABSL_GUARDED_BY(mutex_);
  int corks_ ABSL_GUARDED_BY(mutex_) = 0;
  bool watches_writes_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::string> write_failure_ ABSL_GUARDED_BY(mutex_);
  bool in_handler_ ABSL_GUARDED_BY(mutex_) = false;  // The polling thread uses the descriptor.
  std::shared_ptr<Callbacks> callbacks_ ABSL_GUARDED_BY(mutex_);

  int read_fd_ = -1;  // fd_, for the polling thread while it is in the handler.
  Buffer small_;      // Frames that fit, and the beginnings of others.
  Buffer large_;      // One frame longer than small_, without its header; capacity 0: none.
};

void FrameConnection::Impl::Start(OnFrame on_frame, OnClose on_close) {
  MutexLock lock(&mutex_);
  if (state_ != State::kNew) return;
  callbacks_ = std::make_shared<Callbacks>(Callbacks{std::move(on_frame), std::move(on_close)});
  Watch(State::kOpen);
}

void FrameConnection::Impl::Watch(State state) {
  state_ = state;
  watches_writes_ = !out_.empty();
  reactor_.Add(fd_, EPOLLIN | (watches_writes_ ? EPOLLOUT : 0u),
               [self = shared_from_this()](uint32_t events) { self->OnEvents(events); });
  if (write_failure_.has_value()) {
    reactor_.At(absl::InfinitePast(), [self = shared_from_this()] { self->OnWriteFailed(); });
  }
}

void FrameConnection::Impl::Send(const google::protobuf::MessageLite& message) {
  const size_t length = message.ByteSizeLong();
  MutexLock lock(&mutex_);
  if (state_ > State::kOpen || write_failure_.has_value()) return;
  if (length > kFrameBytesMax) {
    return FailWrite(
        absl::StrCat("a message of ", length, " bytes is longer than ", kFrameBytesMax));
  }
  char* const frame = out_.Extend(kHeaderBytes + length);
  if (frame == nullptr) return FailWrite(absl::StrCat("no memory for ", length, " bytes"));
  WriteHeader(frame, static_cast<uint32_t>(length));
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(frame + kHeaderBytes));
  if (corks_ == 0 && !watches_writes_) Flush();
}

void FrameConnection::Impl::Cork() {
  MutexLock lock(&mutex_);
  ++corks_;
}

void FrameConnection::Impl::Uncork() {
  MutexLock lock(&mutex_);
  MUSTER_CHECK(corks_ > 0);
  --corks_;
  if (corks_ == 0 && !watches_writes_) Flush();
}

void FrameConnection::Impl::Flush() {
  while (!out_.empty() && fd_ >= 0 && state_ != State::kClosed) {
    std::array<iovec, kIoVectors> vectors;
    msghdr message = {};
    message.msg_iov = vectors.data();
    message.msg_iovlen = static_cast<size_t>(out_.Fill(vectors));
    size_t offered = 0;
    for (size_t i = 0; i < message.msg_iovlen; ++i) offered += vectors[i].iov_len;
    const ssize_t written = sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return WatchWrites(true);
      return FailWrite(CauseOf(errno));
    }
    out_.Advance(static_cast<size_t>(written));
    if (static_cast<size_t>(written) < offered) return WatchWrites(true);
  }
  WatchWrites(false);
  if (out_.empty() && state_ == State::kFlushing) Linger();
}

void FrameConnection::Impl::WatchWrites(bool wanted) {
  if (wanted == watches_writes_ || state_ == State::kNew || state_ == State::kClosed) return;
  watches_writes_ = wanted;
  reactor_.Modify(fd_, EPOLLIN | (wanted ? EPOLLOUT : 0u));
}

// The polling thread reports it, after what the peer sent before it broke.
void FrameConnection::Impl::FailWrite(std::string cause) {
  write_failure_ = std::move(cause);
  WatchWrites(false);
  if (state_ == State::kNew) return;
  reactor_.At(absl::InfinitePast(), [self = shared_from_this()] { self->OnWriteFailed(); });
}

void FrameConnection::Impl::OnWriteFailed() {
  OnEvents(EPOLLIN);
  std::string cause;
  {
    MutexLock lock(&mutex_);
    if (state_ == State::kClosed) return;
    cause = *write_failure_;
  }
  if (!Enter()) return;
  End(absl::UnavailableError(absl::StrCat("cannot write to ", peer_, ": ", cause)));
  Leave();
}

void FrameConnection::Impl::Linger() {
  state_ = State::kLingering;
  shutdown(fd_, SHUT_WR);
  reactor_.At(MonotonicNow() + kLingerFor, [weak = weak_from_this()] {
    if (const std::shared_ptr<Impl> self = weak.lock()) self->Close();
  });
}

void FrameConnection::Impl::Close() {
  std::shared_ptr<Callbacks> freed;
  MutexLock lock(&mutex_);
  freed = CloseLocked();
}

std::shared_ptr<FrameConnection::Impl::Callbacks> FrameConnection::Impl::CloseLocked() {
  if (state_ == State::kClosed) return nullptr;
  state_ = State::kClosed;
  out_.Clear();
  reactor_.Remove(fd_);
  CloseFdIfIdle();
  return std::move(callbacks_);
}

// While the polling thread uses the descriptor its number must not be given to another.
void FrameConnection::Impl::CloseFdIfIdle() {
  if (in_handler_) {
    shutdown(fd_, SHUT_RDWR);
    return;
  }
  close(fd_);
  fd_ = -1;
}

void FrameConnection::Impl::CloseAfterFlush() {
  std::shared_ptr<Callbacks> freed;
  MutexLock lock(&mutex_);
  if (write_failure_.has_value()) {
    freed = CloseLocked();
    return;
  }
  if (state_ != State::kNew && state_ != State::kOpen) return;
  if (state_ == State::kNew) Watch(State::kFlushing);
  state_ = State::kFlushing;
  freed = std::move(callbacks_);
  if (!watches_writes_) Flush();
}

void FrameConnection::Impl::Abandon() {
  std::shared_ptr<Callbacks> freed;
  MutexLock lock(&mutex_);
  if (state_ == State::kNew || state_ == State::kOpen) freed = CloseLocked();
}

size_t FrameConnection::Impl::unsent_bytes() const {
  MutexLock lock(&mutex_);
  return out_.size();
}

int FrameConnection::Impl::fd() const {
  MutexLock lock(&mutex_);
  return state_ == State::kClosed ? -1 : fd_;
}

bool FrameConnection::Impl::Enter() {
  MutexLock lock(&mutex_);
  if (state_ == State::kClosed) return false;
  MUSTER_CHECK(!in_handler_);
  in_handler_ = true;
  read_fd_ = fd_;
  return true;
}

void FrameConnection::Impl::Leave() {
  MutexLock lock(&mutex_);
  in_handler_ = false;
  if (state_ == State::kClosed) CloseFdIfIdle();
}

void FrameConnection::Impl::OnEvents(uint32_t events) {
  if (!Enter()) return;
  if (events & EPOLLOUT) {
    MutexLock lock(&mutex_);
    if (!write_failure_.has_value()) Flush();
  }
  if (events & ~static_cast<uint32_t>(EPOLLOUT)) Read();
  Leave();
}

bool FrameConnection::Impl::IsLingering() const {
  MutexLock lock(&mutex_);
  return state_ == State::kFlushing || state_ == State::kLingering;
}

std::shared_ptr<FrameConnection::Impl::Callbacks> FrameConnection::Impl::CallbacksIfOpen() {
  MutexLock lock(&mutex_);
  return state_ == State::kOpen ? callbacks_ : nullptr;
}

void FrameConnection::Impl::Read() {
  for (size_t round = 0; round < kReadPerRound;) {
    if (small_.bytes == nullptr && !small_.Allocate(kReadBytes + kHeaderBytes)) {
      return End(absl::ResourceExhaustedError("no memory to read with"));
    }
    Buffer& buffer = large_.capacity > 0 ? large_ : small_;
    const size_t room = buffer.capacity - buffer.filled;
    const ssize_t got = recv(read_fd_, buffer.bytes.get() + buffer.filled, room, MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      return End(absl::UnavailableError(absl::StrCat(peer_, ": ", CauseOf(errno))));
    }
    if (got == 0) return OnEof();
    buffer.filled += static_cast<size_t>(got);
    round += static_cast<size_t>(got);
    if (!Deliver()) return;
    if (static_cast<size_t>(got) < room) return;  // Drained; what comes later makes it ready again.
  }
}

bool FrameConnection::Impl::Deliver() {
  if (large_.capacity > 0) {
    if (large_.filled < large_.capacity) return true;
    const Buffer frame = std::exchange(large_, Buffer());
    return DeliverOne(absl::string_view(frame.bytes.get(), frame.filled));
  }
  size_t at = 0;
  while (small_.filled - at >= kHeaderBytes) {
    const char* header = small_.bytes.get() + at;
    if (std::memcmp(header, kMagic, sizeof(kMagic)) != 0) {
      End(absl::InvalidArgumentError(absl::StrCat(peer_, " sent something that is not a frame")));
      return false;
    }
    const size_t length = ReadLength(header);
    const size_t longest = frame_bytes_max_;
    if (length > longest) {
      End(absl::InvalidArgumentError(absl::StrCat(peer_, " sent a frame of ", length,
                                                  " bytes; at most ", longest, " are allowed")));
      return false;
    }
    const size_t here = std::min(small_.filled - at - kHeaderBytes, length);
    if (here < length && length > kReadBytes) {
      if (!large_.Allocate(length)) {
        End(absl::ResourceExhaustedError(
            absl::StrCat("no memory for a frame of ", length, " bytes from ", peer_)));
        return false;
      }
      std::memcpy(large_.bytes.get(), header + kHeaderBytes, here);
      large_.filled = here;
      small_.filled = 0;
      return true;
    }
    if (here < length) break;
    if (!DeliverOne(absl::string_view(header + kHeaderBytes, length))) return false;
    at += kHeaderBytes + length;
  }
  // Not even a magic is there: garbage need not be long to be known.
  const size_t rest = small_.filled - at;
  if (std::memcmp(small_.bytes.get() + at, kMagic, std::min(rest, sizeof(kMagic))) != 0) {
    End(absl::InvalidArgumentError(absl::StrCat(peer_, " sent something that is not a frame")));
    return false;
  }
  if (at > 0 && rest > 0) std::memmove(small_.bytes.get(), small_.bytes.get() + at, rest);
  small_.filled = rest;
  return true;
}

bool FrameConnection::Impl::DeliverOne(absl::string_view frame) {
  if (const std::shared_ptr<Callbacks> callbacks = CallbacksIfOpen()) {
    callbacks->on_frame(frame);
    return true;
  }
  return IsLingering();  // Dropped, unless closed.
}

void FrameConnection::Impl::OnEof() {
  size_t unsent = 0;
  {
    MutexLock lock(&mutex_);
    unsent = out_.size();
  }
  if (large_.capacity > 0 || small_.filled > 0) {
    End(absl::UnavailableError(absl::StrCat(peer_, " closed in the middle of a frame")));
  } else if (unsent > 0) {
    End(absl::UnavailableError(absl::StrCat(peer_, " closed before it read ", unsent, " bytes")));
  } else {
    End(absl::OkStatus());
  }
}

void FrameConnection::Impl::End(absl::Status why) {
  std::shared_ptr<Callbacks> callbacks;
  {
    MutexLock lock(&mutex_);
    callbacks = CloseLocked();
  }
  if (callbacks != nullptr) callbacks->on_close(std::move(why));
}

FrameConnection::FrameConnection(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FrameConnection::~FrameConnection() { impl_->Abandon(); }

std::shared_ptr<FrameConnection> FrameConnection::Adopt(Reactor& reactor, int fd,
                                                        std::string peer) {
  const int flags = fcntl(fd, F_GETFL);
  MUSTER_CHECK(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
  if (peer.empty()) peer = PeerName(fd);
  return std::shared_ptr<FrameConnection>(
      new FrameConnection(std::make_shared<Impl>(reactor, fd, std::move(peer))));
}

void FrameConnection::Start(OnFrame on_frame, OnClose on_close) {
  impl_->Start(std::move(on_frame), std::move(on_close));
}
void FrameConnection::Send(const google::protobuf::MessageLite& message) { impl_->Send(message); }
void FrameConnection::Cork() { impl_->Cork(); }
void FrameConnection::Uncork() { impl_->Uncork(); }
void FrameConnection::Close() { impl_->Close(); }
void FrameConnection::CloseAfterFlush() { impl_->CloseAfterFlush(); }
void FrameConnection::set_frame_bytes_max(size_t bytes) { impl_->set_frame_bytes_max(bytes); }
size_t FrameConnection::unsent_bytes() const { return impl_->unsent_bytes(); }
int FrameConnection::fd() const { return impl_->fd(); }
const std::string& FrameConnection::peer() const { return impl_->peer(); }

}  // namespace muster
