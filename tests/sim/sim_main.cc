// muster_sim --seed=N [--verbose]: one run, step by step if asked. muster_sim --seeds=A-B: many,
// each in a process of its own so that a broken invariant ends only its run; prints the seeds that
// fail.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/sim/cluster_sim.h"

namespace {

int RunOne(uint64_t seed, bool verbose, bool quiet) {
  muster::sim::SimOptions options;
  options.verbose = verbose;
  muster::sim::SimResult result;
  try {
    result = muster::sim::Simulate(seed, options);
  } catch (const std::exception& thrown) {
    result.errors.push_back(absl::StrCat("a core threw: ", thrown.what()));
  }
  for (const std::string& error : result.errors)
    printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), error.c_str());
  if (!quiet) {
    printf("seed %llu: %s\n%d submitted, %d ended once, %d of them well; %d faults; %s\n",
           static_cast<unsigned long long>(seed), result.plan.c_str(), result.submitted,
           result.ended_once, result.ended_ok, result.faults, result.trace.c_str());
  }
  fflush(stdout);
  return result.errors.empty() ? 0 : 1;
}

int RunMany(uint64_t first, uint64_t last) {
  std::vector<uint64_t> failed;
  for (uint64_t seed = first; seed <= last; ++seed) {
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) {
      perror("muster_sim: fork");
      return 1;
    }
    if (child == 0) {
      alarm(300);
      _exit(RunOne(seed, false, true));
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status == 0) continue;
    if (WIFSIGNALED(status))
      printf("seed %llu: ended by signal %d\n", static_cast<unsigned long long>(seed),
             WTERMSIG(status));
    failed.push_back(seed);
  }
  const std::string text = absl::StrCat(last - first + 1, " seeds, ", failed.size(), " failed ",
                                        absl::StrJoin(failed, " "), "\n");
  fputs(text.c_str(), stdout);
  return failed.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 0;
  bool verbose = false;
  bool wrong = argc < 2;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (argument == "--verbose") {
      verbose = true;
    } else if (absl::ConsumePrefix(&argument, "--seed=")) {
      wrong = wrong || !absl::SimpleAtoi(argument, &seed);
    } else if (absl::ConsumePrefix(&argument, "--seeds=")) {
      const std::vector<std::string> ends = absl::StrSplit(argument, '-');
      uint64_t first = 0;
      uint64_t last = 0;
      if (ends.size() == 2 && absl::SimpleAtoi(ends[0], &first) &&
          absl::SimpleAtoi(ends[1], &last) && first <= last) {
        return RunMany(first, last);
      }
      wrong = true;
    } else {
      wrong = true;
    }
  }
  if (wrong) {
    fprintf(stderr, "usage: muster_sim --seed=N [--verbose] | muster_sim --seeds=A-B\n");
    return 2;
  }
  return RunOne(seed, verbose, false);
}
