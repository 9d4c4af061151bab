// The driver of the return tests: `returning FILE HOW RANKS MOVES GRACE_MS` runs a group until FILE
// is there. It asks for spot nodes first, and for any else. Each rank says where it is, and leaves
// as HOW says: "aside" (a call saves), "self" (it saves by itself), or "never" (it is killed).
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "muster/muster.h"

namespace {

void Say(const std::string& text) {
  printf("%s\n", text.c_str());
  fflush(stdout);
}

std::string Train(std::string file, std::string how) {
  const muster::GroupContext group = muster::CurrentGroup();
  const std::string rank = "rank " + std::to_string(group.rank);
  const auto save = [&](const muster::TaskInfo& told) {
    Say(rank + " saves: " + told.leaving_because);
    return true;
  };
  const auto no = [](const muster::TaskInfo&) { return false; };
  const muster::OnLeaving on_leaving(
      how == "aside" ? std::function<bool(const muster::TaskInfo&)>(save) : no);
  const muster::TaskInfo begun = muster::CurrentTask();
  Say(rank + " generation " + std::to_string(group.generation) + " on " + begun.node + " choice " +
      std::to_string(begun.choice));
  while (!std::filesystem::exists(file)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const muster::TaskInfo now = muster::CurrentTask();
    if (how != "self" || now.leaving_because.empty()) continue;
    save(now);
    muster::LeaveNow();
  }
  return begun.node;
}

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  if (argc != 6) return 2;
  muster::GroupOptions options;
  options.ranks = std::atoi(argv[3]);
  options.per_rank.label_selector = {{"ray.io/market-type", "spot"}};
  options.per_rank.fallback_strategy = {{.label_selector = {}}};
  options.return_to_preferred = {.moves = std::atoi(argv[4]),
                                 .after = absl::Milliseconds(50),
                                 .grace = absl::Milliseconds(std::atoi(argv[5]))};
  const auto result =
      muster::Get(muster::Group<Train>(options).Remote(std::string(argv[1]), std::string(argv[2])));
  if (!result.ok()) {
    Say("failed: " + result.status().ToString());
    return 1;
  }
  for (const std::string& node : *result) Say("ended on " + node);
  return 0;
}
