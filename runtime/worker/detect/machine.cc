#include "runtime/worker/detect/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "runtime/worker/detect/cgroups.h"
#include "scheduler/base/status_macros.h"

namespace muster::worker {
namespace {

// Reads one limit after another; what cannot be understood becomes a note.
class Limits {
 public:
  explicit Limits(const MachineOptions& options) : options_(options) {}

  int Cpus(int machine_cpus) {
    int cpus = machine_cpus;
    ForEachDirectory(CgroupController::kCpuset, [&](bool v2, const std::string& directory) {
      const std::string path =
          absl::StrCat(directory, v2 ? "/cpuset.cpus.effective" : "/cpuset.effective_cpus");
      const std::optional<std::string> text = ReadSmallFile(path);
      if (!text || text->empty()) return;
      const std::optional<int> count = CountCpuList(*text);
      if (count && *count > 0) {
        cpus = std::min(cpus, *count);
      } else {
        NotUnderstood(path, *text);
      }
    });
    ForEachDirectory(CgroupController::kCpu, [&](bool v2, const std::string& directory) {
      const std::optional<int> quota = v2 ? QuotaV2(directory) : QuotaV1(directory);
      if (quota) cpus = std::min(cpus, *quota);
    });
    return std::max(cpus, 1);
  }

  int64_t Memory(int64_t machine_bytes) {
    int64_t bytes = machine_bytes;
    ForEachDirectory(CgroupController::kMemory, [&](bool v2, const std::string& directory) {
      const std::string path =
          absl::StrCat(directory, v2 ? "/memory.max" : "/memory.limit_in_bytes");
      const std::optional<std::string> text = ReadSmallFile(path);
      if (!text || *text == "max") return;
      int64_t limit = 0;
      if (absl::SimpleAtoi(*text, &limit) && limit > 0) {
        bytes = std::min(bytes, limit);
      } else if (*text != "-1") {
        NotUnderstood(path, *text);
      }
    });
    return bytes;
  }

  std::vector<std::string> TakeNotes() { return std::move(notes_); }

 private:
  template <typename Visit>
  void ForEachDirectory(CgroupController controller, Visit visit) {
    for (const CgroupHierarchy& hierarchy : FindCgroups(options_.root, controller)) {
      for (const std::string& directory : hierarchy.directories) visit(hierarchy.v2, directory);
    }
  }

  void NotUnderstood(const std::string& path, const std::string& text) {
    notes_.push_back(absl::StrCat(path, " says \"", text.substr(0, 80),
                                  "\": not understood, no limit taken from it"));
  }

  // "200000 100000" or "max 100000".
  std::optional<int> QuotaV2(const std::string& directory) {
    const std::string path = absl::StrCat(directory, "/cpu.max");
    const std::optional<std::string> text = ReadSmallFile(path);
    if (!text || absl::StartsWith(*text, "max")) return std::nullopt;
    const std::vector<absl::string_view> words = absl::StrSplit(*text, ' ');
    if (words.size() == 2) return WholeCpus(path, *text, words[0], words[1]);
    NotUnderstood(path, *text);
    return std::nullopt;
  }

  std::optional<int> QuotaV1(const std::string& directory) {
    const std::string path = absl::StrCat(directory, "/cpu.cfs_quota_us");
    const std::optional<std::string> quota = ReadSmallFile(path);
    const std::optional<std::string> period =
        ReadSmallFile(absl::StrCat(directory, "/cpu.cfs_period_us"));
    if (!quota || !period || *quota == "-1") return std::nullopt;
    return WholeCpus(path, absl::StrCat(*quota, " of ", *period), *quota, *period);
  }

  std::optional<int> WholeCpus(const std::string& path, const std::string& text,
                               absl::string_view quota_text, absl::string_view period_text) {
    int64_t quota = 0;
    int64_t period = 0;
    if (!absl::SimpleAtoi(quota_text, &quota) || !absl::SimpleAtoi(period_text, &period) ||
        quota <= 0 || period <= 0) {
      NotUnderstood(path, text);
      return std::nullopt;
    }
    const int64_t cpus = std::max<int64_t>(quota / period, 1);
    return static_cast<int>(std::min<int64_t>(cpus, std::numeric_limits<int>::max()));
  }

  const MachineOptions& options_;
  std::vector<std::string> notes_;
};

int KernelAffinity() {
  // The mask must be as large as the kernel's, which may be built for more CPUs than a cpu_set_t
  // holds.
  for (size_t cpus_max = 1024; cpus_max <= (1 << 20); cpus_max *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus_max);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(cpus_max);
    const bool ok = sched_getaffinity(0, bytes, set) == 0;
    const int count = ok ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (ok && count > 0) return count;
  }
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

absl::StatusOr<int64_t> MemTotal(const std::string& root) {
  const std::string path = absl::StrCat(root, "/proc/meminfo");
  const std::optional<std::string> text = ReadSmallFile(path);
  if (!text) return absl::UnavailableError(absl::StrCat("cannot read ", path));
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kib = 0;
    if (words.size() == 3 && words[0] == "MemTotal:" && words[2] == "kB" &&
        absl::SimpleAtoi(words[1], &kib) && kib > 0 &&
        kib <= std::numeric_limits<int64_t>::max() / 1024) {
      return kib * 1024;
    }
  }
  return absl::UnavailableError(absl::StrCat(path, " says nothing of MemTotal"));
}

}  // namespace

std::optional<int> CountCpuList(const std::string& text) {
  int64_t count = 0;
  for (absl::string_view range : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(range, '-');
    int first = 0;
    int last = 0;
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first < 0 || last < first) {
      return std::nullopt;
    }
    count += int64_t{last} - first + 1;
    if (count > std::numeric_limits<int>::max()) return std::nullopt;
  }
  return static_cast<int>(count);
}

absl::StatusOr<Machine> DetectMachine(const MachineOptions& options) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t mem_total, MemTotal(options.root));
  Limits limits(options);
  Machine machine;
  machine.cpus = limits.Cpus(options.affinity_cpus ? *options.affinity_cpus : KernelAffinity());
  machine.memory_bytes = limits.Memory(mem_total);
  machine.notes = limits.TakeNotes();
  return machine;
}

}  // namespace muster::worker
