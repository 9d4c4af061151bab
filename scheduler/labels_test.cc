#include "scheduler/labels.h"

#include <gtest/gtest.h>

namespace muster::sched {
namespace {

TEST(LabelsTest, ReadsBothForms) {
  const Labels expected = {{"pool", "x"}, {"zone", ""}};
  EXPECT_EQ(*ParseLabels("pool=x,zone="), expected);
  EXPECT_EQ(*ParseLabels(R"({"pool": "x", "zone": ""})"), expected);
  EXPECT_TRUE(ParseLabels("")->empty());
}

TEST(LabelsTest, ErrorsNameWhatIsWrong) {
  const auto error = [](absl::string_view text) {
    return std::string(ParseLabels(text).status().message());
  };
  EXPECT_EQ(error("zone"),
            "labels: \"zone\" is not key=value; allowed: k=v,k2=v2 or {\"k\": \"v\"}");
  EXPECT_EQ(error("zone=a,zone=b"), "labels: \"zone\" is given twice");
  EXPECT_EQ(
      error("zone=a b"),
      "label \"zone\": \"a b\" is not a label value: at most 63 letters, digits, \"-\", \"_\" or "
      "\".\", beginning and ending with a letter or digit");
  EXPECT_FALSE(ParseLabels("=a").ok());
  EXPECT_FALSE(ParseLabels("zone=a,").ok());
  EXPECT_FALSE(ParseLabels("zone=" + std::string(64, 'a')).ok());
  EXPECT_TRUE(ParseLabels("zone=" + std::string(63, 'a')).ok());
}

TEST(LabelsTest, AliasesAreKeptEqual) {
  const Labels labels = *ParseLabels("ray.io/accelerator=L4,ray.io/availability-zone=a");
  EXPECT_EQ(labels, (Labels{{"ray.io/accelerator", "L4"},
                            {"ray.io/accelerator-type", "L4"},
                            {"ray.io/availability-zone", "a"},
                            {"ray.io/zone", "a"}}));
  EXPECT_EQ(ToText(labels), "accelerator-type=L4 availability-zone=a");
  EXPECT_EQ(WithAliases(labels), labels);
}

TEST(LabelsTest, AliasesThatDifferAreRefused) {
  EXPECT_TRUE(ParseLabels("ray.io/region=r,ray.io/availability-region=r").ok());
  EXPECT_EQ(
      ParseLabels("ray.io/region=r,ray.io/availability-region=s").status().message(),
      "labels \"ray.io/region\" (\"r\") and \"ray.io/availability-region\" (\"s\") mean the same "
      "and must not differ: give one of them");
}

TEST(LabelsTest, TooManyAreRefused) {
  Labels labels;
  for (int i = 0; i <= kLabelsMax; ++i) labels.emplace("k" + std::to_string(i), "v");
  EXPECT_FALSE(ValidateLabels(labels).ok());
}

}  // namespace
}  // namespace muster::sched
