#include "runtime/cli/address.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster::cli {
namespace {

using ::testing::HasSubstr;

std::string Parsed(absl::string_view text) {
  const absl::StatusOr<HostPort> address = ParseAddress(text);
  return address.ok() ? ToText(*address) : "refused";
}

TEST(AddressTest, ParsesHostsWithAndWithoutAPort) {
  EXPECT_EQ(Parsed("10.0.0.1:6380"), "10.0.0.1:6380");
  EXPECT_EQ(Parsed("head.svc"), "head.svc:6379");
  EXPECT_EQ(Parsed("[::1]:6380"), "[::1]:6380");
  EXPECT_EQ(Parsed("[::1]"), "[::1]:6379");
}

TEST(AddressTest, RefusesWhatIsNoAddress) {
  for (const char* text : {"", ":6379", "a:", "a:0", "a:65536", "a:-1", "a:x", "a:1:2", "[::1",
                           "[::1]6379", "a b:1", "http://a:1", "a,b:1", "a:99999999999999999999"}) {
    EXPECT_EQ(Parsed(text), "refused") << text;
  }
  EXPECT_THAT(std::string(ParseAddress("a:x").status().message()),
              HasSubstr("address \"a:x\": must be HOST:PORT"));
}

TEST(AddressTest, OptionWinsOverEnvironmentOverDefault) {
  unsetenv("MUSTER_ADDRESS");
  EXPECT_EQ(ToText(*HeadAddress("")), "127.0.0.1:6379");
  setenv("MUSTER_ADDRESS", "10.0.0.1:1", 1);
  EXPECT_EQ(ToText(*HeadAddress("")), "10.0.0.1:1");
  EXPECT_EQ(ToText(*HeadAddress("10.0.0.2:2")), "10.0.0.2:2");
  setenv("MUSTER_ADDRESS", "10.0.0.1:x", 1);
  EXPECT_THAT(std::string(HeadAddress("").status().message()), HasSubstr("MUSTER_ADDRESS: "));
  unsetenv("MUSTER_ADDRESS");
}

TEST(AddressTest, LoopbackIsAllOfItAndNothingElse) {
  for (const char* host : {"127.0.0.1", "127.8.9.1", "localhost", "::1"})
    EXPECT_TRUE(IsLoopback(host)) << host;
  for (const char* host :
       {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "127.0.0.1.example.org", "localhost.org", ""}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(AddressTest, OneHeadHasSeveralNamesOnItsOwnMachineOnly) {
  EXPECT_TRUE(SameHead({"127.0.0.1", 1}, {"localhost", 1}));
  EXPECT_TRUE(SameHead({"0.0.0.0", 1}, {"127.0.0.1", 1}));
  EXPECT_TRUE(SameHead({"10.0.0.1", 1}, {"10.0.0.1", 1}));
  EXPECT_FALSE(SameHead({"127.0.0.1", 1}, {"127.0.0.1", 2}));
  EXPECT_FALSE(SameHead({"127.0.0.1", 1}, {"10.0.0.1", 1}));
  EXPECT_FALSE(SameHead({"0.0.0.0", 1}, {"10.0.0.1", 1}));
}

TEST(AddressTest, NodesOfAHeadOnLoopbackAreReachedThere) {
  EXPECT_EQ(OwnAddressTowards({"127.0.0.1", 6379}), "127.0.0.1");
  EXPECT_EQ(OwnAddressTowards({"localhost", 6379}), "127.0.0.1");
}

}  // namespace
}  // namespace muster::cli
