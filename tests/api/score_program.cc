// The program of the first page of the manual, as a user would write it.
#include <cstdio>
#include <string>
#include <vector>

#include "muster/muster.h"

double Score(std::string shard, int samples) { return static_cast<double>(shard.size()) * samples; }

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
  muster::Shutdown();
  return sum == 6000 ? 0 : 1;
}
