#include "scheduler/resources.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace muster::sched {
namespace {

constexpr int64_t kUnit = Amount::kUnit;

TEST(ResourcesTest, DoublesBecomeExactAmounts) {
  EXPECT_EQ(*AmountFromDouble("cpus", 0), 0);
  EXPECT_EQ(*AmountFromDouble("cpus", 0.1), 1000);
  EXPECT_EQ(*AmountFromDouble("cpus", 0.0001), 1);
  EXPECT_EQ(*AmountFromDouble("cpus", 1.0 / 4), 2500);
  EXPECT_EQ(*AmountFromDouble("cpus", 128), 128 * kUnit);
  for (int i = 0; i <= 10000; ++i) EXPECT_EQ(*AmountFromDouble("cpus", i / 10000.0), i);
}

TEST(ResourcesTest, OddDoublesAreRefused) {
  EXPECT_EQ(AmountFromDouble("cpus", -1).status().message(), "cpus=-1: must not be negative");
  EXPECT_EQ(AmountFromDouble("gpus", std::nan("")).status().message(), "gpus=nan: is not a number");
  EXPECT_EQ(AmountFromDouble("cpus", 0.00005).status().message(),
            "cpus=5e-05: is finer than 1/10000");
  EXPECT_FALSE(AmountFromDouble("cpus", 1.0 / 3).ok());
  EXPECT_FALSE(AmountFromDouble("cpus", 1e10).ok());
  EXPECT_FALSE(AmountFromDouble("cpus", std::numeric_limits<double>::infinity()).ok());
}

TEST(ResourcesTest, TextIsExact) {
  EXPECT_EQ(*ParseAmount("cpus", "0.0001"), 1);
  EXPECT_EQ(*ParseAmount("cpus", "0.50000"), 5000);
  EXPECT_EQ(*ParseAmount("cpus", "1000000000"), Amount::kMax);
  for (const char* text : {"", "-1", "1e3", "0.00001", ".5", "5.", "1000000001", "nan", " 1", "1,5",
                           "99999999999999999999999999"}) {
    EXPECT_FALSE(ParseAmount("cpus", text).ok()) << text;
  }
  EXPECT_EQ(AmountToText(5000), "0.5");
  EXPECT_EQ(AmountToText(1), "0.0001");
  EXPECT_EQ(AmountToText(-15000), "-1.5");
  EXPECT_EQ(AmountToText(3 * kUnit), "3");
}

TEST(ResourcesTest, MemoryHasUnits) {
  EXPECT_EQ(*ParseMemory("8GiB"), int64_t{8} << 30);
  EXPECT_EQ(*ParseMemory("1.5GiB"), int64_t{3} << 29);
  EXPECT_EQ(*ParseMemory("512MiB"), int64_t{512} << 20);
  EXPECT_EQ(*ParseMemory("64KiB"), int64_t{64} << 10);
  EXPECT_EQ(*ParseMemory("1TiB"), int64_t{1} << 40);
  EXPECT_EQ(*ParseMemory("1000"), 1000);
  for (const char* text : {"", "8GB", "8 GiB", "GiB", "-1", "0.3", "2000000TiB"}) {
    EXPECT_FALSE(ParseMemory(text).ok()) << text;
  }
  EXPECT_EQ(MemoryToText(int64_t{8} << 30), "8 GiB");
  EXPECT_EQ(MemoryToText(int64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(MemoryToText(int64_t{512} << 20), "512 MiB");
  EXPECT_EQ(MemoryToText(1000), "1000 bytes");
}

TEST(ResourcesTest, GpusAboveOneAreWhole) {
  EXPECT_TRUE(MakeResources(1, 0.5, 0, {}).ok());
  EXPECT_TRUE(MakeResources(1, 2, 0, {}).ok());
  EXPECT_EQ(MakeResources(1, 1.5, 0, {}).status().message(),
            "gpus=1.5: above 1 must be whole: a fraction is a share of one device");
}

TEST(ResourcesTest, CustomResourcesAreValidated) {
  EXPECT_EQ(MakeResources(0, 0, 0, {{"license", 0.5}, {"none", 0}})->custom,
            (absl::btree_map<std::string, int64_t>{{"license", 5000}}));
  EXPECT_FALSE(MakeResources(0, 0, 0, {{"", 1}}).ok());
  EXPECT_FALSE(MakeResources(0, 0, 0, {{"a b", 1}}).ok());
  EXPECT_EQ(MakeResources(0, 0, 0, {{"license", -1}}).status().message(),
            "resource.license=-1: must not be negative");
  EXPECT_FALSE(MakeResources(0, 0, -1, {}).ok());
}

TEST(ResourcesTest, TextForPeople) {
  EXPECT_EQ(ToText(*MakeResources(1, 1, int64_t{8} << 30, {{"license", 2}})),
            "1 CPU, 1 GPU, 8 GiB memory, 2 license");
  EXPECT_EQ(ToText(*MakeResources(0.5, 2, 0, {})), "0.5 CPU, 2 GPUs");
  EXPECT_EQ(ToText(Resources{}), "nothing");
}

}  // namespace
}  // namespace muster::sched
