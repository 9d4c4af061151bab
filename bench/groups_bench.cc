// Placement groups: how many are placed and removed in a second on 640 nodes of 8 GPUs, in racks of
// 16 and NVLink domains of 18 nodes, 70 % full. Groups have 2 to 72 GPUs: whole nodes' worth in
// bundles of 8, smaller ones in one bundle for each GPU. Every grant is checked to be whole, and by
// its strategy.
//
// Prints a JSON object for each strategy: groups/s by repetition, and groups that were partial.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/chance.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

constexpr int kNodes = 640;
constexpr int kGpusPerNode = 8;
constexpr int kGpusMax = 72;

std::vector<SpecHandle> SpecsOf(const Strategy& strategy) {
  std::vector<SpecHandle> specs;
  for (int gpus = 0; gpus <= kGpusMax; ++gpus) {
    const int each = gpus >= kGpusPerNode ? kGpusPerNode : 1;
    GroupShape shape;
    shape.strategy = strategy;
    Choice choice;
    choice.resources.cpus = each * Amount::kUnit;
    choice.resources.gpus = each * Amount::kUnit;
    shape.bundles.assign(static_cast<size_t>(std::max(gpus / each, 1)), {.choices = {choice}});
    specs.emplace_back(GroupSpec({std::move(shape)}));
  }
  return specs;
}

class Bench {
 public:
  Bench() : scheduler_(Config()) {
    for (int node = 0; node < kNodes; ++node) {
      NodeJoined join{.node = {static_cast<uint64_t>(node) + 1}, .name = absl::StrCat("n", node)};
      join.labels = {{"rack", absl::StrCat("rack-", node / 16)},
                     {"ray.io/gpu-domain", absl::StrCat("domain-", node / 18)},
                     {"ray.io/zone", absl::StrCat("zone-", node / 160)}};
      join.total.cpus = 64 * Amount::kUnit;
      join.total.gpu_devices = kGpusPerNode;
      Do(std::move(join));
    }
  }

  // Places and removes `count` groups, the oldest first, at 70 % of the GPUs. Groups a second.
  double Run(const std::vector<SpecHandle>& specs, int count, int64_t& partial, int64_t& placed) {
    Chance chance(7);
    std::vector<int> sizes;
    for (int i = 0; i < count; ++i) sizes.push_back(2 + chance.Below(kGpusMax - 1));
    const auto start = std::chrono::steady_clock::now();
    for (const int gpus : sizes) {
      while (used_ + gpus > kNodes * kGpusPerNode * 7 / 10) Remove();
      const RequestId id{++last_};
      Do(Requested{.request = id, .spec = specs[gpus]});
      if (actions_.empty()) {  // No domain has room: it does not wait here.
        Do(RequestCancelled{.request = id});
        continue;
      }
      const Grant& grant = std::get<Grant>(actions_[0]);
      ++placed;
      if (grant.placements.size() != specs[gpus]->shapes[0].bundles.size()) ++partial;
      const int held =
          static_cast<int>(grant.placements.size() *
                           static_cast<size_t>(grant.placements[0].resources.gpus / Amount::kUnit));
      live_.push_back({id, held});
      used_ += held;
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return count / seconds;
  }

  void Clear() {
    while (!live_.empty()) Remove();
  }
  void Check() const { scheduler_.CheckInvariants(); }

 private:
  static SchedulerConfig Config() {
    SchedulerConfig config;
    config.overtaken_max = 0;  // Nothing waits here.
    config.reservation_after = absl::InfiniteDuration();
    return config;
  }
  template <typename What>
  void Do(What what) {
    actions_.clear();
    scheduler_.Step({.at = absl::UnixEpoch(), .what = std::move(what)}, actions_);
  }
  void Remove() {
    const auto [id, gpus] = live_.front();
    live_.pop_front();
    used_ -= gpus;
    Do(RequestCancelled{.request = id});
  }

  Scheduler scheduler_;
  std::vector<Action> actions_;
  std::deque<std::pair<RequestId, int>> live_;
  int used_ = 0;
  uint64_t last_ = 0;
};

}  // namespace
}  // namespace muster::sched

int main(int argc, char** argv) {
  using muster::sched::Bench;
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 5;
  const int count = argc > 2 ? std::atoi(argv[2]) : 50'000;
  const std::vector<std::vector<std::string>> strategies = {
      {"same(ray.io/gpu-domain)", "same(rack)", "pack"},
      {"same(rack)"},
      {"pack"},
      {"strict_spread"},
      {"spread"}};
  for (const std::vector<std::string>& levels : strategies) {
    muster::sched::Strategy strategy;
    for (const std::string& level : levels) strategy.push_back(*muster::sched::ParseLevel(level));
    const auto specs = muster::sched::SpecsOf(strategy);
    Bench bench;
    int64_t partial = 0;
    int64_t placed = 0;
    std::string rates;
    for (int i = 0; i < repetitions; ++i) {
      absl::StrAppend(&rates, i == 0 ? "" : ", ",
                      static_cast<int64_t>(bench.Run(specs, count, partial, placed)));
    }
    bench.Check();
    printf(
        "{\"strategy\": \"%s\", \"groups_per_s\": [%s], \"partial\": %lld, "
        "\"placed\": %lld, \"asked\": %lld}\n",
        muster::sched::ToText(strategy).c_str(), rates.c_str(), static_cast<long long>(partial),
        static_cast<long long>(placed), static_cast<long long>(count) * repetitions);
  }
  return 0;
}
