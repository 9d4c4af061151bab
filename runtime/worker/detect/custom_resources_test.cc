#include "runtime/worker/detect/custom_resources.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::string Error(const std::string& json) {
  const absl::Status status = ParseCustomResources(json).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
  return std::string(status.message());
}

TEST(CustomResourcesTest, AmountsAreExactAndZerosLeftOut) {
  const auto resources =
      ParseCustomResources(R"({"license": 2, "ssd": 0.0001, "none": 0, "big": 1e6})");
  ASSERT_TRUE(resources.ok()) << resources.status();
  EXPECT_THAT(*resources, UnorderedElementsAre(Pair("license", 20000), Pair("ssd", 1),
                                               Pair("big", 10'000'000'000)));
  EXPECT_THAT(ParseCustomResources("").value(), IsEmpty());
  EXPECT_THAT(ParseCustomResources("{}").value(), IsEmpty());
}

TEST(CustomResourcesTest, ErrorsNameTheResourceAndItsValue) {
  EXPECT_THAT(Error("{\"a\": 1"), HasSubstr("not a JSON map of numbers"));
  EXPECT_THAT(Error("[1]"), HasSubstr("not a JSON map of numbers"));
  EXPECT_THAT(Error("{\"a\": 1e400}"), HasSubstr("not a JSON map of numbers"));
  EXPECT_EQ(Error(R"({"a": "1"})"), R"(resources: "a": "1" is not a number)");
  EXPECT_EQ(Error(R"({"a": {"b": 1}})"), R"(resources: "a": {"b":1} is not a number)");
  EXPECT_EQ(Error(R"({"a": true})"), R"(resources: "a": true is not a number)");
  EXPECT_EQ(Error(R"({"a": 1, "b": 2, "a": 3})"), R"(resources: "a" is given twice)");
  EXPECT_EQ(Error(R"({"GPU": 1})"), R"(resources: "GPU" is no custom resource: use --num-gpus)");
  EXPECT_EQ(Error(R"({"cpu": 1})"), R"(resources: "cpu" is no custom resource: use --num-cpus)");
  EXPECT_THAT(Error(R"({"a": -1})"), HasSubstr("a=-1: must not be negative"));
  EXPECT_THAT(Error(R"({"a": 0.00001})"), HasSubstr("finer than 1/10000"));
  EXPECT_THAT(Error(R"({"a": 1e300})"), HasSubstr("too large"));
  EXPECT_THAT(Error(R"({"a b": 1})"), HasSubstr("\"a b\""));
}

TEST(CustomResourcesTest, DeepNestingIsRefusedNotFollowed) {
  EXPECT_THAT(Error(std::string(100'000, '[')), HasSubstr("not a JSON map"));
}

TEST(CustomResourcesProperty, TextParsesToItself) {
  const CustomResources resources = {{"a", 1}, {"b.c/d:e", 25000}, {"f", 10'000'000'000'000}};
  EXPECT_EQ(CustomResourcesToJson(resources), R"({"a": 0.0001, "b.c/d:e": 2.5, "f": 1000000000})");
  EXPECT_EQ(ParseCustomResources(CustomResourcesToJson(resources)).value(), resources);
  EXPECT_EQ(CustomResourcesToJson({}), "{}");
}

}  // namespace
}  // namespace muster::worker
