#include "runtime/worker/detect/cgroups.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace muster::worker {
namespace {

constexpr absl::string_view NameOf(CgroupController controller) {
  switch (controller) {
    case CgroupController::kCpu:
      return "cpu";
    case CgroupController::kCpuset:
      return "cpuset";
    case CgroupController::kMemory:
      return "memory";
  }
  return "";
}

bool ListHas(absl::string_view comma_separated, absl::string_view name) {
  for (absl::string_view entry : absl::StrSplit(comma_separated, ',')) {
    if (entry == name) return true;
  }
  return false;
}

struct Mount {
  std::string root;   // Which part of the hierarchy is mounted.
  std::string point;  // Where.
};

// mountinfo: "36 35 98:0 /root /point options [optional...] - type source super_options".
std::optional<Mount> FindMount(const std::string& root, bool v2, absl::string_view controller) {
  const std::optional<std::string> text = ReadSmallFile(absl::StrCat(root, "/proc/self/mountinfo"));
  if (!text) return std::nullopt;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 6 || right.size() < 3) continue;
    const bool matches =
        v2 ? right[0] == "cgroup2" : right[0] == "cgroup" && ListHas(right[2], controller);
    if (matches) return Mount{std::string(left[3]), std::string(left[4])};
  }
  return std::nullopt;
}

// The cgroup's path below the mount point. A container sees its own part of the hierarchy mounted,
// while the path may still be the host's: then the mounted part is all there is.
std::string PathBelowMount(const std::string& cgroup, const std::string& mount_root) {
  if (mount_root == "/") return cgroup;
  absl::string_view below = cgroup;
  if (absl::ConsumePrefix(&below, mount_root) && (below.empty() || below.front() == '/')) {
    return std::string(below);
  }
  return "";
}

CgroupHierarchy Walk(const std::string& root, bool v2, const Mount& mount,
                     const std::string& cgroup) {
  CgroupHierarchy hierarchy;
  hierarchy.v2 = v2;
  std::string path = PathBelowMount(cgroup, mount.root);
  // A path with ".." lies outside this cgroup namespace; only what is mounted can be read.
  if (absl::StrContains(path, "..")) path.clear();
  while (!path.empty() && path != "/") {
    hierarchy.directories.push_back(absl::StrCat(root, mount.point, path));
    path.resize(path.rfind('/'));
  }
  hierarchy.directories.push_back(absl::StrCat(root, mount.point));
  return hierarchy;
}

}  // namespace

std::optional<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return std::string(absl::StripTrailingAsciiWhitespace(text.str()));
}

std::vector<CgroupHierarchy> FindCgroups(const std::string& root, CgroupController controller) {
  std::vector<CgroupHierarchy> found;
  const std::optional<std::string> text = ReadSmallFile(absl::StrCat(root, "/proc/self/cgroup"));
  if (!text) return found;
  const absl::string_view name = NameOf(controller);
  // Lines are "hierarchy:controllers:path"; v2 is hierarchy 0 and names no controllers.
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const bool v2 = fields[0] == "0" && fields[1].empty();
    if (!v2 && !ListHas(fields[1], name)) continue;
    const std::optional<Mount> mount = FindMount(root, v2, name);
    if (mount) found.push_back(Walk(root, v2, *mount, std::string(fields[2])));
  }
  return found;
}

}  // namespace muster::worker
