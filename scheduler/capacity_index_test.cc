// The index against a look at every node, on clusters that are large enough for its sets to be
// bits, rows to be given anew and selectors to be corrected.
#include "scheduler/capacity_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/chance.h"
#include "scheduler/cluster.h"
#include "scheduler/label_selector.h"

namespace muster::sched {
namespace {

constexpr int64_t kUnit = Amount::kUnit;

class IndexedCluster {
 public:
  explicit IndexedCluster(uint64_t seed) : chance_(seed) {}

  Labels RandomLabels() {
    Labels labels = {{kKindLabel, absl::StrCat("a", chance_.Below(4))},
                     {"zone", absl::StrCat("z", chance_.Below(6))},
                     {"rack", absl::StrCat("r", chance_.Below(40))}};
    if (chance_.OneIn(3)) labels.emplace("team", absl::StrCat("t", chance_.Below(8)));
    if (chance_.OneIn(4)) labels.emplace("size", absl::StrCat(chance_.Below(50)));
    return labels;
  }

  LabelSelector RandomSelector() {
    std::map<std::string, std::string> text;
    if (chance_.OneIn(2)) text[kKindLabel] = chance_.Of<std::string>({"a0", "in(a1,a2)", "!a3"});
    if (chance_.OneIn(2))
      text["zone"] = chance_.Of<std::string>({"z0", "in(z1,z2,z9)", "!in(z3,z4)"});
    if (chance_.OneIn(6))
      text["rack"] = absl::StrCat("in(r", chance_.Below(40), ",r", chance_.Below(40), ")");
    if (chance_.OneIn(4))
      text["team"] = chance_.Of<std::string>({"t1", "exists()", "!exists()", "!t2"});
    if (chance_.OneIn(6))
      text["size"] = chance_.Of<std::string>({"gt(20)", "lt(9)", "gt(3),lt(30)"});
    return *LabelSelector::Parse(text);
  }

  Resources RandomNeeds() {
    Resources needs;
    needs.cpus = chance_.Of<int64_t>({0, kUnit / 2, kUnit, 3 * kUnit, 17 * kUnit});
    needs.gpus = chance_.Of<int64_t>({0, kUnit / 4, kUnit / 2, 7000, kUnit, 2 * kUnit, 4 * kUnit});
    needs.memory_bytes = chance_.OneIn(3) ? int64_t{chance_.Below(9)} << 30 : 0;
    if (chance_.OneIn(8)) needs.custom["license"] = kUnit;
    return needs;
  }

  void Join() {
    // Mostly in order of id, as the head gives them; at times one comes back.
    const uint64_t id = chance_.OneIn(50) ? 1 + chance_.Next() % next_id_ : next_id_++;
    if (cluster_.FindNode(NodeId{id}) != nullptr) return;
    NodeResources total;
    total.cpus = kUnit * chance_.Of<int64_t>({4, 8, 32});
    total.gpu_devices = chance_.OneIn(5) ? 0 : 4;
    total.memory_bytes = int64_t{chance_.Of<int>({4, 16})} << 30;
    if (chance_.OneIn(3)) total.custom["license"] = 2 * kUnit;
    cluster_.AddNode({id}, absl::StrCat("n", id), RandomLabels(), total);
  }

  void Change() {
    if (cluster_.nodes().empty()) return;
    Node* const node = chance_.Of(cluster_.nodes());
    switch (chance_.Below(12)) {
      case 0:
        return cluster_.Relabel(node, RandomLabels());
      case 1:
        cluster_.RemoveNode(node);
        taken_.erase(std::remove_if(taken_.begin(), taken_.end(),
                                    [&](const Taken& t) { return t.node == node; }),
                     taken_.end());
        return;
      case 2:
        node->draining = !node->draining;
        return;
      case 3:
      case 4:
      case 5:
        if (taken_.empty()) return;
        std::swap(taken_[chance_.Below(static_cast<int>(taken_.size()))], taken_.back());
        taken_.back().node->free.Give(taken_.back().needs, taken_.back().devices);
        taken_.pop_back();
        return;
      default: {
        const Resources needs = RandomNeeds();
        if (!node->free.Fits(needs)) return;
        taken_.push_back({.node = node, .needs = needs, .devices = node->free.Take(needs)});
      }
    }
  }

  // By a look at all nodes, in order of id.
  Node* SlowBest(const LabelSelector& selector, const Resources& needs) const {
    Node* best = nullptr;
    for (Node* node : cluster_.nodes()) {
      if (!node->usable() || !selector.Matches(node->labels) || !node->free.Fits(needs)) continue;
      if (best == nullptr || node->free.ScoreFor(needs) < best->free.ScoreFor(needs)) best = node;
    }
    return best;
  }

  void CheckSearch(const LabelSelector& selector, int number) {
    const Resources needs = RandomNeeds();
    const CapacityIndex& capacity = cluster_.index().capacity();
    const MatchedRows& matched = cluster_.index().matched(number);
    ASSERT_EQ(capacity.BestFit(matched, needs), SlowBest(selector, needs)) << selector.ToString();

    std::vector<Node*> seen;
    capacity.ForEachRoom(matched, needs, [&](Node& node) {
      seen.push_back(&node);
      return true;
    });
    for (size_t i = 1; i < seen.size(); ++i) {
      ASSERT_FALSE(seen[i]->free.ScoreFor(needs) < seen[i - 1]->free.ScoreFor(needs));
    }
    std::set<Node*> expected;
    bool ever = false;
    for (Node* node : cluster_.nodes()) {
      if (!selector.Matches(node->labels)) continue;
      ever = ever || node->empty().Fits(needs);
      if (node->usable() && node->free.Fits(needs)) expected.insert(node);
    }
    ASSERT_EQ(seen.size(), expected.size());
    ASSERT_EQ(std::set<Node*>(seen.begin(), seen.end()), expected);
    Node* const could = capacity.AnyEver(matched, needs);
    ASSERT_EQ(could != nullptr, ever);
    if (could != nullptr) {
      ASSERT_TRUE(selector.Matches(could->labels) && could->empty().Fits(needs));
    }
  }

  // By the policies that rank states: the best of all nodes by rank, then by id.
  void CheckPolicy(const LabelSelector& selector, PlacementPolicy policy) {
    RequestSpec spec;
    spec.choices = {Choice{.selector = selector, .resources = RandomNeeds()}};
    const Resources needs = spec.choices[0].resources;
    if (policy == PlacementPolicy::kPack && needs.gpus == 0) return;
    SchedulingClass* const of = cluster_.Use(SpecHandle(std::move(spec)));
    Packing& packing = cluster_.packing();
    packing.demand().Count(of->demand);
    Node* best = nullptr;
    PlacementRank best_rank;
    for (Node* node : cluster_.nodes()) {
      if (!node->usable() || !selector.Matches(node->labels) || !node->free.Fits(needs)) continue;
      const PlacementRank rank = packing.RankOf(policy, needs, *node);
      if (best != nullptr && !(rank < best_rank)) continue;
      best = node;
      best_rank = rank;
    }
    const MatchedRows& matched = cluster_.index().matched(of->selectors[0]);
    for (int asked = 1; asked <= 3; ++asked) {  // Who asks again is answered by what was kept.
      ASSERT_EQ(packing.Best(policy, *of, 0, matched), best) << selector.ToString();
      Node* const likely = packing.Likely(policy, *of, 0, matched);
      ASSERT_TRUE(best == nullptr || likely != nullptr);
      if (likely != nullptr && likely->usable() && likely->free.Fits(needs)) {
        ASSERT_EQ(likely, best);
      }
    }
    cluster_.Unuse(of);
  }

  Cluster& cluster() { return cluster_; }
  Chance& chance() { return chance_; }

 private:
  struct Taken {
    Node* node = nullptr;
    Resources needs{};
    GpuShares devices{};
  };

  Chance chance_;
  Cluster cluster_{/*lost_nodes_kept=*/10, /*idle_classes_kept=*/10, /*hierarchy=*/{}};
  std::vector<Taken> taken_;
  uint64_t next_id_ = 1;
};

class CapacityIndexTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(CapacityIndexTest, FindsWhatALookAtEveryNodeFinds) {
  IndexedCluster world(GetParam());
  Cluster& cluster = world.cluster();
  std::vector<std::pair<LabelSelector, SchedulingClass*>> selectors;
  for (int round = 0; round < 25; ++round) {
    for (int i = 0; i < 40; ++i) world.Join();
    for (int i = 0; i < 120; ++i) world.Change();
    if (round % 2 == 0) {
      RequestSpec spec;
      spec.choices = {Choice{.selector = world.RandomSelector()}};
      spec.name = absl::StrCat("class-", round);
      const LabelSelector selector = spec.choices[0].selector;
      selectors.emplace_back(selector, cluster.Use(std::move(spec)));
    }
    if (round % 7 == 6) {
      cluster.Unuse(selectors.front().second);
      selectors.erase(selectors.begin());
    }
    // Not all are asked each time, so that some have more to catch up with.
    for (const auto& [selector, of] : selectors) {
      if (world.chance().OneIn(2)) world.CheckSearch(selector, of->selectors[0]);
      world.CheckPolicy(selector, PlacementPolicy::kPack);
      world.CheckPolicy(selector, PlacementPolicy::kSpread);
    }
    if (round % 12 == 11) cluster.CheckInvariants();
  }
}

// More rows than few blocks have: what matches little is a list, and what matches some few blocks.
TEST_P(CapacityIndexTest, FindsItAmongThousands) {
  IndexedCluster world(GetParam());
  for (int i = 0; i < 4000; ++i) world.Join();
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 600; ++i) world.Change();
    const LabelSelector selector = world.RandomSelector();
    RequestSpec spec;
    spec.choices = {Choice{.selector = selector}};
    SchedulingClass* const of = world.cluster().Use(SpecHandle(std::move(spec)));
    for (int i = 0; i < 4; ++i) {
      world.CheckSearch(selector, of->selectors[0]);
      world.CheckPolicy(selector, PlacementPolicy::kPack);
      world.CheckPolicy(selector, PlacementPolicy::kSpread);
    }
    world.cluster().Unuse(of);
  }
  world.cluster().CheckInvariants();
}

INSTANTIATE_TEST_SUITE_P(Seeds, CapacityIndexTest, ::testing::Range<uint64_t>(1, 5));

}  // namespace
}  // namespace muster::sched
