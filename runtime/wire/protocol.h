// Which wire protocol this build speaks, and how both ends refuse another.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "muster/v1/common.pb.h"

namespace muster {

inline constexpr uint32_t kProtocolMajor = 1;
inline constexpr char kVersion[] = "0.1.0";

v1::Protocol OurProtocol();  // With the token of MUSTER_AUTH_TOKEN / MUSTER_AUTH_TOKEN_PATH, where set.

// kFailedPrecondition: "this program speaks muster protocol 2, the head at 10.0.0.1:6379 speaks 1: rebuild it, or
// upgrade the head". `peer` and `us` are "the head at ..." and "this program" in the right order.
absl::Status CheckProtocol(const v1::Protocol& theirs, const std::string& them);

absl::Status FromProto(const v1::Status& status);
v1::Status ToProto(const absl::Status& status);

}  // namespace muster
