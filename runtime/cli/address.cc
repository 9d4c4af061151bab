#include "runtime/cli/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace muster::cli {
namespace {

bool IsAny(absl::string_view host) { return host.empty() || host == "0.0.0.0" || host == "::"; }

// The local address of a datagram socket towards `host`; nothing is sent. "" where there is no way.
std::string SourceTowards(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found) != 0) return "";
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, &freeaddrinfo);
  const int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return "";
  sockaddr_storage own = {};
  socklen_t length = sizeof(own);
  char text[NI_MAXHOST] = "";
  const bool known = connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
                     getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof(text),
                                 nullptr, 0, NI_NUMERICHOST) == 0;
  close(fd);
  return known ? text : "";
}

}  // namespace

absl::StatusOr<HostPort> ParseAddress(absl::string_view text) {
  const auto wrong = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", absl::Utf8SafeCHexEscape(text.substr(0, 200)),
                     "\": must be HOST:PORT, such as 127.0.0.1:6379"));
  };
  HostPort address;
  absl::string_view host = text;
  absl::string_view port;
  if (absl::StartsWith(text, "[")) {
    const size_t bracket = text.find(']');
    if (bracket == text.npos) return wrong();
    host = text.substr(1, bracket - 1);
    port = text.substr(bracket + 1);
    if (!port.empty() && port.front() != ':') return wrong();
  } else if (const size_t colon = text.find(':'); colon != text.npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  if (host.empty() || host.size() > 255 || host.find_first_of(" \t\n/,@") != host.npos)
    return wrong();
  address.host = std::string(host);
  if (port.empty()) return address;
  port.remove_prefix(1);
  const bool digits = !port.empty() && port.find_first_not_of("0123456789") == port.npos;
  if (!digits || !absl::SimpleAtoi(port, &address.port) || address.port < 1 || address.port > 65535)
    return wrong();
  return address;
}

std::string ToText(const HostPort& address) {
  const bool v6 = absl::StrContains(address.host, ':');
  return absl::StrCat(v6 ? "[" : "", address.host, v6 ? "]:" : ":", address.port);
}

absl::StatusOr<HostPort> HeadAddress(const std::string& given) {
  if (!given.empty()) return ParseAddress(given);
  const char* variable = getenv("MUSTER_ADDRESS");
  if (variable == nullptr || *variable == '\0') return HostPort{};
  absl::StatusOr<HostPort> address = ParseAddress(variable);
  if (address.ok()) return address;
  return absl::InvalidArgumentError(absl::StrCat("MUSTER_ADDRESS: ", address.status().message()));
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  in_addr v4 = {};
  return inet_pton(AF_INET, std::string(host).c_str(), &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

bool SameHead(const HostPort& a, const HostPort& b) {
  if (a.port != b.port) return false;
  const auto here = [](const HostPort& address) {
    return IsLoopback(address.host) || IsAny(address.host);
  };
  return a.host == b.host || (here(a) && here(b));
}

std::string OwnAddressTowards(const HostPort& head) {
  if (IsLoopback(head.host) || IsAny(head.host)) return "127.0.0.1";
  std::string own = SourceTowards(head.host, head.port);
  if (own.empty())
    own = SourceTowards("192.0.2.1", 9);  // For documentation only: any default route will do.
  return own.empty() ? "127.0.0.1" : own;
}

}  // namespace muster::cli
