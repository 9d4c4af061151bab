// bench/workloads.h in Ray's C++ API.
//
// Built by the `peers` bench against the headers and library of the `ray-cpp` package, once as a
// program and once as the shared library that Ray's workers load (--code=). The process leaves its
// cluster running: whoever started it ends it, because ray::Shutdown() would end every Ray on the
// machine.

#include "bench/workloads.h"
#include "ray/api.h"

int Noop() { return 0; }
int Hold(std::string path) { return muster::bench::HoldUntilFileIsThere(path); }
RAY_REMOTE(Noop, Hold);

namespace {

struct RayApi {
  using Ref = ray::ObjectRef<int>;
  static Ref Start() { return ray::Task(Noop).Remote(); }
  static Ref StartHold(const std::string& path) { return ray::Task(Hold).Remote(path); }
  static void Get(const Ref& ref) { ray::Get(ref); }
  static void GetAll(const std::vector<Ref>& refs) { ray::Get(refs); }
  static constexpr bool kHasFallbacks = false;  // Ray's C++ API has no label selectors.
  static Ref StartWithFallbacks() { return Start(); }
};

}  // namespace

int main(int argc, char** argv) {
  const muster::bench::Flags flags = muster::bench::ParseFlags(argc, argv);
  ray::RayConfig config;
  config.code_search_path = {flags.code};
  config.head_args = {
      "--num-cpus",   std::to_string(flags.cpus), "--include-dashboard", "false", "--temp-dir",
      flags.temp_dir, "--disable-usage-stats"};
  config.head_args.insert(config.head_args.end(), {"--object-store-memory", "200000000"});

  const muster::bench::Stopwatch since_init;
  ray::Init(config);
  RayApi::Get(RayApi::Start());
  muster::bench::Report({"Init to first result", since_init.Seconds() * 1e3, "ms", "lower", 1, ""});
  const bool done = muster::bench::Workloads<RayApi>(flags).Run();
  std::fflush(stdout);
  std::_Exit(done ? 0 : 2);
}
