// What a decision costs: a request granted and finished, on a cluster of a given size; and what a
// selector costs to match and to parse.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

constexpr int kGpusPerNode = 8;

Labels LabelsOf(int node) {
  const char* const accelerators[] = {"L4", "T4", "A100", "H100"};
  return WithAliases({{"ray.io/accelerator-type", accelerators[node % 4]},
                      {"ray.io/market-type", node % 3 == 0 ? "spot" : "on-demand"},
                      {"ray.io/availability-zone", absl::StrCat("zone-", node % 16)},
                      {"ray.io/node-group", absl::StrCat("group-", node % 64)},
                      {"rack", absl::StrCat("rack-", node / 32)},
                      {"pool", "main"}});  // With the two aliases, 8 labels.
}

Choice ChoiceOf(const std::string& selector, int gpus) {
  Choice choice;
  choice.selector = *LabelSelector::ParseText(selector);
  choice.resources.cpus = Amount::kUnit;
  choice.resources.gpus = gpus * Amount::kUnit;
  return choice;
}

// Spot L4, else on-demand L4, else two T4; in `variant` other zones, so that each is a class of its
// own.
RequestSpec SpecOf(int variant) {
  RequestSpec spec;
  const std::string zone = absl::StrCat("ray.io/zone=!zone-", variant % 16);
  spec.choices = {
      ChoiceOf("ray.io/accelerator-type=L4,ray.io/market-type=spot," + zone, 1),
      ChoiceOf("ray.io/accelerator-type=L4," + zone, 1),
      ChoiceOf("ray.io/accelerator-type=in(T4,P100)", 2),
  };
  spec.name = absl::StrCat("class-", variant);
  return spec;
}

class BenchCluster {
 public:
  explicit BenchCluster(int nodes) {
    for (int node = 0; node < nodes; ++node) {
      NodeJoined join{.node = {static_cast<uint64_t>(node) + 1}, .name = absl::StrCat("n", node)};
      join.labels = LabelsOf(node);
      join.total.cpus = 64 * Amount::kUnit;
      join.total.gpu_devices = kGpusPerNode;
      Do(std::move(join));
    }
  }

  template <typename What>
  size_t Do(What what) {
    actions_.clear();
    scheduler_.Step({.at = absl::UnixEpoch(), .what = std::move(what)}, actions_);
    return actions_.size();
  }

  RequestId NextId() { return {++last_}; }

  // Requests of class `variant` until one waits.
  void FillUp(int variant) {
    while (Do(Requested{.request = NextId(), .spec = SpecOf(variant)}) == 1) {
    }
  }

  Scheduler& scheduler() { return scheduler_; }
  const std::vector<Action>& actions() const { return actions_; }

 private:
  Scheduler scheduler_;
  std::vector<Action> actions_;
  uint64_t last_ = 0;
};

// An idle cluster: each request is granted at once and finished.
void BM_GrantAndFinish(benchmark::State& state) {
  BenchCluster cluster(static_cast<int>(state.range(0)));
  const RequestSpec spec = SpecOf(0);
  for (auto _ : state) {
    const RequestId id = cluster.NextId();
    MUSTER_CHECK(cluster.Do(Requested{.request = id, .spec = spec}) == 1);
    cluster.Do(LeaseFinished{.request = id});
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_GrantAndFinish)->Arg(100)->Arg(1'000)->Arg(10'000)->Arg(100'000)->MinTime(0.5);

// A full cluster with 64 classes waiting: a lease finishes, and the oldest request that fits there
// has it.
void BM_FinishWithClassesWaiting(benchmark::State& state) {
  constexpr int kClasses = 64;
  BenchCluster cluster(static_cast<int>(state.range(0)));
  std::vector<RequestId> granted;
  const RequestSpec filler = SpecOf(0);
  while (true) {
    const RequestId id = cluster.NextId();
    if (cluster.Do(Requested{.request = id, .spec = filler}) == 0) break;
    granted.push_back(id);
    if (granted.size() >= 20'000) break;
  }
  for (int variant = 0; variant < kClasses; ++variant) cluster.FillUp(variant);
  size_t next = 0;
  for (auto _ : state) {
    cluster.Do(LeaseFinished{.request = granted[next]});
    for (const Action& action : cluster.actions()) {
      const Grant& grant = std::get<Grant>(action);
      granted[next] = grant.request;
    }
    next = (next + 1) % granted.size();
    cluster.Do(Requested{.request = cluster.NextId(), .spec = filler});
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_FinishWithClassesWaiting)->Arg(100)->Arg(1'000)->MinTime(0.5);

// One more request of a class that waits already.
void BM_QueueInABlockedClass(benchmark::State& state) {
  BenchCluster cluster(100);
  cluster.FillUp(0);
  const RequestSpec spec = SpecOf(0);
  for (auto _ : state) cluster.Do(Requested{.request = cluster.NextId(), .spec = spec});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_QueueInABlockedClass)->Iterations(1'000'000);

void BM_SelectorMatch(benchmark::State& state) {
  const LabelSelector selector =
      *LabelSelector::ParseText("ray.io/accelerator-type=in(L4,A100),ray.io/market-type=!spot");
  const Labels labels = LabelsOf(4);
  for (auto _ : state) benchmark::DoNotOptimize(selector.Matches(labels));
}
BENCHMARK(BM_SelectorMatch);

void BM_SelectorParse(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        LabelSelector::ParseText("ray.io/accelerator-type=in(L4,A100),ray.io/market-type=!spot"));
  }
}
BENCHMARK(BM_SelectorParse);

}  // namespace
}  // namespace muster::sched

BENCHMARK_MAIN();
