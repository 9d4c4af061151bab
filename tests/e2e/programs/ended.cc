// Runs one task to its end, prints its id, and ends when its standard input does. For the tests of
// `muster explain` on tasks that are over.
#include <unistd.h>

#include <cstdio>

#include "muster/muster.h"

namespace {

int Score(int x) { return x + 1; }

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  const muster::TaskOptions options = {
      .resources = {.cpus = 1},
      .label_selector = {{"zone", "nowhere"}},
      .fallback_strategy = {{.label_selector = {}}},
      .name = "Score",
  };
  const muster::ObjectRef<int> ref = muster::Task<Score>(options).Remote(1);
  printf("task %s %d\n", ref.task_id().c_str(), muster::GetOrDie(ref));
  fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
