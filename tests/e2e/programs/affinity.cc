// The driver of the affinity tests: `affinity NODE hard|soft wait|fail tasks|ranks N FILE` runs N
// tasks of one CPU, or a group of N ranks, that want the node. Each says "on NODE" and holds its
// CPU until FILE is there.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "muster/muster.h"

namespace {

std::string Hold(std::string file) {
  const std::string node = muster::CurrentTask().node;
  printf("on %s\n", node.c_str());
  fflush(stdout);
  while (!std::filesystem::exists(file)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return node;
}

int Say(const absl::StatusOr<std::string>& result) {
  printf("%s\n", result.ok() ? ("result " + *result).c_str() : result.status().ToString().c_str());
  return result.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  if (argc != 7) return 2;
  const std::string file = argv[6];
  const int count = std::atoi(argv[5]);
  const muster::TaskOptions options = {
      .on_infeasible = argv[3] == std::string("fail") ? muster::OnInfeasible::kFail
                                                      : muster::OnInfeasible::kWait,
      .node_affinity = {.node = argv[1], .soft = argv[2] == std::string("soft")}};
  int failed = 0;
  if (argv[4] == std::string("ranks")) {
    const auto ranks =
        muster::Get(muster::Group<Hold>({.ranks = count, .per_rank = options}).Remote(file));
    if (!ranks.ok()) return Say(ranks.status());
    for (const std::string& node : *ranks) failed += Say(node);
    return failed;
  }
  std::vector<muster::ObjectRef<std::string>> results;
  for (int i = 0; i < count; ++i) {
    results.push_back(muster::Task<Hold>(options).Remote(file));
  }
  for (const auto& result : muster::Get(results)) failed += Say(result);
  return failed;
}
