#include "runtime/client/request_spec.h"

#include <string>

#include "gtest/gtest.h"

namespace muster::client {
namespace {

std::string MessageOf(const absl::StatusOr<v1::RequestSpec>& spec) {
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(spec.status().message());
}

TEST(RequestSpecTest, NodeAffinityIsAskedFor) {
  const auto hard = MakeRequestSpec({.node_affinity = {.node = "n1"}}, 1);
  ASSERT_TRUE(hard.ok()) << hard.status();
  EXPECT_EQ(hard->affinity().node(), "n1");
  EXPECT_FALSE(hard->affinity().soft());
  const auto soft = MakeRequestSpec({.node_affinity = {.node = "n1", .soft = true}}, 4);
  ASSERT_TRUE(soft.ok()) << soft.status();
  EXPECT_TRUE(soft->affinity().soft());
  EXPECT_EQ(soft->bundles(), 4u);
  EXPECT_FALSE(MakeRequestSpec({}, 1)->has_affinity());
}

TEST(RequestSpecTest, NodeAffinityIsPartOfTheClass) {
  const TaskOptions none;
  const TaskOptions hard = {.node_affinity = {.node = "n1"}};
  const TaskOptions soft = {.node_affinity = {.node = "n1", .soft = true}};
  const TaskOptions other = {.node_affinity = {.node = "n2"}};
  EXPECT_TRUE(SameClass(hard, hard));
  EXPECT_FALSE(SameClass(none, hard));
  EXPECT_FALSE(SameClass(hard, soft));
  EXPECT_FALSE(SameClass(hard, other));
}

TEST(RequestSpecTest, NodeAffinityThatContradictsIsRefusedByName) {
  EXPECT_EQ(MessageOf(MakeRequestSpec({.node_affinity = {.soft = true}}, 1)),
            "node_affinity.soft is set, but node_affinity.node is empty");
  for (const bool soft : {false, true}) {
    EXPECT_EQ(
        MessageOf(MakeRequestSpec({.node_affinity = {.node = "n1", .soft = soft}}, 2, {"spread"})),
        "node_affinity.node is \"n1\", which does not go with a strategy; ask for "
        "ray.io/node-id=n1 in a label_selector");
  }
  EXPECT_EQ(MessageOf(MakeRequestSpec({.node_affinity = {.node = std::string(257, 'n')}}, 1)),
            "node_affinity.node.size() is 257; allowed: 1 to 256");
}

}  // namespace
}  // namespace muster::client
