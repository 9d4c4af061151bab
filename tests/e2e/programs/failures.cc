// The driver of the failure tests: runs what its arguments say, one line of output a fact. Tests
// kill whatever they like around it.
//   failures count N MS          N tasks of MS milliseconds each; "done N" with the number of right
//   answers failures prefer N MS         the same, with "zone=a" as choice 0 and any node as
//   fallback failures hold FILE           one task that runs until FILE is there; "result pid=P
//   node=X attempt=A" failures ranks N MS          a group of N ranks that meet in the store every
//   MS milliseconds, 20 times
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "muster/muster.h"

namespace {

struct Ran {
  int number = 0;
  int attempt = 0;
  int choice = 0;
  std::string node = {};
};

// Busy for a while without sleeping in a lock: it can be stopped and killed at any point.
Ran Work(int number, int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  const muster::TaskInfo task = muster::CurrentTask();
  return {.number = number, .attempt = task.attempt, .choice = task.choice, .node = task.node};
}

std::string Hold(std::string file) {
  printf("holding\n");
  while (!std::filesystem::exists(file)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const muster::TaskInfo task = muster::CurrentTask();
  return "pid=" + std::to_string(getpid()) + " node=" + task.node +
         " attempt=" + std::to_string(task.attempt);
}

void Chatter(int lines) {
  for (int i = 0; i < lines; ++i) {
    fprintf(stdout, "out %d\n", i);
    fprintf(stderr, "err %d\n", i);
  }
  printf("no end of line");
}

int Rank(int milliseconds) {
  const auto group = muster::CurrentGroup();
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    const std::string key = "r" + std::to_string(round) + "/";
    if (!group.store.Set(key + std::to_string(group.rank), "x").ok()) return -1;
    for (int rank = 0; rank < group.size; ++rank) {
      if (!group.store.Get(key + std::to_string(rank), absl::Seconds(60)).ok()) return -1;
    }
  }
  return group.generation;
}

int Count(int tasks, int milliseconds, const muster::TaskOptions& options) {
  std::vector<muster::ObjectRef<Ran>> refs;
  for (int i = 0; i < tasks; ++i)
    refs.push_back(muster::Task<Work>(options).Remote(i, milliseconds));
  printf("submitted %d\n", tasks);
  fflush(stdout);
  int right = 0;
  std::map<std::string, int> by_node;
  std::map<int, int> by_choice;
  for (int i = 0; i < tasks; ++i) {
    const absl::StatusOr<Ran> ran = muster::Get(refs[static_cast<size_t>(i)]);
    if (!ran.ok()) {
      printf("error %s\n", ran.status().ToString().c_str());
      continue;
    }
    if (ran->number == i) ++right;
    ++by_node[ran->node];
    ++by_choice[ran->choice];
    if (i == 0) printf("first\n");
    fflush(stdout);
  }
  for (const auto& [node, count] : by_node) printf("node %s %d\n", node.c_str(), count);
  for (const auto& [choice, count] : by_choice) printf("choice %d %d\n", choice, count);
  printf("done %d\n", right);
  return right == tasks ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  const std::string what = argc > 1 ? argv[1] : "";
  const int number = argc > 2 ? std::atoi(argv[2]) : 0;
  const int milliseconds = argc > 3 ? std::atoi(argv[3]) : 0;
  if (what == "count") return Count(number, milliseconds, {});
  if (what == "prefer")
    return Count(number, milliseconds,
                 {.label_selector = {{"zone", "a"}}, .fallback_strategy = {{}}});
  if (what == "hold" && argc > 2) {
    const absl::StatusOr<std::string> result =
        muster::Get(muster::Task<Hold>().Remote(std::string(argv[2])));
    printf("result %s\n", result.ok() ? result->c_str() : result.status().ToString().c_str());
    return result.ok() ? 0 : 1;
  }
  if (what == "choices" && argc > 3) {
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
    std::vector<muster::ObjectRef<std::string>> refs;
    for (int i = 0; i < number; ++i) {
      refs.push_back(muster::Task<Hold>(on_l4).Remote(std::string(argv[3])));
      printf("task %s\n", refs.back().task_id().c_str());
    }
    fflush(stdout);
    for (const auto& result : muster::Get(refs)) {
      printf("result %s\n", result.ok() ? result->c_str() : result.status().ToString().c_str());
    }
    return 0;
  }
  if (what == "chatter") {
    const absl::Status done = muster::Get(muster::Task<Chatter>().Remote(number));
    return done.ok() ? 0 : 1;  // At once: what was written comes before the end all the same.
  }
  if (what == "ranks") {
    const auto generations =
        muster::Get(muster::Group<Rank>({.ranks = number, .max_restarts = 3}).Remote(milliseconds));
    if (!generations.ok()) {
      printf("error %s\n", generations.status().ToString().c_str());
      return 1;
    }
    for (const int generation : *generations) printf("generation %d\n", generation);
    return 0;
  }
  fprintf(stderr, "failures: what?\n");
  return 2;
}
