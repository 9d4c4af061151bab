// Where the head is: "host:port" as it is typed, found in the environment, and compared.
// Thread-safety: free functions.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::cli {

inline constexpr int kDefaultPort = 6379;

struct HostPort {
  std::string host = "127.0.0.1";  // Without the brackets of an IPv6 address.
  int port = kDefaultPort;
};

// "10.0.0.1:6379", "head", "[::1]:6379". Errors: kInvalidArgument naming the text.
absl::StatusOr<HostPort> ParseAddress(absl::string_view text);
std::string ToText(const HostPort& address);

// `given` (of --address), else MUSTER_ADDRESS, else 127.0.0.1:6379.
absl::StatusOr<HostPort> HeadAddress(const std::string& given);

bool IsLoopback(absl::string_view host);

// Whether both may mean the same head of this machine: equal, or loopback (also by 0.0.0.0) at one
// port.
bool SameHead(const HostPort& a, const HostPort& b);

// This machine's address on the way to `head`, which is where others reach it; 127.0.0.1 for a head
// that is on loopback. Without a route to it: on the way to the internet, and 127.0.0.1 without
// that too.
std::string OwnAddressTowards(const HostPort& head);

}  // namespace muster::cli
