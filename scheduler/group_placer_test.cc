// Where groups go, against a second, slow reading of the rules: every domain tried, every node
// counted by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/chance.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

struct SlowNode {
  uint64_t id = 0;
  int64_t gpus = 0;  // Empty devices.
  int64_t cpus = 0;
  std::string rack{};
};

// The racks that could hold the bundles, the best first: fewest empty devices, lowest first node.
// Whether one holds all is found by trying every way to lay `bundles` (GPUs each, largest first).
bool Holds(std::vector<SlowNode> nodes, const std::vector<int>& bundles, size_t next) {
  if (next == bundles.size()) return true;
  std::set<std::pair<int64_t, int64_t>> tried;
  for (SlowNode& node : nodes) {
    if (node.gpus < bundles[next] || node.cpus < 1) continue;
    if (!tried.insert({node.gpus, node.cpus}).second) continue;
    node.gpus -= bundles[next];
    node.cpus -= 1;
    if (Holds(nodes, bundles, next + 1)) return true;
    node.gpus += bundles[next];
    node.cpus += 1;
  }
  return false;
}

std::optional<std::string> BestRack(const std::map<uint64_t, SlowNode>& nodes,
                                    std::vector<int> bundles) {
  std::sort(bundles.rbegin(), bundles.rend());
  std::map<std::string, std::vector<SlowNode>> racks;
  for (const auto& [id, node] : nodes) racks[node.rack].push_back(node);
  std::optional<std::tuple<int64_t, uint64_t, std::string>> best;
  for (const auto& [rack, members] : racks) {
    if (!Holds(members, bundles, 0)) continue;
    int64_t empty = 0;
    for (const SlowNode& node : members) empty += node.gpus;
    const auto key = std::make_tuple(empty, members[0].id, rack);
    if (!best || key < *best) best = key;
  }
  return best ? std::optional(std::get<2>(*best)) : std::nullopt;
}

class GroupOracleTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(GroupOracleTest, ChoosesTheDomainThatEveryLayoutTriedChooses) {
  Chance chance(GetParam());
  SchedulerConfig config;
  config.overtaken_max = 0;
  config.reservation_after = absl::InfiniteDuration();
  Scheduler scheduler(config);
  std::map<uint64_t, SlowNode> nodes;
  std::vector<Action> actions;
  const auto step = [&](decltype(Event::what) what) {
    actions.clear();
    scheduler.Step({.at = absl::UnixEpoch(), .what = std::move(what)}, actions);
    scheduler.CheckInvariants();
  };
  const int count = 3 + chance.Below(10);
  const int racks = 1 + chance.Below(4);
  for (int i = 1; i <= count; ++i) {
    SlowNode node{.id = static_cast<uint64_t>(i)};
    node.gpus = chance.Below(9);
    node.cpus = 2 + chance.Below(8);
    node.rack = absl::StrCat("r", chance.Below(racks));
    nodes[node.id] = node;
    NodeJoined join{.node = {node.id}, .name = absl::StrCat("n", i)};
    join.labels = {{"rack", node.rack}};
    join.total.gpu_devices = static_cast<int>(node.gpus);
    join.total.cpus = node.cpus * Amount::kUnit;
    step(std::move(join));
  }
  std::map<uint64_t, std::vector<Placement>> live;
  for (uint64_t id = 1; id <= 60; ++id) {
    if (!live.empty() && chance.OneIn(3)) {
      const auto gone = std::next(live.begin(), chance.Below(static_cast<int>(live.size())));
      for (const Placement& placement : gone->second) {
        SlowNode& node = nodes.at(placement.node.value);
        node.gpus += placement.resources.gpus / Amount::kUnit;
        node.cpus += 1;
      }
      step(RequestCancelled{.request = {gone->first}});
      live.erase(gone);
    }
    GroupShape shape;
    shape.strategy = {*ParseLevel("same(rack)")};
    std::vector<int> bundles;
    const bool equal = chance.OneIn(2);
    const int each = 1 + chance.Below(4);
    const int wanted = 1 + chance.Below(5);
    for (int i = 0; i < wanted; ++i) {
      bundles.push_back(equal ? each : 1 + chance.Below(4));
      Choice choice;
      choice.resources.cpus = Amount::kUnit;
      choice.resources.gpus = bundles.back() * Amount::kUnit;
      shape.bundles.push_back({.choices = {choice}});
    }
    const std::optional<std::string> best = BestRack(nodes, bundles);
    step(Requested{.request = {id}, .spec = GroupSpec({shape})});
    const Grant* grant = actions.empty() ? nullptr : std::get_if<Grant>(&actions[0]);
    ASSERT_EQ(grant != nullptr, best.has_value()) << "request " << id;
    if (grant == nullptr) {
      step(RequestCancelled{.request = {id}});
      continue;
    }
    ASSERT_EQ(grant->placements.size(), bundles.size());  // Never a part.
    for (size_t i = 0; i < bundles.size(); ++i) {
      const Placement& placement = grant->placements[i];
      SlowNode& node = nodes.at(placement.node.value);
      ASSERT_EQ(node.rack, *best) << "request " << id;
      ASSERT_EQ(placement.devices.size(), static_cast<size_t>(bundles[i]));
      node.gpus -= bundles[i];
      node.cpus -= 1;
      ASSERT_GE(node.gpus, 0);
      ASSERT_GE(node.cpus, 0);
    }
    live.emplace(id, std::vector<Placement>(grant->placements.begin(), grant->placements.end()));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, GroupOracleTest, ::testing::Range<uint64_t>(1, 101));

TEST(GroupPlacerTest, RanksFollowTheTopology) {
  Scheduler scheduler;
  std::vector<Action> actions;
  for (uint64_t i = 1; i <= 6; ++i) {
    NodeJoined join{.node = {i}, .name = absl::StrCat("n", i)};
    join.labels = {{"rack", absl::StrCat("r", i % 2)}};
    join.total.gpu_devices = 1;
    scheduler.Step({.at = absl::UnixEpoch(), .what = std::move(join)}, actions);
  }
  GroupShape shape;
  Choice choice;
  choice.resources.gpus = Amount::kUnit;
  shape.bundles.assign(6, {.choices = {choice}});
  scheduler.Step(
      {.at = absl::UnixEpoch(), .what = Requested{.request = {1}, .spec = GroupSpec({shape})}},
      actions);
  std::vector<uint64_t> order;
  for (const Placement& placement : std::get<Grant>(actions[0]).placements) {
    order.push_back(placement.node.value);
  }
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 3, 5, 2, 4, 6}));
}

}  // namespace
}  // namespace muster::sched
