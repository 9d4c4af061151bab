#include "scheduler/sharing.h"

#include <gtest/gtest.h>

#include <string>

#include "scheduler/choice.h"

namespace muster::sched {
namespace {

std::string ErrorOf(absl::string_view text) {
  const absl::StatusOr<Quota> quota = ParseQuota(text);
  return quota.ok() ? "" : std::string(quota.status().message());
}

TEST(QuotaTest, TextSaysWhoseOfWhatAndWhere) {
  const absl::StatusOr<Quota> quota = ParseQuota(
      "h100:tenant=research,gpus=8,memory=1GiB,resource.license=0.5,"
      "ray.io/accelerator-type=in(H100,H200),zone=!a,!b");
  ASSERT_TRUE(quota.ok()) << quota.status();
  EXPECT_EQ(quota->name, "h100");
  EXPECT_EQ(quota->tenant, "research");
  EXPECT_EQ(quota->limits.at("gpus"), 8 * Amount::kUnit);
  EXPECT_EQ(quota->limits.at("memory"), int64_t{1} << 30);
  EXPECT_EQ(quota->limits.at("license"), Amount::kUnit / 2);
  EXPECT_TRUE(quota->selector.Matches({{"ray.io/accelerator-type", "H200"}, {"zone", "c"}}));
  EXPECT_FALSE(quota->selector.Matches({{"ray.io/accelerator-type", "H200"}, {"zone", "b"}}));
  EXPECT_FALSE(quota->selector.Matches({{"ray.io/accelerator-type", "L4"}, {"zone", "c"}}));
}

TEST(QuotaTest, RefusesWhatLimitsNothingOrNobody) {
  EXPECT_NE(ErrorOf("gpus=1"), "");  // No name before ":".
  EXPECT_EQ(ErrorOf("q:zone=a"),
            "quota q: 0 limits; allowed: 1 to 64 of cpus, gpus, memory, resource.NAME");
  EXPECT_EQ(ErrorOf("q:tenant=a,job=b,gpus=1"), "quota q: give a tenant or a job, not both");
  EXPECT_EQ(ErrorOf("q:gpus=-1").substr(0, 20), "quota \"q\": gpus=-1: ");
  EXPECT_NE(ErrorOf("q:gpus"), "");
  EXPECT_NE(ErrorOf("q r:gpus=1"), "");
  EXPECT_EQ(ErrorOf("q:gpus=1,zone=in(").substr(0, 32), "quota \"q\": label selector \"zone\"");
}

TEST(SharingTest, WordsParseToThemselves) {
  for (const Ordering ordering : {Ordering::kFair, Ordering::kFifo}) {
    EXPECT_EQ(*ParseOrdering(ToString(ordering)), ordering);
  }
  for (const Backfill backfill :
       {Backfill::kGreedy, Backfill::kNone, Backfill::kEasy, Backfill::kConservative}) {
    EXPECT_EQ(*ParseBackfill(ToString(backfill)), backfill);
  }
  EXPECT_EQ(ParseBackfill("x").status().message(),
            "backfill: \"x\" is unknown; allowed: greedy, none, easy, conservative");
}

TEST(SharingTest, WeightsAreThousandths) {
  EXPECT_EQ(*ParseWeight("2.5"), 2500);
  EXPECT_EQ(WeightToText(2500), "2.5");
  for (const char* wrong : {"0", "-1", "0.0001", "1000001", "x", ""}) {
    EXPECT_FALSE(ParseWeight(wrong).ok()) << wrong;
  }
}

TEST(SharingTest, NamesFitFlagsAndTables) {
  EXPECT_TRUE(ValidateTenantName("tenant", "").ok());
  EXPECT_TRUE(ValidateTenantName("tenant", "team/one_2.x").ok());
  for (const char* wrong : {"a b", "a,b", "a:b", "a=b", "\n", "\xc3\xa9"}) {
    EXPECT_FALSE(ValidateTenantName("tenant", wrong).ok()) << wrong;
  }
  EXPECT_FALSE(ValidateTenantName("tenant", std::string(kTenantNameMax + 1, 'a')).ok());
}

}  // namespace
}  // namespace muster::sched
