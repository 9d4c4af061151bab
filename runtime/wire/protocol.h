// Which wire protocol this build speaks, how both ends refuse another, and who may talk at all.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "muster/v1/common.pb.h"

namespace muster {

inline constexpr uint32_t kProtocolMajor = 1;
inline constexpr char kVersion[] = "0.1.0";
// The longest message of links 1 and 2. What is longer breaks the stream.
inline constexpr size_t kLinkMessageBytesMax = size_t{64} * 1024 * 1024;

// With the token of MUSTER_AUTH_TOKEN, else of the file MUSTER_AUTH_TOKEN_PATH, else of
// RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH; the file is read at each call. A file that cannot be read
// is a warning, and no token.
v1::Protocol OurProtocol();

// Whether the peer may talk to us: we ask for no token, or it has the same. Takes the same time for
// every wrong token. Where our token's file cannot be read nobody may.
bool TokenMatches(const v1::Protocol& theirs);
// kUnauthenticated: "the head at 10.0.0.1:6379 asks for a token: set MUSTER_AUTH_TOKEN or
// MUSTER_AUTH_TOKEN_PATH". `us` as below.
absl::Status CheckToken(const v1::Protocol& theirs, absl::string_view us);

// kFailedPrecondition: "this program speaks muster protocol 2, the head at 10.0.0.1:6379 speaks 1:
// rebuild it, or upgrade the head". `them` and `us` are names, "the head at ..." or "this program";
// a head that refuses a driver says CheckProtocol(theirs, "this program", "the head at ..."), since
// the driver prints it.
absl::Status CheckProtocol(const v1::Protocol& theirs, const std::string& them,
                           const std::string& us = "this program");

// What a head asks of whoever says its protocol first: CheckProtocol() and CheckToken(), as the one
// refused prints it.
absl::Status CheckPeer(const v1::Protocol& theirs, const std::string& head_address);

// `text` with every byte that is not UTF-8 replaced by '?': a proto `string` that is not UTF-8
// cannot be parsed and would end the link. For whatever others wrote: output of tasks, texts of
// exceptions, paths.
std::string ToUtf8(absl::string_view text);

absl::Status FromProto(const v1::Status& status);  // An unknown code is kUnknown.
v1::Status ToProto(const absl::Status& status);

}  // namespace muster
