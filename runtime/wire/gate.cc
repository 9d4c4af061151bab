#include "runtime/wire/gate.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/wire/frame_connection.h"

namespace muster {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr absl::Duration kPrefaceWithin = absl::Seconds(10);
constexpr absl::Duration kAcceptAgainAfter = absl::Milliseconds(100);
constexpr size_t kConnectionsMax = 100'000;

std::string PeerOf(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof(host), port,
                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  return address.ss_family == AF_INET6 ? absl::StrCat("[", host, "]:", port)
                                       : absl::StrCat(host, ":", port);
}

// "ipv6:%5B::1%5D:4711" is "[::1]:4711".
std::string FromGrpcPeer(absl::string_view peer) {
  if (const size_t colon = peer.find(':'); colon != absl::string_view::npos) {
    peer.remove_prefix(colon + 1);
  }
  return absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
}

}  // namespace

class Gate::Impl : public std::enable_shared_from_this<Gate::Impl> {
 public:
  Impl(Reactor& reactor, int listener, HandOver hand_over)
      : reactor_(reactor), listener_(listener), hand_over_(std::move(hand_over)) {}

  void Start() {
    reactor_.Add(listener_, EPOLLIN, [self = shared_from_this()](uint32_t) { self->Accept(); });
  }
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteCall(const std::string& peer) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Connection {
    std::string peer;
    std::string begin;
    bool handed_over = false;
    bool called = false;
  };

  void CloseAll() ABSL_LOCKS_EXCLUDED(mutex_);
  void Accept() ABSL_LOCKS_EXCLUDED(mutex_);
  void Admit(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnReadable(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnGone(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsHandedOver(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnLate(int fd, const std::string& peer) ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets and closes it. `why` empty: nothing to say.
  void Drop(int fd, absl::string_view why) ABSL_LOCKS_EXCLUDED(mutex_);

  Reactor& reactor_;
  const int listener_;
  const HandOver hand_over_;

  Mutex mutex_;
  CondVar closed_changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<int, Connection> connections_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, int> fd_of_peer_ ABSL_GUARDED_BY(mutex_);
};

// On the polling thread, where nothing else uses the descriptors.
void Gate::Impl::Stop() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(stopped_, true)) return;
  }
  reactor_.At(absl::InfinitePast(), [self = shared_from_this()] { self->CloseAll(); });
  MutexLock lock(&mutex_);
  while (!closed_) closed_changed_.Wait(&mutex_);
}

void Gate::Impl::CloseAll() {
  std::vector<int> open;
  {
    MutexLock lock(&mutex_);
    for (const auto& [fd, connection] : connections_) open.push_back(fd);
  }
  reactor_.Remove(listener_);
  close(listener_);
  for (const int fd : open) {
    pollfd gone = {fd, 0, 0};
    if (poll(&gone, 1, 0) == 1 && IsHandedOver(fd)) {
      OnGone(fd);
    } else {
      Drop(fd, "");
    }
  }
  MutexLock lock(&mutex_);
  closed_ = true;
  closed_changed_.SignalAll();
}

bool Gate::Impl::IsHandedOver(int fd) {
  MutexLock lock(&mutex_);
  const auto it = connections_.find(fd);
  return it != connections_.end() && it->second.handed_over;
}

void Gate::Impl::NoteCall(const std::string& peer) {
  MutexLock lock(&mutex_);
  const auto it = fd_of_peer_.find(peer);
  if (it != fd_of_peer_.end()) connections_[it->second].called = true;
}

void Gate::Impl::Accept() {
  constexpr int kPerRound = 64;
  for (int i = 0; i < kPerRound; ++i) {
    const absl::StatusOr<int> fd = AcceptFrom(listener_);
    if (absl::IsResourceExhausted(fd.status())) {
      Log(LogLevel::kWarning, fd.status().message());
      reactor_.Modify(listener_, 0);
      reactor_.At(MonotonicNow() + kAcceptAgainAfter, [weak = weak_from_this()] {
        const std::shared_ptr<Impl> self = weak.lock();
        if (self == nullptr) return;
        MutexLock lock(&self->mutex_);
        if (!self->stopped_) self->reactor_.Modify(self->listener_, EPOLLIN);
      });
      return;
    }
    if (!fd.ok()) return;
    Admit(*fd);
  }
}

void Gate::Impl::Admit(int fd) {
  const std::string peer = PeerOf(fd);
  {
    MutexLock lock(&mutex_);
    if (stopped_ || connections_.size() >= kConnectionsMax) {
      close(fd);
      return;
    }
    Connection& connection = connections_[fd];
    connection.peer = peer;
    fd_of_peer_[peer] = fd;
    reactor_.Add(fd, EPOLLIN, [self = shared_from_this(), fd](uint32_t) { self->OnReadable(fd); });
  }
  reactor_.At(MonotonicNow() + kPrefaceWithin, [weak = weak_from_this(), fd, peer] {
    if (const std::shared_ptr<Impl> self = weak.lock()) self->OnLate(fd, peer);
  });
}

void Gate::Impl::OnReadable(int fd) {
  std::array<char, kPreface.size()> bytes;
  std::string begin;
  {
    MutexLock lock(&mutex_);
    const auto it = connections_.find(fd);
    if (it == connections_.end()) return;
    begin = it->second.begin;
  }
  const ssize_t got = recv(fd, bytes.data(), kPreface.size() - begin.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // One that comes and goes without a word is a probe.
  if (got <= 0) {
    return Drop(fd, begin.empty() ? "" : "it closed in the middle of HTTP/2's first line");
  }
  begin.append(bytes.data(), static_cast<size_t>(got));
  if (begin != kPreface.substr(0, begin.size())) {
    return Drop(fd, absl::StrCat("it sent \"", absl::CHexEscape(begin), "\", which is not gRPC"));
  }
  {
    MutexLock lock(&mutex_);
    const auto it = connections_.find(fd);
    if (it == connections_.end()) return;
    it->second.begin = begin;
    if (begin.size() < kPreface.size()) return;
    it->second.handed_over = true;
  }
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return Drop(fd, "no descriptor is left for it");
  // This descriptor stays, to show the end of the connection.
  reactor_.Remove(fd);
  reactor_.Add(fd, EPOLLET, [self = shared_from_this(), fd](uint32_t events) {
    if (events & (EPOLLHUP | EPOLLERR)) self->OnGone(fd);
  });
  hand_over_(own, begin);
}

void Gate::Impl::OnGone(int fd) {
  bool called = false;
  {
    MutexLock lock(&mutex_);
    const auto it = connections_.find(fd);
    if (it == connections_.end()) return;
    called = it->second.called;
  }
  Drop(fd, called ? "" : "it spoke HTTP/2 badly, or asked for nothing");
}

void Gate::Impl::OnLate(int fd, const std::string& peer) {
  {
    MutexLock lock(&mutex_);
    const auto it = connections_.find(fd);
    if (it == connections_.end() || it->second.peer != peer || it->second.handed_over) return;
  }
  Drop(fd, "it said nothing");
}

void Gate::Impl::Drop(int fd, absl::string_view why) {
  std::string peer;
  {
    MutexLock lock(&mutex_);
    const auto it = connections_.find(fd);
    if (it == connections_.end()) return;
    peer = it->second.peer;
    const auto own = fd_of_peer_.find(peer);
    if (own != fd_of_peer_.end() && own->second == fd) fd_of_peer_.erase(own);
    connections_.erase(it);
  }
  reactor_.Remove(fd);
  close(fd);
  if (!why.empty()) Log(LogLevel::kWarning, "closed a connection from ", peer, ": ", why);
}

Gate::Gate(Reactor& reactor, int listener, HandOver hand_over)
    : impl_(std::make_shared<Impl>(reactor, listener, std::move(hand_over))) {}
void Gate::Start() { impl_->Start(); }
Gate::~Gate() { Stop(); }
void Gate::Stop() { impl_->Stop(); }
void Gate::NoteCall(absl::string_view peer) { impl_->NoteCall(FromGrpcPeer(peer)); }

}  // namespace muster
