#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/wire/frame_connection.h"
#include "scheduler/base/status_macros.h"

namespace muster {
namespace {

std::string ErrnoText(int error) { return strerrordesc_np(error); }

struct UnixAddress {
  sockaddr_un address = {};
  socklen_t length = 0;
};

absl::StatusOr<UnixAddress> AbstractAddress(absl::string_view name) {
  UnixAddress result;
  if (name.empty() || name.size() >= sizeof(result.address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket name \"", name, "\": 1 to ",
                                                   sizeof(result.address.sun_path) - 1, " bytes"));
  }
  result.address.sun_family = AF_UNIX;
  std::memcpy(result.address.sun_path + 1, name.data(), name.size());
  result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return result;
}

bool SameUser(int fd) {
  ucred credentials = {};
  socklen_t length = sizeof(credentials);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 &&
         credentials.uid == geteuid();
}

// Small frames leave at once, and a machine that is gone is noticed in half a minute.
void SetTcpOptions(int fd) {
  const auto set = [fd](int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;
absl::StatusOr<Addresses> Resolve(const std::string& host, int port, int flags) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(), absl::StrCat(port).c_str(),
                                &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("name not resolved: ", gai_strerror(error)));
  }
  return Addresses(found, &freeaddrinfo);
}

int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

}  // namespace

absl::StatusOr<int> ListenUnixAbstract(absl::string_view name) {
  MUSTER_ASSIGN_OR_RETURN(const UnixAddress address, AbstractAddress(name));
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 ||
      bind(fd, reinterpret_cast<const sockaddr*>(&address.address), address.length) != 0 ||
      listen(fd, SOMAXCONN) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    const std::string text =
        absl::StrCat("cannot listen on the Unix socket @", name, ": ", ErrnoText(error));
    return error == EADDRINUSE ? absl::AlreadyExistsError(text) : absl::UnavailableError(text);
  }
  return fd;
}

absl::StatusOr<int> ConnectUnixAbstract(absl::string_view name) {
  MUSTER_ASSIGN_OR_RETURN(const UnixAddress address, AbstractAddress(name));
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 ||
      connect(fd, reinterpret_cast<const sockaddr*>(&address.address), address.length) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return absl::UnavailableError(
        absl::StrCat("cannot connect to the Unix socket @", name, ": ",
                     error == EAGAIN ? "too many connections wait there" : ErrnoText(error)));
  }
  if (!SameUser(fd)) {
    close(fd);
    return absl::PermissionDeniedError(
        absl::StrCat("the Unix socket @", name, " belongs to another user"));
  }
  return fd;
}

absl::StatusOr<TcpListener> ListenTcp(const std::string& host, int port) {
  const std::string where = absl::StrCat(host, ":", port);
  if (port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on ", where, ": a port is 0 to 65535"));
  }
  const absl::StatusOr<Addresses> addresses = Resolve(host, port, AI_PASSIVE);
  if (!addresses.ok()) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", where, ": ", addresses.status().message()));
  }
  const addrinfo& address = **addresses;
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int yes = 1;
  // SO_REUSEADDR passes over connections of a process that has ended, not over one that listens.
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      bind(fd, address.ai_addr, address.ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    const std::string text = absl::StrCat("cannot listen on ", where, ": ");
    if (error == EADDRINUSE) {
      return absl::AlreadyExistsError(absl::StrCat(text, "in use by another process"));
    }
    if (error == EACCES) return absl::PermissionDeniedError(absl::StrCat(text, ErrnoText(error)));
    return absl::UnavailableError(absl::StrCat(text, ErrnoText(error)));
  }
  return TcpListener{.fd = fd, .port = PortOf(fd)};
}

absl::StatusOr<int> AcceptFrom(int listener) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  int fd = -1;
  do {
    fd = accept4(listener, reinterpret_cast<sockaddr*>(&address), &length,
                 SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot accept: ", ErrnoText(errno)));
    }
    return absl::UnavailableError("no connection waits");
  }
  if (address.ss_family != AF_UNIX) {
    SetTcpOptions(fd);
  } else if (!SameUser(fd)) {
    close(fd);
    return absl::PermissionDeniedError("another user tried to connect");
  }
  return fd;
}

absl::StatusOr<int> ConnectTcp(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(absl::string_view(address).substr(colon + 1), &port) || port < 1 ||
      port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("address \"", address, "\": not HOST:PORT"));
  }
  std::string host = address.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]"))
    host = host.substr(1, host.size() - 2);
  const absl::StatusOr<Addresses> found = Resolve(host, port, 0);
  if (!found.ok()) {
    return absl::UnavailableError(
        absl::StrCat("cannot connect to ", address, ": ", found.status().message()));
  }
  const addrinfo& first = **found;
  const int fd = socket(first.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0) SetTcpOptions(fd);
  if (fd < 0 || (connect(fd, first.ai_addr, first.ai_addrlen) != 0 && errno != EINPROGRESS)) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return absl::UnavailableError(
        absl::StrCat("cannot connect to ", address, ": ", ErrnoText(error)));
  }
  return fd;
}

}  // namespace muster
