// What placement decisions cost, each timed by itself: by size of the cluster, number of classes and
// fullness, in steady state and while labels change and nodes come and go; what joins, blocked classes
// and queued requests cost; and a naive scan in the same run.
//
// The time of a benchmark is the mean time of a decision that grants; its percentiles are counters, in
// nanoseconds.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/allocations.h"
#include "bench/cheap_clock.h"
#include "bench/naive_scheduler.h"
#include "bench/scheduler_world.h"

namespace muster::bench {
namespace {

const CheapClock& Clock() {
  static const CheapClock clock;
  return clock;
}

// What single steps took.
class Steps {
 public:
  void Add(const World& world) {
    last_ = Clock().Nanoseconds(world.before_step(), world.after_step());
    nanoseconds_.push_back(static_cast<float>(last_));
  }
  double last() const { return last_; }
  double Percentile(double fraction) { return PercentileOf(nanoseconds_, fraction); }
  size_t size() const { return nanoseconds_.size(); }

 private:
  std::vector<float> nanoseconds_;
  double last_ = 0;
};

std::unique_ptr<World> MakeWorld(WorldOptions options, int percent) {
  auto world = std::make_unique<World>(options);
  world->Clock = CheapClock::Ticks;
  world->Join();
  world->FillTo(percent);
  return world;
}

// A lease ends and, unless something that waits takes its place, another request comes: the cluster
// stays as full as it is. Range: nodes, classes, choices of each (0: 1 to 8), percent full, and with
// how many decisions there is one change of a node (0: none).
void BM_Decide(benchmark::State& state) {
  const WorldOptions options{.nodes = static_cast<int>(state.range(0)),
                             .classes = static_cast<int>(state.range(1)),
                             .choices = static_cast<int>(state.range(2))};
  const std::unique_ptr<World> world = MakeWorld(options, static_cast<int>(state.range(3)));
  const int64_t change_every = state.range(4);
  Steps requested;
  Steps finished;
  Steps changed;
  int64_t until_change = change_every;
  int64_t allocations_before = 0;
  int64_t steps = 0;
  for (int i = 0; i < 20'000; ++i) {  // Until it is warm.
    if (!world->FinishOne() || !world->full()) world->RequestOne();
  }
  for (auto _ : state) {
    const bool replaced = world->FinishOne();
    finished.Add(*world);
    double took = 0;
    if (!replaced || !world->full()) {
      allocations_before = allocations;
      world->RequestOne();
      requested.Add(*world);
      took = requested.last();
      steps += allocations - allocations_before;
    }
    state.SetIterationTime(took * 1e-9);
    if (change_every > 0 && --until_change == 0) {
      until_change = change_every;
      if (changed.size() % 5 == 4) {
        world->Replace();
      } else {
        world->Relabel();
      }
      changed.Add(*world);
    }
  }
  state.counters["request_p50"] = requested.Percentile(0.50);
  state.counters["request_p99"] = requested.Percentile(0.99);
  state.counters["finish_p50"] = finished.Percentile(0.50);
  state.counters["finish_p99"] = finished.Percentile(0.99);
  if (change_every > 0) state.counters["change_p50"] = changed.Percentile(0.50);
  state.counters["waiting"] = static_cast<double>(world->waiting());
  state.counters["allocs"] = static_cast<double>(steps) / static_cast<double>(std::max<size_t>(1, requested.size()));
}
BENCHMARK(BM_Decide)
    ->UseManualTime()
    ->Iterations(100'000)
    ->ArgNames({"nodes", "classes", "choices", "full", "change_every"})
    ->ArgsProduct({{100, 1'000, 10'000, 100'000}, {64}, {3}, {70, 98}, {0}})
    ->ArgsProduct({{100, 1'000, 10'000, 100'000}, {1, 4096}, {0}, {70, 98}, {0}})
    ->ArgsProduct({{100, 1'000, 10'000, 100'000}, {64}, {3}, {70, 98}, {100}});

// The same decisions by the scan; few of them, since each takes long.
void BM_NaiveScan(benchmark::State& state) {
  const int nodes = static_cast<int>(state.range(0));
  Chance chance(static_cast<uint64_t>(nodes));
  NaiveScheduler scheduler;
  for (int i = 1; i <= nodes; ++i) {
    scheduler.Join(sched::WithAliases(LabelsOf(static_cast<uint64_t>(i))), TotalOf());
  }
  std::vector<sched::RequestSpec> specs;
  for (int i = 0; i < 64; ++i) specs.push_back(RandomSpec(chance, i, 3, nodes));
  for (auto _ : state) {
    const sched::RequestSpec& spec = specs[chance.Below(64)];
    const auto held = scheduler.Place(spec);
    MUSTER_CHECK(held.has_value());
    scheduler.Finish(*held, spec);
  }
}
BENCHMARK(BM_NaiveScan)->ArgName("nodes")->Arg(100)->Arg(1'000)->Arg(10'000)->Arg(100'000);

void BM_Join(benchmark::State& state) {
  const int nodes = static_cast<int>(state.range(0));
  double bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto world = std::make_unique<World>(WorldOptions{.nodes = nodes});
    for (const sched::SpecHandle& spec : world->specs()) {  // They are known, and wait.
      world->Request(static_cast<int>(&spec - world->specs().data()));
    }
    const int64_t before = allocated_bytes;
    state.ResumeTiming();
    world->Join();
    state.PauseTiming();
    bytes = static_cast<double>(allocated_bytes - before) / nodes;
    world.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * nodes);
  state.counters["bytes_per_node"] = bytes;
}
BENCHMARK(BM_Join)->Arg(100'000)->Unit(benchmark::kMillisecond)->Iterations(3);

// Requests of 64 classes that no node has room for.
void BM_Queue(benchmark::State& state) {
  const int requests = static_cast<int>(state.range(0));
  double bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto world = MakeWorld({.nodes = 10, .classes = 64, .choices = 3}, 0);
    for (int i = 0; i < 64 * 100; ++i) world->Request(i % 64);
    const int64_t before = allocated_bytes;
    state.ResumeTiming();
    sched::Event event{.at = absl::UnixEpoch(), .what = sched::Tick{}};
    std::vector<sched::Action> actions;
    for (int i = 0; i < requests; ++i) {
      event.what = sched::Requested{.request = {uint64_t{1} << 40 | static_cast<uint64_t>(i)},
                                    .spec = world->specs()[i % 64]};
      world->scheduler().Step(event, actions);
    }
    state.PauseTiming();
    bytes = static_cast<double>(allocated_bytes - before) / requests;
    world.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * requests);
  state.counters["bytes_per_request"] = bytes;
}
BENCHMARK(BM_Queue)->Arg(1'000'000)->Unit(benchmark::kMillisecond)->Iterations(3);

// A full cluster of one kind and leases that come and go there, while a number of classes wait for
// another kind: what each of these adds to a decision.
void BM_BlockedClasses(benchmark::State& state) {
  const int blocked = static_cast<int>(state.range(0));
  World world({.nodes = 1'000, .classes = 1, .choices = 1});
  world.Clock = CheapClock::Ticks;
  world.Join();
  sched::Scheduler& scheduler = world.scheduler();
  sched::Event event{.at = absl::UnixEpoch(), .what = sched::Tick{}};
  std::vector<sched::Action> actions;
  uint64_t last = 0;
  const auto ask = [&](const sched::SpecHandle& spec) {
    event.what = sched::Requested{.request = {++last}, .spec = spec};
    actions.clear();
    scheduler.Step(event, actions);
    return !actions.empty();
  };
  const auto spec_of = [](const std::string& accelerator, const std::string& name) {
    sched::RequestSpec spec;
    sched::Choice choice;
    choice.selector =
        *sched::LabelSelector::ParseText("ray.io/accelerator-type=" + accelerator);
    choice.resources.gpus = sched::Amount::kUnit;
    spec.choices = {choice, choice, choice};
    spec.name = name;
    return sched::SpecHandle(std::move(spec));
  };
  const sched::SpecHandle wanted = spec_of("H100", "wanted");
  const sched::SpecHandle full = spec_of("A100", "full");
  while (ask(full)) {
  }
  for (int i = 1; i < blocked; ++i) ask(spec_of("A100", absl::StrCat("blocked-", i)));
  for (auto _ : state) {
    MUSTER_CHECK(ask(wanted));
    event.what = sched::LeaseFinished{.request = {last}};
    actions.clear();
    scheduler.Step(event, actions);
  }
}
BENCHMARK(BM_BlockedClasses)->ArgName("classes")->Arg(1)->Arg(64)->Arg(4096);

void BM_SelectorMatch(benchmark::State& state) {
  const sched::LabelSelector selector =
      *sched::LabelSelector::ParseText("ray.io/accelerator-type=in(L4,A100),zone=!zone-3");
  const sched::Labels labels = LabelsOf(4);
  for (auto _ : state) benchmark::DoNotOptimize(selector.Matches(labels));
}
BENCHMARK(BM_SelectorMatch);

void BM_SelectorParse(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(sched::LabelSelector::ParseText(
        "ray.io/accelerator-type=in(L4,A100),ray.io/market-type=!spot"));
  }
}
BENCHMARK(BM_SelectorParse);

}  // namespace
}  // namespace muster::bench

BENCHMARK_MAIN();
