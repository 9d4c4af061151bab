// bench/workloads.h in muster, on a cluster that Init() starts on this machine.
//
//   build/release/bin/tasks_bench --workloads=sync,async,submitters,fallbacks
//   build/release/bin/tasks_bench --workloads=queued --temp-dir=/tmp/x --queued-tasks=1000000
//   --drain=1

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/workloads.h"
#include "muster/muster.h"

namespace {

int Noop() { return 0; }
int Hold(const std::string& path) { return muster::bench::HoldUntilFileIsThere(path); }

const muster::TaskOptions kPlain = {};
const muster::TaskOptions kOnlyTheLastChoiceCanBeMet = {
    .label_selector = {{"ray.io/accelerator-type", "H100"}},
    .fallback_strategy = {{.label_selector = {{"ray.io/accelerator-type", "A100"}}},
                          {.label_selector = {{"ray.io/accelerator-type", "!none"}}}},
};

struct MusterApi {
  using Ref = muster::ObjectRef<int>;

  static Ref Start() { return muster::Task<Noop>(kPlain).Remote(); }
  static Ref StartHold(const std::string& path) { return muster::Task<Hold>(kPlain).Remote(path); }
  static constexpr bool kHasFallbacks = true;
  static Ref StartWithFallbacks() {
    return muster::Task<Noop>(kOnlyTheLastChoiceCanBeMet).Remote();
  }
  static void Get(const Ref& ref) { Check(muster::Get(ref)); }
  static void GetAll(const std::vector<Ref>& refs) {
    for (const absl::StatusOr<int>& result : muster::Get(refs)) Check(result);
  }

 private:
  static void Check(const absl::StatusOr<int>& result) {
    if (result.ok()) return;
    std::fprintf(stderr, "tasks_bench: a task failed: %s\n", result.status().ToString().c_str());
    std::_Exit(1);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const muster::bench::Stopwatch since_init;
  muster::Init(argc, argv);  // In an executor it does not return.
  MusterApi::Get(MusterApi::Start());
  const double init_seconds = since_init.Seconds();

  const muster::bench::Flags flags = muster::bench::ParseFlags(argc, argv);
  muster::bench::Report({"Init to first result", init_seconds * 1e3, "ms", "lower", 1, ""});
  const bool done = muster::bench::Workloads<MusterApi>(flags).Run();
  muster::Shutdown();
  return done ? 0 : 2;
}
