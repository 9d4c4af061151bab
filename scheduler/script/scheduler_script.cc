// scheduler_script: runs a golden script, or checks it against its own ">" lines.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "scheduler/script/script.h"

namespace muster::sched {
namespace {

constexpr char kHelp[] = R"(scheduler_script FILE [--check]

Runs the events of a script through the scheduler and prints what it does, as the script's own "> " lines.
  --check           prints nothing where the script's ">" lines say the same; else the difference ("-" the
                    script, "+" the scheduler)
  MUSTER_REWRITE=1  with --check: writes what the scheduler does into the script instead

Exit codes: 0 done, 1 a difference, 2 wrong usage or a bad script.
Example: scheduler_script tests/golden/choices_are_tried_in_order.txt --check
The statements: see scheduler/script/script.h.
)";

enum ExitCode { kDone = 0, kDiffers = 1, kUsage = 2 };

int Usage(const std::string& what) {
  std::cerr << "scheduler_script: " << what << "\n\n" << kHelp;
  return kUsage;
}

int Check(const Script& script, const std::string& path) {
  const std::vector<std::vector<std::string>> printed = RunScript(script);
  const std::string diff = DiffScript(script, printed);
  if (diff.empty()) return kDone;
  const char* rewrite = std::getenv("MUSTER_REWRITE");
  if (rewrite == nullptr || std::string(rewrite) != "1") {
    std::cout << path << ":\n" << diff;
    return kDiffers;
  }
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << RewriteScript(script, printed);
  out.close();
  if (!out) return Usage(absl::StrCat("cannot write ", path));
  std::cout << path << ": rewritten\n";
  return kDone;
}

int Main(int argc, char** argv) {
  std::string path;
  bool check = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::cout << kHelp;
      return kDone;
    }
    if (argument == "--check") {
      check = true;
    } else if (argument.rfind('-', 0) == 0) {
      return Usage(absl::StrCat("unknown option ", argument, "; allowed: --check, --help"));
    } else if (!path.empty()) {
      return Usage("give one FILE");
    } else {
      path = argument;
    }
  }
  if (path.empty()) return Usage("FILE is missing");
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return Usage(absl::StrCat("cannot read ", path));
  const absl::StatusOr<Script> script = ParseScript(text.str());
  if (!script.ok()) {
    std::cerr << path << ":" << script.status().message() << "\n";
    return kUsage;
  }
  if (check) return Check(*script, path);
  for (const std::vector<std::string>& lines : RunScript(*script)) {
    for (const std::string& line : lines) std::cout << "> " << line << "\n";
  }
  return kDone;
}

}  // namespace
}  // namespace muster::sched

int main(int argc, char** argv) { return muster::sched::Main(argc, argv); }
