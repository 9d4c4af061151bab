#include "runtime/worker/executor_cgroup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster::worker {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good();
}

}  // namespace

std::string OwnCgroup(const std::string& cgroup_text, const std::string& mountinfo_text) {
  std::string own;
  for (absl::string_view line : absl::StrSplit(cgroup_text, '\n')) {
    if (absl::ConsumePrefix(&line, "0::")) own = std::string(line);
  }
  if (own.empty()) return "";
  for (absl::string_view line : absl::StrSplit(mountinfo_text, '\n')) {
    // "36 25 0:31 /root /mount/point rw,... - cgroup2 cgroup2 rw": see proc(5).
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2 || halves[1].rfind("cgroup2 ", 0) != 0) continue;
    const std::vector<std::string> fields = absl::StrSplit(halves[0], ' ');
    if (fields.size() < 5) continue;
    const std::string& root = fields[3];
    const std::string below = root == "/" ? own : std::string(absl::StripPrefix(own, root));
    return absl::StrCat(fields[4], below == "/" ? "" : below);
  }
  return "";
}

ExecutorCgroup::ExecutorCgroup(pid_t pid, const std::string& root) {
  const std::string own =
      OwnCgroup(ReadFile(root + "/proc/self/cgroup"), ReadFile(root + "/proc/self/mountinfo"));
  if (own.empty()) return;
  const std::string path = absl::StrCat(root, own, "/muster-executor-", pid);
  if (mkdir(path.c_str(), 0755) != 0) return;  // Not delegated to us: the usual case.
  if (WriteFile(path + "/cgroup.procs", absl::StrCat(pid))) {
    path_ = path;
  } else {
    rmdir(path.c_str());
  }
}

ExecutorCgroup::~ExecutorCgroup() {
  if (made()) rmdir(path_.c_str());
}

void ExecutorCgroup::Kill() {
  if (made()) WriteFile(path_ + "/cgroup.kill", "1");
}

}  // namespace muster::worker
