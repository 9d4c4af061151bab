// The program of the first page of the manual, as a user would write it.
#include <cstdio>
#include <string>
#include <vector>

#include "muster/muster.h"

double Score(std::string shard, int samples) { return static_cast<double>(shard.size()) * samples; }

int Twice(int number) { return 2 * number; }
void Nothing() {}

// Each call once, for the compilers' warnings.
int TheRest(const muster::TaskOptions& options) {
  const muster::ObjectRef<int> one = muster::Put(1);
  int sum = muster::GetOrDie(muster::Task<Twice>(options).Remote(one));
  for (const int value : muster::GetOrDie(std::vector{one, one})) sum += value;
  muster::GetOrDie(muster::Task<Nothing>({.resources = {.custom = {{"tape", 1}}}}).Remote());
  const auto group =
      muster::Group<Twice>({.ranks = 2, .per_rank = options, .max_restarts = 3}).Remote(one);
  for (const int value : muster::GetOrDie(group)) sum += value;
  const absl::StatusOr<std::vector<int>> again = muster::Get(group, absl::Minutes(1));
  const auto [ready, pending] = muster::Wait(std::vector{one}, 1, absl::Minutes(1));
  const absl::Status cancelled = muster::Cancel(one, {.force = true});
  return again.ok() && pending.empty() && cancelled.ok() ? sum : 0;
}

int main(int argc, char** argv) {
  muster::Init(argc, argv);

  const std::vector<std::string> shards = {"a", "bb", "ccc"};
  const muster::TaskOptions on_l4 = {
      .resources = {.cpus = 1, .gpus = 1, .custom = {{"tape", 0.5}}},
      .label_selector = {{"ray.io/accelerator-type", "L4"}, {"ray.io/market-type", "spot"}},
      .fallback_strategy =
          {
              {.after = absl::Minutes(2), .label_selector = {{"ray.io/accelerator-type", "L4"}}},
              {.resources = {{.cpus = 1, .gpus = 2, .custom = {{"tape", 1}}}},
               .label_selector = {{"ray.io/accelerator-type", "in(T4,P100)"}}},
              {.resources = {{.cpus = 1, .gpus = 2}},
               .label_selector = {muster::Label("zone").In({"a", "b"}), {"spot", "!yes"}}},
          },
  };
  std::vector<muster::ObjectRef<double>> scores;
  for (const std::string& shard : shards) {
    scores.push_back(muster::Task<Score>(on_l4).Remote(shard, 1000));
  }
  double sum = 0;
  for (const absl::StatusOr<double>& score : muster::Get(scores)) {
    if (!score.ok()) return 1;
    sum += *score;
  }
  std::printf("%.0f\n", sum);
  const int rest = TheRest(on_l4);
  muster::Shutdown();
  return sum == 6000 && rest == 8 ? 0 : 1;
}
