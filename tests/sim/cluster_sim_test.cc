#include "tests/sim/cluster_sim.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::sim {
namespace {

class ClusterSimTest : public ::testing::TestWithParam<uint64_t> {};

void ExpectGoodRun(uint64_t seed) {
  SCOPED_TRACE(absl::StrCat("replay: build/dev/bin/muster_sim --seed=", seed, " --verbose"));
  const SimResult result = Simulate(seed);
  EXPECT_EQ(absl::StrJoin(result.errors, "\n"), "") << result.plan;
  EXPECT_EQ(result.ended_once, result.submitted);
  EXPECT_GT(result.submitted, 0);
  if (seed % 4 != 0) return;
  EXPECT_EQ(result.trace, Simulate(seed).trace);  // Again: no chance may leak in.
}

TEST_P(ClusterSimTest, EveryTaskEndsExactlyOnce) { ExpectGoodRun(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Seeds, ClusterSimTest, ::testing::Range<uint64_t>(1, 65),
                         [](const auto& one) { return absl::StrCat(one.param); });

// A seed that nobody chose: each commit tries another.
TEST(ClusterSimCommitTest, EveryTaskEndsExactlyOnce) {
  FILE* git = popen("git -C '" MUSTER_ROOT "' rev-parse --short=8 HEAD 2>/dev/null", "r");
  ASSERT_NE(git, nullptr);
  char hash[16] = {};
  const size_t read = fread(hash, 1, 8, git);
  pclose(git);
  if (read != 8) GTEST_SKIP() << "not in a git checkout";
  ExpectGoodRun(std::stoull(std::string(hash, 8), nullptr, 16));
}

// The checker must see what is wrong, or it is asleep.
class ClusterSimCanary : public ::testing::TestWithParam<Plant> {};

TEST_P(ClusterSimCanary, PlantedFaultIsFound) {
  SimOptions options;
  options.plant = GetParam();
  bool found = false;
  for (uint64_t seed = 1; seed <= 20 && !found; ++seed)
    found = !Simulate(seed, options).errors.empty();
  EXPECT_TRUE(found);
}

INSTANTIATE_TEST_SUITE_P(Plants, ClusterSimCanary,
                         ::testing::Values(Plant::kExitTooSoon, Plant::kCompleteTwice,
                                           Plant::kDropRequest),
                         [](const auto& one) {
                           return one.param == Plant::kExitTooSoon     ? "ExitTooSoon"
                                  : one.param == Plant::kCompleteTwice ? "CompleteTwice"
                                                                       : "DropRequest";
                         });

}  // namespace
}  // namespace muster::sim
