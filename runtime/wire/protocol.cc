#include "runtime/wire/protocol.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

absl::StatusOr<std::string> ReadToken(const char* path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string token(absl::StripAsciiWhitespace(text));
  if (!file.is_open() || file.bad() || token.empty()) {
    return absl::UnavailableError(absl::StrCat("no token can be read from ", path));
  }
  return token;
}

// Empty: none is set.
absl::StatusOr<std::string> OurToken() {
  for (const char* prefix : {"MUSTER", "RAY"}) {
    const char* token = std::getenv(absl::StrCat(prefix, "_AUTH_TOKEN").c_str());
    if (token != nullptr && *token != '\0') return std::string(token);
    const char* path = std::getenv(absl::StrCat(prefix, "_AUTH_TOKEN_PATH").c_str());
    if (path != nullptr && *path != '\0') return ReadToken(path);
  }
  return std::string();
}

// Digests are compared, so that the time tells nothing of the length either.
bool SameText(const std::string& a, const std::string& b) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest_a;
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest_b;
  SHA256(reinterpret_cast<const unsigned char*>(a.data()), a.size(), digest_a.data());
  SHA256(reinterpret_cast<const unsigned char*>(b.data()), b.size(), digest_b.data());
  return CRYPTO_memcmp(digest_a.data(), digest_b.data(), digest_a.size()) == 0;
}

// Of the UTF-8 sequence that `text` begins with; 0 where it begins with none (overlong forms,
// surrogates and what lies beyond U+10FFFF are none). REQUIRES: !text.empty().
size_t SequenceLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return length;
}

}  // namespace

v1::Protocol OurProtocol() {
  v1::Protocol protocol;
  protocol.set_major(kProtocolMajor);
  protocol.set_version(kVersion);
  absl::StatusOr<std::string> token = OurToken();
  if (token.ok()) {
    protocol.set_token(*std::move(token));
  } else {
    Log(LogLevel::kWarning, token.status().message());
  }
  return protocol;
}

bool TokenMatches(const v1::Protocol& theirs) {
  const absl::StatusOr<std::string> ours = OurToken();
  return ours.ok() && (ours->empty() || SameText(*ours, theirs.token()));
}

absl::Status CheckToken(const v1::Protocol& theirs, absl::string_view us) {
  if (TokenMatches(theirs)) return absl::OkStatus();
  return absl::UnauthenticatedError(
      theirs.token().empty()
          ? absl::StrCat(us, " asks for a token: set MUSTER_AUTH_TOKEN or MUSTER_AUTH_TOKEN_PATH")
          : absl::StrCat(
                us, " has another token: look at MUSTER_AUTH_TOKEN or MUSTER_AUTH_TOKEN_PATH"));
}

absl::Status CheckProtocol(const v1::Protocol& theirs, const std::string& them,
                           const std::string& us) {
  if (theirs.major() == kProtocolMajor) return absl::OkStatus();
  // The head comes second, whoever it is that speaks.
  const bool we_are_head = absl::StartsWith(us, "the head");
  const bool head = we_are_head || absl::StartsWith(them, "the head");
  return absl::FailedPreconditionError(absl::StrCat(
      we_are_head ? them : us, " speaks muster protocol ",
      we_are_head ? theirs.major() : kProtocolMajor, ", ", we_are_head ? us : them, " speaks ",
      we_are_head ? kProtocolMajor : theirs.major(), ": rebuild it, or upgrade ",
      head ? absl::string_view("the head") : absl::string_view(them)));
}

absl::Status CheckPeer(const v1::Protocol& theirs, const std::string& head_address) {
  const std::string head = absl::StrCat("the head at ", head_address);
  const absl::Status protocol = CheckProtocol(theirs, "this program", head);
  return protocol.ok() ? CheckToken(theirs, head) : protocol;
}

std::string ToUtf8(absl::string_view text) {
  std::string utf8;
  utf8.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = SequenceLength(text.substr(i));
    if (length == 0) {
      utf8.push_back('?');
      ++i;
    } else {
      utf8.append(text.data() + i, length);
      i += length;
    }
  }
  return utf8;
}

absl::Status FromProto(const v1::Status& status) {
  if (status.code() == 0) return absl::OkStatus();
  const bool known = status.code() > 0 && status.code() <= 16;
  return absl::Status(
      known ? static_cast<absl::StatusCode>(status.code()) : absl::StatusCode::kUnknown,
      status.message());
}

v1::Status ToProto(const absl::Status& status) {
  v1::Status proto;
  proto.set_code(static_cast<int32_t>(status.code()));
  proto.set_message(ToUtf8(status.message()));
  return proto;
}

}  // namespace muster
