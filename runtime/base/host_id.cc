#include "runtime/base/host_id.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// Without a /proc there is the host's name, and what is unknown counts as different from all that
// is known.
std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  if (std::getline(file, id) && !id.empty()) return std::string(absl::StripAsciiWhitespace(id));
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return absl::StrCat("host-", name);
}

std::string Namespace(const char* name) {
  struct stat info = {};
  const std::string path = absl::StrCat("/proc/self/ns/", name);
  if (stat(path.c_str(), &info) != 0) return "unknown";
  return absl::StrCat(info.st_ino);
}

}  // namespace

std::string HostId() {
  static const std::string id =
      absl::StrCat(BootId(), "-", Namespace("mnt"), "-", Namespace("pid"), "-", Namespace("net"));
  return id;
}

}  // namespace muster
