#include "runtime/worker/detect/node_labels.h"

#include <map>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/worker/detect/testing/temp_dir.h"

namespace muster::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

Environment Env(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto it = variables.find(name);
    if (it == variables.end()) return std::nullopt;
    return it->second;
  };
}

sched::Labels Gather(const LabelSources& sources) {
  const absl::StatusOr<sched::Labels> labels = GatherLabels(sources);
  EXPECT_TRUE(labels.ok()) << labels.status();
  return labels.value_or(sched::Labels{});
}

std::string Error(const LabelSources& sources) {
  const absl::Status status = GatherLabels(sources).status();
  EXPECT_FALSE(status.ok());
  return std::string(status.message());
}

TEST(NodeLabelsTest, NoSourcesMeanNoLabels) { EXPECT_THAT(Gather({}), IsEmpty()); }

TEST(NodeLabelsTest, RaysVariablesBecomeItsLabelsWithAliases) {
  EXPECT_THAT(
      Gather({.environment = Env({{"RAY_NODE_TYPE_NAME", "gpu-group"},
                                  {"RAY_NODE_MARKET_TYPE", "spot"},
                                  {"RAY_NODE_ZONE", "us-west4-a"},
                                  {"RAY_NODE_REGION", "us-west4"}})}),
      UnorderedElementsAre(
          Pair("ray.io/node-group", "gpu-group"), Pair("ray.io/market-type", "spot"),
          Pair("ray.io/availability-zone", "us-west4-a"), Pair("ray.io/zone", "us-west4-a"),
          Pair("ray.io/availability-region", "us-west4"), Pair("ray.io/region", "us-west4")));
}

TEST(NodeLabelsTest, EmptyVariablesSetNothing) {
  EXPECT_THAT(Gather({.environment = Env({{"RAY_NODE_ZONE", ""}, {"RAY_OVERRIDE_LABELS", ""}})}),
              IsEmpty());
}

TEST(NodeLabelsTest, LaterSourcesWin) {
  const TempDir dir;
  LabelSources sources;
  sources.environment = Env({{"RAY_NODE_MARKET_TYPE", "env"}});
  EXPECT_EQ(Gather(sources)["ray.io/market-type"], "env");
  sources.labels_file = dir.Write("l.yaml", "ray.io/market-type: file\nrack: r1\n");
  EXPECT_EQ(Gather(sources)["ray.io/market-type"], "file");
  sources.labels = "ray.io/market-type=flag";
  EXPECT_EQ(Gather(sources)["ray.io/market-type"], "flag");
  sources.environment = Env({{"RAY_NODE_MARKET_TYPE", "env"},
                             {"RAY_OVERRIDE_LABELS", R"({"ray.io/market-type": "override"})"}});
  const sched::Labels labels = Gather(sources);
  EXPECT_THAT(labels,
              UnorderedElementsAre(Pair("ray.io/market-type", "override"), Pair("rack", "r1")));
}

TEST(NodeLabelsTest, DetectionIsOverriddenByAll) {
  LabelSources sources;
  sources.detected = {{kAcceleratorTypeLabel, "A100"}};
  EXPECT_EQ(Gather(sources)["ray.io/accelerator"], "A100");
  sources.labels = "ray.io/accelerator-type=A100-80G";
  EXPECT_THAT(Gather(sources), UnorderedElementsAre(Pair("ray.io/accelerator-type", "A100-80G"),
                                                    Pair("ray.io/accelerator", "A100-80G")));
}

TEST(NodeLabelsTest, AnAliasOverridesTheKeyItStandsFor) {
  EXPECT_THAT(
      Gather({.environment = Env({{"RAY_NODE_ZONE", "a"}}), .labels = "ray.io/zone=b"}),
      UnorderedElementsAre(Pair("ray.io/availability-zone", "b"), Pair("ray.io/zone", "b")));
}

TEST(NodeLabelsTest, ErrorsNameSourceKeyAndValue) {
  const TempDir dir;
  EXPECT_THAT(Error({.environment = Env({{"RAY_NODE_ZONE", "us west"}})}),
              AllOf(StartsWith("RAY_NODE_ZONE: "), HasSubstr("ray.io/availability-zone"),
                    HasSubstr("\"us west\"")));
  EXPECT_THAT(Error({.labels = "zone=a,rack"}),
              AllOf(StartsWith("--labels: "), HasSubstr("\"rack\"")));
  EXPECT_THAT(Error({.labels = "zone=a/b"}),
              AllOf(StartsWith("--labels: "), HasSubstr("zone"), HasSubstr("\"a/b\"")));
  EXPECT_THAT(Error({.environment = Env({{"RAY_OVERRIDE_LABELS", "{\"a\": 1"}})}),
              StartsWith("RAY_OVERRIDE_LABELS: "));
  const std::string file = dir.Write("bad.yaml", "zone: a\nrack: [1]\n");
  EXPECT_EQ(Error({.labels_file = file}),
            "--labels-file " + file + ": line 2: \"rack\" must have one plain value");
  const std::string missing = dir.path() + "/none.yaml";
  EXPECT_EQ(GatherLabels({.labels_file = missing}).status(),
            absl::NotFoundError("--labels-file " + missing + ": cannot read " + missing));
}

TEST(NodeLabelsTest, ContradictingAliasesInOneSourceAreRefused) {
  EXPECT_THAT(Error({.labels = "ray.io/zone=a,ray.io/availability-zone=b"}),
              AllOf(StartsWith("--labels: "), HasSubstr("ray.io/zone"),
                    HasSubstr("ray.io/availability-zone")));
}

TEST(NodeLabelsTest, TheNodeIdIsTheWorkersOwn) {
  EXPECT_EQ(
      Error({.labels = "ray.io/node-id=me"}),
      "--labels: label \"ray.io/node-id\" (\"me\") cannot be given: each worker sets its own");
}

TEST(NodeLabelsTest, TheSumOfAllSourcesIsBounded) {
  std::string many;
  for (int i = 0; i < sched::kLabelsMax; ++i)
    many += (i > 0 ? ",k" : "k") + std::to_string(i) + "=v";
  EXPECT_EQ(Gather({.labels = many}).size(), sched::kLabelsMax);
  EXPECT_THAT(Error({.environment = Env({{"RAY_NODE_MARKET_TYPE", "spot"}}), .labels = many}),
              HasSubstr("too many"));
}

}  // namespace
}  // namespace muster::worker
