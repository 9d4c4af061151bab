#include "runtime/wire/protocol.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

class ProtocolTest : public testing::Test {
 protected:
  ProtocolTest() { Clear(); }
  ~ProtocolTest() override { Clear(); }
  static void Clear() {
    for (const char* name :
         {"MUSTER_AUTH_TOKEN", "MUSTER_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}) {
      unsetenv(name);
    }
  }
  static v1::Protocol WithToken(const std::string& token) {
    v1::Protocol protocol;
    protocol.set_token(token);
    return protocol;
  }
};

TEST_F(ProtocolTest, OtherMajorVersionIsRefusedInTheProgramsWords) {
  EXPECT_EQ(CheckProtocol(OurProtocol(), "the head at 10.0.0.1:6379"), absl::OkStatus());
  v1::Protocol other;
  other.set_major(2);
  EXPECT_EQ(
      CheckProtocol(other, "the head at 10.0.0.1:6379"),
      absl::FailedPreconditionError(
          "this program speaks muster protocol 1, the head at 10.0.0.1:6379 speaks 2: rebuild "
          "it, or upgrade the head"));
  EXPECT_EQ(
      CheckProtocol(other, "this program", "the head at 10.0.0.1:6379"),
      absl::FailedPreconditionError(
          "this program speaks muster protocol 2, the head at 10.0.0.1:6379 speaks 1: rebuild "
          "it, or upgrade the head"));
}

TEST_F(ProtocolTest, WithoutATokenAnyoneMayTalk) {
  EXPECT_TRUE(TokenMatches(WithToken("")));
  EXPECT_TRUE(TokenMatches(WithToken("anything")));
  EXPECT_EQ(OurProtocol().token(), "");
  EXPECT_EQ(OurProtocol().major(), kProtocolMajor);
}

TEST_F(ProtocolTest, TokenMustBeTheSame) {
  setenv("RAY_AUTH_TOKEN", "rays", 1);
  EXPECT_EQ(OurProtocol().token(), "rays");
  setenv("MUSTER_AUTH_TOKEN", "secret", 1);
  EXPECT_EQ(OurProtocol().token(), "secret");
  EXPECT_TRUE(TokenMatches(WithToken("secret")));
  EXPECT_FALSE(TokenMatches(WithToken("secre")));
  EXPECT_FALSE(TokenMatches(WithToken("")));
  EXPECT_EQ(CheckToken(WithToken(""), "the head at 10.0.0.1:6379"),
            absl::UnauthenticatedError("the head at 10.0.0.1:6379 asks for a token: set "
                                       "MUSTER_AUTH_TOKEN or MUSTER_AUTH_TOKEN_PATH"));
}

TEST_F(ProtocolTest, TokenMayComeFromAFile) {
  const std::string path = testing::TempDir() + "/muster_token";
  std::ofstream(path) << "from-file\n";
  setenv("MUSTER_AUTH_TOKEN_PATH", path.c_str(), 1);
  EXPECT_EQ(OurProtocol().token(), "from-file");
  EXPECT_TRUE(TokenMatches(WithToken("from-file")));
  unlink(path.c_str());
  // Nobody gets in because a file went missing.
  EXPECT_FALSE(TokenMatches(WithToken("from-file")));
  EXPECT_FALSE(TokenMatches(WithToken("")));
}

TEST_F(ProtocolTest, StatusesSurviveTheWire) {
  const absl::Status status = absl::AbortedError("rank 2 died");
  EXPECT_EQ(FromProto(ToProto(status)), status);
  EXPECT_EQ(FromProto(ToProto(absl::OkStatus())), absl::OkStatus());
  v1::Status unknown;
  unknown.set_code(99);
  EXPECT_EQ(FromProto(unknown).code(), absl::StatusCode::kUnknown);
  unknown.set_code(-3);
  EXPECT_EQ(FromProto(unknown).code(), absl::StatusCode::kUnknown);
}

TEST_F(ProtocolTest, TextThatIsNotUtf8IsMadeSo) {
  EXPECT_EQ(ToUtf8("plain"), "plain");
  EXPECT_EQ(ToUtf8("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
            "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(ToUtf8("a\xff"
                   "b\xc3"),
            "a?b?");
  EXPECT_EQ(ToUtf8("\xed\xa0\x80"), "???");  // A surrogate.
  EXPECT_EQ(ToUtf8("\xc0\xaf"), "??");       // Overlong.
  EXPECT_EQ(ToUtf8("\xf4\x90\x80\x80"), "????");
  // What the point is: it parses at the other end.
  v1::Status parsed;
  EXPECT_TRUE(parsed.ParseFromString(ToProto(absl::UnknownError("\xff\xfe")).SerializeAsString()));
}

}  // namespace
}  // namespace muster
