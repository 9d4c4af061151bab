// The program of the README, as its author would write it: public headers only. The nodes of the
// local cluster that Init() starts have no L4, so the tasks that want one are only described; the
// last choice of the others is any node.
#include <iostream>
#include <string>
#include <vector>

#include "muster/muster.h"

double Score(std::string shard, int samples) { return static_cast<double>(shard.size()) * samples; }

int main(int argc, char** argv) {
  muster::Init(argc, argv);

  const muster::TaskOptions on_l4 = {
      .resources = {.cpus = 1, .gpus = 1},
      .label_selector = {{"ray.io/accelerator-type", "L4"}, {"ray.io/market-type", "spot"}},
      .fallback_strategy =
          {
              {.after = absl::Minutes(2), .label_selector = {{"ray.io/accelerator-type", "L4"}}},
              {.resources = {{.cpus = 1, .gpus = 2}},
               .label_selector = {{"ray.io/accelerator-type", "in(T4,P100)"}}},
          },
  };
  muster::TaskOptions anywhere = on_l4;
  anywhere.resources = {.cpus = 1};
  anywhere.fallback_strategy = {{.resources = {{.cpus = 1}}}};

  const std::vector<std::string> shards(argv + 1, argv + argc);
  std::vector<muster::ObjectRef<double>> scores;
  for (const std::string& shard : shards) {
    scores.push_back(muster::Task<Score>(anywhere).Remote(shard, 1000));
  }
  int failed = 0;
  size_t i = 0;
  for (const absl::StatusOr<double>& score : muster::Get(scores, absl::Minutes(1))) {
    if (score.ok()) {
      std::cout << shards[i] << ' ' << *score << '\n';
    } else {
      std::cerr << shards[i] << ": " << score.status() << '\n';
      failed = 1;
    }
    ++i;
  }
  return failed;
}
