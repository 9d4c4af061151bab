#include "runtime/client/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace muster::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Taken {
  absl::Status status;
  InitOptions options;
  std::vector<std::string> left;
};

Taken Take(std::vector<std::string> arguments, InitOptions options = {}) {
  arguments.insert(arguments.begin(), "program");
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int argc = static_cast<int>(arguments.size());
  Taken taken = {.status = TakeFlags(argc, argv.data(), options), .options = options, .left = {}};
  for (int i = 0; i < argc; ++i) taken.left.emplace_back(argv[static_cast<size_t>(i)]);
  EXPECT_EQ(argv[static_cast<size_t>(argc)], nullptr);
  return taken;
}

TEST(FlagsTest, TakesItsOwnAndLeavesTheRestInOrder) {
  const Taken taken =
      Take({"a", "--muster-address=10.0.0.1:6379", "--verbose", "--muster-num-cpus", "2.5", "b",
            "--muster-num-gpus=3", "--muster-reconnect=5m", "--muster-labels=zone=a,spot="});
  ASSERT_TRUE(taken.status.ok()) << taken.status;
  EXPECT_THAT(taken.left, ElementsAre("program", "a", "--verbose", "b"));
  EXPECT_EQ(taken.options.address, "10.0.0.1:6379");
  EXPECT_EQ(taken.options.num_cpus, 2.5);
  EXPECT_EQ(taken.options.num_gpus, 3);
  EXPECT_EQ(taken.options.reconnect_timeout, absl::Minutes(5));
  EXPECT_EQ(taken.options.labels,
            (std::map<std::string, std::string>{{"zone", "a"}, {"spot", ""}}));
}

TEST(FlagsTest, WithoutFlagsNothingChanges) {
  const Taken taken = Take({"x", "-v"}, {.address = "a:1", .num_cpus = 7});
  ASSERT_TRUE(taken.status.ok());
  EXPECT_THAT(taken.left, ElementsAre("program", "x", "-v"));
  EXPECT_EQ(taken.options.address, "a:1");
  EXPECT_EQ(taken.options.num_cpus, 7);
  EXPECT_EQ(taken.options.reconnect_timeout, absl::Seconds(60));
}

TEST(FlagsTest, AFlagWinsOverTheOptionAndTheLastFlagCounts) {
  const Taken taken = Take({"--muster-address=b:2", "--muster-address=c:3"}, {.address = "a:1"});
  EXPECT_EQ(taken.options.address, "c:3");
}

TEST(FlagsTest, StopsAtTwoDashes) {
  const Taken taken = Take({"--muster-num-gpus=1", "--", "--muster-num-gpus=2", "--muster-what"});
  ASSERT_TRUE(taken.status.ok()) << taken.status;
  EXPECT_EQ(taken.options.num_gpus, 1);
  EXPECT_THAT(taken.left, ElementsAre("program", "--", "--muster-num-gpus=2", "--muster-what"));
}

TEST(FlagsTest, AddressesMayBeNamesOrInBrackets) {
  EXPECT_EQ(Take({"--muster-address=head.muster.svc:6379"}).options.address,
            "head.muster.svc:6379");
  EXPECT_EQ(Take({"--muster-address=[::1]:6379"}).options.address, "[::1]:6379");
}

struct Wrong {
  std::vector<std::string> arguments;
  std::string says;
};
class WrongFlagsTest : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongFlagsTest, IsSaidInOneLineAndChangesNothing) {
  const Taken taken = Take(GetParam().arguments, {.address = "a:1"});
  EXPECT_EQ(taken.status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(taken.status.message());
  EXPECT_THAT(message, HasSubstr(GetParam().says));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_EQ(taken.options.address, "a:1");
  EXPECT_EQ(taken.left.size(), GetParam().arguments.size() + 1);
}

INSTANTIATE_TEST_SUITE_P(
    Flags, WrongFlagsTest,
    ::testing::Values(Wrong{{"--muster-adress=h:1"},
                            "there is no flag --muster-adress; there are --muster-address,"},
                      Wrong{{"--muster-address=x:1", "--muster-what"},
                            "there is no flag --muster-what"},
                      Wrong{{"--muster-address"}, "--muster-address wants a value"},
                      Wrong{{"--muster-address", "--verbose"}, "--muster-address wants a value"},
                      Wrong{{"--muster-address="}, "--muster-address wants HOST:PORT"},
                      Wrong{{"--muster-address=host"}, "wants HOST:PORT"},
                      Wrong{{"--muster-address=:6379"}, "wants HOST:PORT"},
                      Wrong{{"--muster-address=host:0"}, "wants HOST:PORT"},
                      Wrong{{"--muster-address=host:65536"}, "wants HOST:PORT"},
                      Wrong{{"--muster-address=host:http"}, "wants HOST:PORT"},
                      Wrong{{"--muster-reconnect=60"},
                            "--muster-reconnect=60: --muster-reconnect wants a duration"},
                      Wrong{{"--muster-reconnect=-1s"}, "wants a duration"},
                      Wrong{{"--muster-num-cpus=0"}, "wants a number above 0"},
                      Wrong{{"--muster-num-cpus=nan"}, "wants a number above 0"},
                      Wrong{{"--muster-num-cpus=inf"}, "wants a number above 0"},
                      Wrong{{"--muster-num-cpus=two"}, "wants a number above 0"},
                      Wrong{{"--muster-num-gpus=-1"}, "wants a whole number"},
                      Wrong{{"--muster-num-gpus=0.5"}, "wants a whole number"},
                      Wrong{{"--muster-labels=zone"}, "not \"zone\""},
                      Wrong{{"--muster-labels=a=b,=c"}, "not \"=c\""},
                      Wrong{{"--muster-labels=a=b,a=c"}, "has the key \"a\" twice"}));

TEST(AddressToUseTest, OptionThenVariableThenNone) {
  EXPECT_EQ(AddressToUse({.address = "a:1"}, "b:2"), "a:1");
  EXPECT_EQ(AddressToUse({}, "b:2"), "b:2");
  EXPECT_EQ(AddressToUse({}, ""), "");
  EXPECT_EQ(AddressToUse({}, nullptr), "");
}

}  // namespace
}  // namespace muster::client
