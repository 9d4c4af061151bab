// The driver of the sharing tests: `sharing FILE PRIORITY N` runs N tasks of one CPU until FILE is
// there; each says when it holds its CPU, and when it is told to leave. No task may be retried, so
// that a retry that counts would fail it.
#include <unistd.h>

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
  printf("holding\n");
  fflush(stdout);
  bool told = false;
  while (!std::filesystem::exists(file)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const muster::TaskInfo task = muster::CurrentTask();
    if (told || task.leaving_because.empty()) continue;
    told = true;
    printf("told %s %s\n", task.deadline.has_value() ? "with a deadline" : "without a deadline",
           task.leaving_because.c_str());
    fflush(stdout);
  }
  return "pid=" + std::to_string(getpid()) +
         " attempt=" + std::to_string(muster::CurrentTask().attempt);
}

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  if (argc != 4) return 2;
  muster::TaskOptions options;
  options.priority = std::atoi(argv[2]);
  options.max_retries = 0;
  std::vector<muster::ObjectRef<std::string>> results;
  for (int i = 0; i < std::atoi(argv[3]); ++i) {
    results.push_back(muster::Task<Hold>(options).Remote(std::string(argv[1])));
  }
  for (const auto& result : muster::Get(results)) {
    if (!result.ok()) {
      printf("failed: %s\n", std::string(result.status().message()).c_str());
      return 1;
    }
    printf("result %s\n", result->c_str());
  }
  return 0;
}
