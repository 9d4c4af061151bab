// Turns, quotas and preemption against slow versions of their rules, on random small clusters.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
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

constexpr int64_t kUnit = Amount::kUnit;

// --- Whose turn it is, and quotas ---

struct SlowNode {
  std::string zone{};
  int64_t total = 0;
  int64_t free = 0;
};
struct SlowRequest {
  uint64_t id = 0;
  RequestSpec spec{};
  uint64_t node = 0;  // 0: it waits.
};

// CPUs only, one bundle and one choice each: the rules of sharing.h, done from the start each time.
class SlowSharing {
 public:
  std::map<uint64_t, SlowNode> nodes{};
  std::vector<SlowRequest> requests{};  // In order of arrival.
  std::map<std::string, int64_t> weights{};
  std::map<std::string, Quota> quotas{};

  std::vector<std::string> Place() {
    std::vector<std::string> grants;
    while (true) {
      std::vector<SlowRequest*> order;
      for (SlowRequest& request : requests) {
        if (request.node == 0) order.push_back(&request);
      }
      std::stable_sort(order.begin(), order.end(), [&](SlowRequest* a, SlowRequest* b) {
        if (a->spec.priority != b->spec.priority) return a->spec.priority > b->spec.priority;
        return TurnOf(a->spec.tenant) < TurnOf(b->spec.tenant);
      });
      const bool placed = std::any_of(order.begin(), order.end(), [&](SlowRequest* request) {
        if (!TryPlace(*request)) return false;
        grants.push_back(
            absl::StrCat("grant request=", request->id, " node=", request->node, " choice=0"));
        return true;
      });
      if (!placed) return grants;
    }
  }

  void End(uint64_t id) {
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].id != id) continue;
      if (requests[i].node != 0) nodes.at(requests[i].node).free += CpusOf(requests[i]);
      requests.erase(requests.begin() + static_cast<int64_t>(i));
      return;
    }
  }

  // By tenant and by quota.
  int64_t UsedBy(const std::string& tenant) const {
    int64_t used = 0;
    for (const SlowRequest& request : requests) {
      if (request.node != 0 && request.spec.tenant == tenant) used += CpusOf(request);
    }
    return used;
  }
  int64_t UsedUnder(const Quota& quota) const {
    int64_t used = 0;
    for (const SlowRequest& request : requests) {
      if (request.node != 0 && Counts(quota, request, nodes.at(request.node))) {
        used += CpusOf(request);
      }
    }
    return used;
  }

 private:
  static int64_t CpusOf(const SlowRequest& request) {
    return request.spec.choices[0].resources.cpus;
  }
  static bool Counts(const Quota& quota, const SlowRequest& request, const SlowNode& node) {
    const auto text = quota.selector.ToMap();
    const bool here = text.empty() || text.begin()->second == node.zone;
    const bool whose = !quota.tenant.empty() ? quota.tenant == request.spec.tenant
                       : !quota.job.empty()  ? quota.job == request.spec.job
                                             : true;
    return here && whose;
  }
  // Exact: used / total / weight, as whole billionths and then millionths of those.
  int64_t TurnOf(const std::string& tenant) const {
    int64_t total = 0;
    for (const auto& [id, node] : nodes) total += node.total;
    if (total == 0) return UsedBy(tenant) > 0 ? 1'000'000'000'000 : 0;
    const int64_t share = UsedBy(tenant) * 1'000'000'000 / total;
    const auto weight = weights.find(tenant);
    return share * 1'000'000 / (weight == weights.end() ? 1000 : weight->second);
  }
  bool TryPlace(SlowRequest& request) {
    std::optional<std::pair<int64_t, uint64_t>> best;
    for (const auto& entry_of_node : nodes) {
      const uint64_t id = entry_of_node.first;
      const SlowNode& node = entry_of_node.second;
      const bool closed = std::any_of(quotas.begin(), quotas.end(), [&](const auto& entry) {
        const Quota& quota = entry.second;
        return Counts(quota, request, node) && CpusOf(request) > 0 &&
               UsedUnder(quota) + CpusOf(request) > quota.limits.at("cpus");
      });
      if (closed || node.free < CpusOf(request)) continue;
      const std::pair<int64_t, uint64_t> fit = {node.free, id};
      if (!best || fit < *best) best = fit;
    }
    if (!best) return false;
    request.node = best->second;
    nodes.at(request.node).free -= CpusOf(request);
    return true;
  }
};

class SharingOracleTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(SharingOracleTest, TurnsAndQuotasAreAsTheSlowVersionSays) {
  Chance chance(GetParam());
  Scheduler scheduler;
  SlowSharing slow;
  std::string history;
  uint64_t next_request = 1;
  uint64_t next_node = 1;
  const std::vector<std::string> tenants = {"", "a", "b", "c"};
  for (int step = 0; step < 120; ++step) {
    Event event{.at = absl::UnixEpoch() + absl::Seconds(step), .what = Tick{}};
    const uint64_t some = 1 + chance.Next() % next_request;
    switch (chance.Below(12)) {
      case 0:
        if (slow.nodes.size() < 4) {
          SlowNode node{.zone = chance.Of<std::string>({"x", "y"}),
                        .total = kUnit * (1 + chance.Below(6))};
          node.free = node.total;
          NodeJoined join{.node = {next_node}, .name = absl::StrCat("n", next_node)};
          join.labels = {{"zone", node.zone}};
          join.total.cpus = node.total;
          slow.nodes[next_node++] = node;
          event.what = join;
        }
        break;
      case 1: {
        const std::string tenant = chance.Of(tenants);
        const int64_t weight = chance.Of<int64_t>({500, 1000, 2000, 3000});
        slow.weights[tenant] = weight;
        event.what = TenantSet{.tenant = tenant, .weight_milli = weight};
        break;
      }
      case 2: {
        Quota quota{.name = chance.Of<std::string>({"q", "r"})};
        if (chance.OneIn(2))
          quota.tenant = chance.Of<std::string>({"a", "b"});
        else if (chance.OneIn(2))
          quota.job = "j";
        if (chance.OneIn(2)) {
          quota.selector = *LabelSelector::Parse({{"zone", chance.Of<std::string>({"x", "y"})}});
        }
        quota.limits["cpus"] = kUnit * chance.Below(5);
        slow.quotas[quota.name] = quota;
        event.what = QuotaSet{quota};
        break;
      }
      case 3: {
        const std::string name = chance.Of<std::string>({"q", "r"});
        slow.quotas.erase(name);
        event.what = QuotaRemoved{name};
        break;
      }
      case 4:
      case 5:
      case 6:
      case 7: {
        if (slow.requests.size() > 20) break;
        RequestSpec spec;
        spec.choices.push_back({.resources = {.cpus = kUnit / 2 * chance.Below(6)}});
        spec.tenant = chance.Of(tenants);
        spec.job = chance.OneIn(3) ? "j" : "";
        spec.priority = chance.OneIn(5) ? 1 : 0;
        spec.name = absl::StrCat(chance.Below(3));
        slow.requests.push_back({.id = next_request, .spec = spec});
        event.what = Requested{{next_request++}, spec};
        break;
      }
      case 8: {
        if (slow.nodes.empty()) break;
        auto at = slow.nodes.begin();
        std::advance(at, chance.Below(static_cast<int>(slow.nodes.size())));
        at->second.zone = chance.Of<std::string>({"x", "y"});
        event.what = NodeChanged{.node = {at->first}, .labels = {{"zone", at->second.zone}}};
        break;
      }
      default:
        slow.End(some);
        event.what = RequestCancelled{{some}};
        break;
    }
    absl::StrAppend(&history, step, " ", ToString(event), "\n");
    std::vector<Action> actions;
    scheduler.Step(event, actions);
    scheduler.CheckInvariants();
    std::vector<std::string> grants;
    for (const Action& action : actions) {
      if (std::holds_alternative<Grant>(action)) grants.push_back(ToString(action));
    }
    ASSERT_EQ(grants, slow.Place()) << history;
    for (const TenantView& view : scheduler.TenantViews()) {
      ASSERT_EQ(view.used.cpus, slow.UsedBy(view.name)) << history;
    }
    for (const QuotaView& view : scheduler.QuotaViews()) {
      ASSERT_EQ(view.used.at("cpus"), slow.UsedUnder(view.quota)) << history;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SharingOracleTest, ::testing::Range<uint64_t>(1, 61));

// --- Preemption: brute force over all sets of victims ---

struct SlowLease {
  uint64_t id = 0;
  int priority = 0;
  bool preemptible = true;
  int64_t cpus = 0;
  int64_t gpus = 0;
  absl::Time since{};
  std::vector<uint64_t> nodes{};  // Of its bundles.
};

class PreemptionOracleTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  using Damage = std::tuple<int, size_t, absl::Duration, int64_t, int64_t>;

  // How many bundles fit once the victims have ended.
  int64_t Room(const std::vector<const SlowLease*>& victims, int64_t cpus, int64_t gpus) const {
    int64_t bundles = 0;
    for (const auto& [id, total] : totals_) {
      int64_t free_cpus = total.first, free_gpus = total.second;
      for (const SlowLease& lease : leases_) {
        if (std::find(victims.begin(), victims.end(), &lease) != victims.end()) continue;
        const int64_t here = std::count(lease.nodes.begin(), lease.nodes.end(), id);
        free_cpus -= here * lease.cpus;
        free_gpus -= here * lease.gpus;
      }
      int64_t fit = 100;
      if (cpus > 0) fit = std::min(fit, free_cpus / cpus);
      if (gpus > 0) fit = std::min(fit, free_gpus / gpus);
      bundles += fit;
    }
    return bundles;
  }

  Damage DamageOf(const std::vector<const SlowLease*>& victims, absl::Time now) const {
    Damage damage = {INT_MIN, 0, absl::ZeroDuration(), 0, 0};
    for (const SlowLease* victim : victims) {
      const int64_t bundles = static_cast<int64_t>(victim->nodes.size());
      std::get<0>(damage) = std::max(std::get<0>(damage), victim->priority);
      std::get<1>(damage) += victim->nodes.size();
      std::get<2>(damage) += (now - victim->since) * bundles;
      std::get<3>(damage) += victim->gpus * bundles;
      std::get<4>(damage) += victim->cpus * bundles;
    }
    return damage;
  }

  std::vector<std::vector<const SlowLease*>> Sets(int below) const {
    std::vector<const SlowLease*> eligible;
    for (const SlowLease& lease : leases_) {
      if (lease.preemptible && lease.priority < below) eligible.push_back(&lease);
    }
    std::vector<std::vector<const SlowLease*>> sets;
    for (uint32_t bits = 0; bits < (1u << eligible.size()); ++bits) {
      sets.emplace_back();
      for (size_t i = 0; i < eligible.size(); ++i) {
        if ((bits >> i & 1) != 0) sets.back().push_back(eligible[i]);
      }
    }
    return sets;
  }

  std::map<uint64_t, std::pair<int64_t, int64_t>> totals_;
  std::vector<SlowLease> leases_;
};

TEST_P(PreemptionOracleTest, TakesTheLeastAndNeverForNothing) {
  Chance chance(GetParam());
  SchedulerConfig config;
  config.sharing.preemption = true;
  Scheduler scheduler(config);
  absl::Time now = absl::UnixEpoch();
  std::string history;
  std::vector<Action> actions;
  const auto step = [&](decltype(Event::what) what) {
    actions.clear();
    const Event event{.at = now, .what = std::move(what)};
    absl::StrAppend(&history, ToString(event), "\n");
    scheduler.Step(event, actions);
    scheduler.CheckInvariants();
  };
  const int nodes = 1 + chance.Below(3);
  for (int i = 1; i <= nodes; ++i) {
    NodeJoined join{.node = {static_cast<uint64_t>(i)}, .name = absl::StrCat("n", i)};
    join.total.cpus = kUnit * (1 + chance.Below(5));
    join.total.gpu_devices = chance.Below(5);
    totals_[join.node.value] = {join.total.cpus, join.total.gpu_devices * kUnit};
    step(join);
  }
  // What runs: all of the highest priority, so that nobody is told to leave for it, then as drawn.
  uint64_t id = 1;
  for (int i = 0; i < 9; ++i) {
    now += absl::Seconds(chance.Below(3));
    RequestSpec spec;
    spec.choices.push_back(
        {.resources = {.cpus = kUnit / 2 * chance.Below(4), .gpus = kUnit * chance.Below(3)}});
    spec.bundles = chance.OneIn(4) ? 2 : 1;
    spec.priority = 4 - i / 3 - chance.Below(2);  // Falls, so that none preempts one before it.
    spec.preemptible = !chance.OneIn(5);
    step(Requested{{id}, spec});
    bool granted = false;
    bool noticed = false;
    SlowLease lease{.id = id,
                    .priority = spec.priority,
                    .preemptible = spec.preemptible,
                    .cpus = spec.choices[0].resources.cpus,
                    .gpus = spec.choices[0].resources.gpus,
                    .since = now};
    for (const Action& action : actions) {
      noticed = noticed || std::holds_alternative<Notice>(action);
      const auto* grant = std::get_if<Grant>(&action);
      if (grant == nullptr) continue;
      granted = true;
      for (const Placement& placement : grant->placements) {
        lease.nodes.push_back(placement.node.value);
      }
    }
    if (noticed) return;  // Two draws of one step crossed: another seed.
    if (granted) leases_.push_back(lease);
    if (!granted) step(RequestCancelled{{id}});
    ++id;
  }
  now += absl::Seconds(5);
  RequestSpec spec;
  spec.choices.push_back(
      {.resources = {.cpus = kUnit / 2 * (1 + chance.Below(4)), .gpus = kUnit * chance.Below(3)}});
  spec.bundles = chance.OneIn(3) ? 2 : 1;
  spec.priority = 2 + chance.Below(4);
  const int64_t cpus = spec.choices[0].resources.cpus;
  const int64_t gpus = spec.choices[0].resources.gpus;
  step(Requested{{id}, spec});

  std::set<uint64_t> told;
  std::map<uint64_t, size_t> leases_told;
  for (const Action& action : actions) {
    if (const auto* notice = std::get_if<Notice>(&action)) {
      told.insert(notice->request.value);
      ++leases_told[notice->request.value];
      ASSERT_EQ(notice->reason, LeavingReason::kPreempted);
      ASSERT_EQ(notice->deadline, now + config.sharing.preemption_grace);
    }
  }
  std::vector<const SlowLease*> victims;
  for (const SlowLease& lease : leases_) {
    if (told.count(lease.id) == 0) continue;
    victims.push_back(&lease);
    ASSERT_EQ(leases_told[lease.id], lease.nodes.size()) << "not whole\n" << history;
    ASSERT_TRUE(lease.preemptible && lease.priority < spec.priority) << history;
  }
  ASSERT_EQ(victims.size(), told.size());
  if (Room({}, cpus, gpus) >= spec.bundles) {
    ASSERT_TRUE(told.empty()) << history;
    return;
  }
  std::optional<Damage> least;
  for (const auto& set : Sets(spec.priority)) {
    if (Room(set, cpus, gpus) < spec.bundles) continue;
    const Damage damage = DamageOf(set, now);
    if (!least || damage < *least) least = damage;
  }
  if (!least) {
    ASSERT_TRUE(told.empty()) << "for nothing\n" << history;
    return;
  }
  ASSERT_FALSE(told.empty()) << "nobody, though it would help\n" << history;
  ASSERT_GE(Room(victims, cpus, gpus), spec.bundles) << history;
  for (const SlowLease* spared : victims) {  // None that it could do without.
    std::vector<const SlowLease*> fewer;
    for (const SlowLease* victim : victims) {
      if (victim != spared) fewer.push_back(victim);
    }
    ASSERT_LT(Room(fewer, cpus, gpus), spec.bundles) << history;
  }
  if (spec.bundles == 1) {
    ASSERT_EQ(DamageOf(victims, now), *least) << history;
  }

  // Once they have left, it is placed, whatever else asks for the room.
  RequestSpec greedy;
  greedy.choices.push_back({.resources = {.cpus = kUnit / 2}});
  step(Requested{{id + 1}, greedy});
  bool placed = false;
  for (const SlowLease* victim : victims) {
    for (size_t bundle = 0; bundle < victim->nodes.size(); ++bundle) {
      step(LeaseFinished{{victim->id}, static_cast<int>(bundle)});
      for (const Action& action : actions) {
        const auto* grant = std::get_if<Grant>(&action);
        placed = placed || (grant != nullptr && grant->request.value == id);
      }
    }
  }
  ASSERT_TRUE(placed) << history;
}

INSTANTIATE_TEST_SUITE_P(Seeds, PreemptionOracleTest, ::testing::Range<uint64_t>(1, 501));

}  // namespace
}  // namespace muster::sched
