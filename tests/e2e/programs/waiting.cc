// Submits tasks that must wait, prints their ids, and ends when its standard input does. For the
// tests of `muster status` and `muster explain`.
#include <unistd.h>

#include <cstdio>

#include "muster/muster.h"

namespace {

int Score(int x) { return x; }

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  const muster::TaskOptions options = {
      .resources = {.cpus = 1, .gpus = 1},
      .label_selector = {{"ray.io/accelerator-type", "H100"}},
      .fallback_strategy = {{.after = absl::Hours(1),
                             .label_selector = {{"ray.io/accelerator-type", "in(T4,L4)"}}}},
      .name = "Score",
  };
  std::vector<muster::ObjectRef<int>> refs;
  for (int i = 0; i < 20; ++i) refs.push_back(muster::Task<Score>(options).Remote(i));
  for (const muster::ObjectRef<int>& ref : refs) printf("task %s\n", ref.task_id().c_str());
  fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
