#include "runtime/cluster/node_spec.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/worker/detect/testing/temp_dir.h"

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

NodeSpec Parse(const std::string& text) {
  const absl::StatusOr<NodeSpec> spec = ParseNodeSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.value_or(NodeSpec{});
}

std::string Error(const std::string& text) {
  const absl::Status status = ParseNodeSpec(text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

std::vector<std::string> Names(const std::vector<NodeSpec>& nodes) {
  std::vector<std::string> names;
  names.reserve(nodes.size());
  for (const NodeSpec& node : nodes) names.push_back(node.name);
  return names;
}

TEST(NodeSpecTest, ResourcesAndLabelsAreToldApart) {
  const NodeSpec spec = Parse(
      "count=2,name=train,cpus=2.5,gpus=1,memory=8GiB,resource.license=2,resource.ssd=0.5,"
      "ray.io/accelerator-type=L4,rack=r1");
  EXPECT_EQ(spec.count, 2);
  EXPECT_EQ(spec.name, "train");
  EXPECT_EQ(spec.cpus, 25000);
  EXPECT_EQ(spec.gpus, 1);
  EXPECT_EQ(spec.memory_bytes, int64_t{8} << 30);
  EXPECT_THAT(spec.custom, UnorderedElementsAre(Pair("license", 20000), Pair("ssd", 5000)));
  EXPECT_THAT(spec.labels,
              UnorderedElementsAre(Pair("ray.io/accelerator-type", "L4"),
                                   Pair("ray.io/accelerator", "L4"), Pair("rack", "r1")));
}

TEST(NodeSpecTest, WhatIsLeftOutIsDetectedButForGpus) {
  const NodeSpec spec = Parse("zone=");
  EXPECT_EQ(spec.count, 1);
  EXPECT_EQ(spec.name, "");
  EXPECT_EQ(spec.cpus, std::nullopt);
  EXPECT_EQ(spec.gpus, 0);
  EXPECT_EQ(spec.memory_bytes, std::nullopt);
  EXPECT_THAT(spec.labels, UnorderedElementsAre(Pair("zone", "")));
}

TEST(NodeSpecTest, MemoryTakesUnitsOrBytes) {
  EXPECT_EQ(Parse("memory=512MiB").memory_bytes, 512 << 20);
  EXPECT_EQ(Parse("memory=1000").memory_bytes, 1000);
}

TEST(NodeSpecTest, ErrorsNameSpecKeyAndValue) {
  EXPECT_EQ(Error("gpus=1,zone"),
            "node spec \"gpus=1,zone\": \"zone\" is not key=value, such as gpus=1 or zone=a");
  EXPECT_EQ(Error("gpus=1,"),
            "node spec \"gpus=1,\": \"\" is not key=value, such as gpus=1 or zone=a");
  EXPECT_EQ(Error(""), "node spec \"\": \"\" is not key=value, such as gpus=1 or zone=a");
  EXPECT_EQ(Error("gpus=0.5"),
            "node spec \"gpus=0.5\": gpus=0.5: must be a whole number from 0 to 4096");
  EXPECT_EQ(Error("gpus=-1"),
            "node spec \"gpus=-1\": gpus=-1: must be a whole number from 0 to 4096");
  EXPECT_EQ(Error("gpus="), "node spec \"gpus=\": gpus=: must be a whole number from 0 to 4096");
  EXPECT_EQ(Error("count=0"),
            "node spec \"count=0\": count=0: must be a whole number from 1 to 1000");
  EXPECT_EQ(
      Error("count=99999999999"),
      "node spec \"count=99999999999\": count=99999999999: must be a whole number from 1 to 1000");
  EXPECT_EQ(Error("gpus=1,gpus=2"), "node spec \"gpus=1,gpus=2\": \"gpus\" is given twice");
  EXPECT_THAT(Error("cpus=two"), HasSubstr("node spec \"cpus=two\": cpus=two: "));
  EXPECT_THAT(Error("memory=8GB"),
              HasSubstr("node spec \"memory=8GB\": memory=8GB: must be like 8GiB"));
  EXPECT_THAT(Error("resource.=1"), HasSubstr("resource name \"\""));
  EXPECT_THAT(Error("resource.a=x"), HasSubstr("resource.a=x: "));
  EXPECT_THAT(Error("name="), HasSubstr("name=: must be"));
  EXPECT_THAT(Error("name=a b"), HasSubstr("name=a b: must be"));
  EXPECT_THAT(Error("zone=a=b"), HasSubstr("\"a=b\""));
  EXPECT_THAT(Error("=a"), HasSubstr("label key \"\""));
  EXPECT_THAT(Error("ray.io/node-id=x"), HasSubstr("ray.io/node-id=x: cannot be given"));
  EXPECT_THAT(Error("ray.io/zone=a,ray.io/availability-zone=b"), HasSubstr("mean the same"));
  EXPECT_THAT(Error(std::string(sched::kLabelsTextBytesMax + 1, 'x')), HasSubstr("too many"));
}

TEST(NodeSpecTest, AClusterFileSaysTheSame) {
  const auto specs = ParseClusterYaml(
      "# Two kinds of nodes.\n"
      "nodes:\n"
      "- {count: 2, name: train, cpus: 2, gpus: 1, memory: 8GiB, resource.license: 2, "
      "ray.io/market-type: spot}\n"
      "- cpus: 1\n"
      "  zone: a\n");
  ASSERT_TRUE(specs.ok()) << specs.status();
  ASSERT_EQ(specs->size(), 2);
  const NodeSpec typed = Parse(
      "count=2,name=train,cpus=2,gpus=1,memory=8GiB,resource.license=2,ray.io/market-type=spot");
  EXPECT_EQ((*specs)[0].count, 2);
  EXPECT_EQ((*specs)[0].name, "train");
  EXPECT_EQ(WorkerOptions((*specs)[0]), WorkerOptions(typed));
  EXPECT_EQ(WorkerOptions((*specs)[1]), WorkerOptions(Parse("cpus=1,zone=a")));
}

TEST(NodeSpecTest, ErrorsOfAClusterFileNameFileNodeAndKey) {
  const worker::TempDir dir;
  const std::string file = dir.Write("c.yaml", "nodes:\n- {cpus: 1}\n- {gpus: many}\n");
  EXPECT_EQ(ReadClusterFile(file).status().message(),
            file + ": node 2: gpus=many: must be a whole number from 0 to 4096");
  EXPECT_EQ(ParseClusterYaml("nodes: []").status().message(), "nodes: there are none");
  EXPECT_EQ(ReadClusterFile(dir.path() + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST(NodeSpecTest, CountsExpandToNamedNodes) {
  const auto nodes = ExpandNodeSpecs({Parse("count=2,name=a"), Parse("name=b"), Parse("count=2")});
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  EXPECT_THAT(Names(*nodes), ElementsAre("a-1", "a-2", "b", "", ""));
  for (const NodeSpec& node : *nodes) EXPECT_EQ(node.count, 1);
  EXPECT_THAT(ExpandNodeSpecs({}).value(), IsEmpty());
}

TEST(NodeSpecTest, TwoNodesCannotBearOneName) {
  EXPECT_EQ(ExpandNodeSpecs({Parse("count=2,name=a"), Parse("name=a-2")}).status().message(),
            "name=a-2: two nodes bear it");
  EXPECT_THAT(
      std::string(ExpandNodeSpecs({Parse("count=999"), Parse("count=2")}).status().message()),
      HasSubstr("too many nodes"));
}

TEST(NodeSpecTest, WorkerOptionsSayTheSame) {
  EXPECT_THAT(WorkerOptions(Parse("gpus=1,cpus=0.5,memory=1MiB,resource.x=2,ray.io/zone=a,rack=r")),
              ElementsAre("--num-gpus=1", "--num-cpus=0.5", "--memory=1048576",
                          "--resources={\"x\": 2}", "--labels=rack=r,ray.io/availability-zone=a"));
  EXPECT_THAT(WorkerOptions(Parse("rack=r")), ElementsAre("--num-gpus=0", "--labels=rack=r"));
}

}  // namespace
}  // namespace muster::cluster
