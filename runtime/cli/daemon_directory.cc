#include "runtime/cli/daemon_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/host_id.h"
#include "scheduler/base/status_macros.h"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kAbout[] = "about.json";
constexpr char kUnfinished[] = "new-";
constexpr auto kKeptFor = std::chrono::hours(24);
constexpr auto kUnfinishedFor = std::chrono::minutes(1);
constexpr auto kFreshFor = std::chrono::minutes(1);
constexpr size_t kLeftoversMax = 16;

std::string BasePath() {
  const char* variable = getenv("TMPDIR");
  const std::string temporary = variable == nullptr || *variable == '\0' ? "/tmp" : variable;
  return absl::StrCat(temporary, "/muster-", getuid());
}

// Anyone may write to /tmp: what waits for us there under our name must be a directory of ours.
absl::Status CheckOwn(const std::string& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0)
    return absl::UnavailableError(absl::StrCat(path, ": ", strerror(errno)));
  if (S_ISDIR(info.st_mode) && info.st_uid == getuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(path, " is not a directory of this user; remove it, or set TMPDIR"));
}

absl::Status WriteAbout(const DaemonRecord& record, const std::string& directory) {
  const nlohmann::json about = {{"kind", record.kind},
                                {"pid", record.process.pid},
                                {"start", record.process.start},
                                {"address", record.address},
                                {"host_id", record.host_id}};
  const std::string path = absl::StrCat(directory, "/", kAbout);
  const std::string unfinished = absl::StrCat(path, ".new");
  std::ofstream file(unfinished, std::ios::trunc);
  file << about.dump(2) << "\n";
  file.close();
  if (!file || rename(unfinished.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", strerror(errno)));
  }
  return absl::OkStatus();
}

// Made under another name and then moved, so that whoever finds it finds it whole.
absl::Status MakeDirectory(const DaemonRecord& record) {
  const std::string base = BasePath();
  std::string unfinished = absl::StrCat(base, "/", kUnfinished, "XXXXXX");
  bool made = false;
  // The last process that used `base` may be removing it.
  for (int attempt = 0; attempt < 100 && !made; ++attempt) {
    if (mkdir(base.c_str(), 0700) != 0 && errno != EEXIST) break;
    MUSTER_RETURN_IF_ERROR(CheckOwn(base));
    unfinished = absl::StrCat(base, "/", kUnfinished, "XXXXXX");
    made = mkdtemp(unfinished.data()) != nullptr;
    if (!made && errno != ENOENT) break;
  }
  if (!made)
    return absl::UnavailableError(
        absl::StrCat("cannot make a directory in ", base, ": ", strerror(errno)));
  MUSTER_RETURN_IF_ERROR(WriteAbout(record, unfinished));
  if (rename(unfinished.c_str(), record.path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot make ", record.path, ": ", strerror(errno)));
  }
  return absl::OkStatus();
}

void Remove(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
  rmdir(BasePath().c_str());  // Where it is empty.
}

std::optional<DaemonRecord> ReadAbout(const std::string& directory) {
  std::ifstream file(absl::StrCat(directory, "/", kAbout));
  const nlohmann::json about = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!about.is_object()) return std::nullopt;
  DaemonRecord record;
  const auto text = [&](const char* key, std::string& value) {
    const auto found = about.find(key);
    if (found != about.end() && found->is_string()) value = found->get<std::string>();
  };
  text("kind", record.kind);
  text("address", record.address);
  text("host_id", record.host_id);
  const auto pid = about.find("pid");
  const auto start = about.find("start");
  if (pid == about.end() || start == about.end() || !pid->is_number_integer() ||
      !start->is_number_integer()) {
    return std::nullopt;
  }
  record.process = {.pid = pid->get<pid_t>(), .start = start->get<uint64_t>()};
  record.path = directory;
  return record;
}

// "<boot id>-<mount>-<pid>-<network namespace>": pids mean the same where boot and pid namespace
// are the same.
bool SharesPids(const std::string& host_id) {
  const auto split = [](const std::string& id) {
    std::vector<std::string> parts = absl::StrSplit(id, '-');
    if (parts.size() < 4) return parts;
    parts.pop_back();
    parts.erase(parts.end() - 2);
    return parts;
  };
  return split(host_id) == split(HostId());
}

std::vector<fs::path> Entries(const std::string& directory) {
  std::vector<fs::path> entries;
  std::error_code ignored;
  for (auto it = fs::directory_iterator(directory, ignored); it != fs::directory_iterator();
       it.increment(ignored)) {
    if (ignored) break;
    entries.push_back(it->path());
  }
  return entries;
}

// Since it was written; a daemon's record is touched each minute while it runs.
fs::file_time_type::duration AgeOf(const fs::path& path) {
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  return error ? fs::file_time_type::duration::zero() : fs::file_time_type::clock::now() - written;
}

fs::path AboutOf(const DaemonRecord& daemon) { return fs::path(daemon.path) / kAbout; }

std::vector<DaemonRecord> ReadAll() {
  std::vector<DaemonRecord> daemons;
  if (!CheckOwn(BasePath()).ok()) return daemons;
  for (const fs::path& entry : Entries(BasePath())) {
    if (absl::StartsWith(entry.filename().string(), kUnfinished)) continue;
    if (std::optional<DaemonRecord> record = ReadAbout(entry.string()))
      daemons.push_back(*std::move(record));
  }
  std::sort(daemons.begin(), daemons.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return daemons;
}

}  // namespace

absl::StatusOr<DaemonDirectory> DaemonDirectory::Create(const std::string& kind,
                                                        const std::string& address) {
  DaemonRecord record;
  record.kind = kind;
  record.process = FindProcess(getpid());
  record.address = address;
  record.host_id = HostId();
  record.path =
      absl::StrCat(BasePath(), "/", kind, "-", record.process.pid, "-", record.process.start);
  MUSTER_RETURN_IF_ERROR(MakeDirectory(record));
  return DaemonDirectory(std::move(record));
}

DaemonDirectory::DaemonDirectory(DaemonDirectory&& other) noexcept
    : record_(std::move(other.record_)), keep_(std::exchange(other.keep_, true)) {}

DaemonDirectory::~DaemonDirectory() {
  if (!keep_) Remove(record_.path);
}

void DaemonDirectory::Touch() const { utimensat(AT_FDCWD, AboutOf(record_).c_str(), nullptr, 0); }

absl::Status DaemonDirectory::SetAddress(const std::string& address) {
  record_.address = address;
  return WriteAbout(record_, record_.path);
}

std::vector<DaemonRecord> ListDaemons() {
  std::vector<DaemonRecord> daemons = ReadAll();
  daemons.erase(std::remove_if(daemons.begin(), daemons.end(),
                               [](const auto& daemon) { return !SharesPids(daemon.host_id); }),
                daemons.end());
  return daemons;
}

void RemoveDirectory(const DaemonRecord& daemon) { Remove(daemon.path); }

void RemoveLeftovers() {
  if (!CheckOwn(BasePath()).ok()) return;
  for (const fs::path& entry : Entries(BasePath())) {
    const bool unfinished = absl::StartsWith(entry.filename().string(), kUnfinished);
    if (unfinished && AgeOf(entry) > kUnfinishedFor) Remove(entry.string());
  }
  std::vector<DaemonRecord> left = ReadAll();
  // Of another machine or container that shares the directory: nothing is known but when it was
  // last touched.
  const auto in_use = [](const DaemonRecord& daemon) {
    return SharesPids(daemon.host_id) ? IsAlive(daemon.process)
                                      : AgeOf(AboutOf(daemon)) <= kKeptFor;
  };
  left.erase(std::remove_if(left.begin(), left.end(), in_use), left.end());
  std::sort(left.begin(), left.end(),
            [](const auto& a, const auto& b) { return AgeOf(AboutOf(a)) < AgeOf(AboutOf(b)); });
  for (size_t i = 0; i < left.size(); ++i) {
    if (i >= kLeftoversMax || AgeOf(AboutOf(left[i])) > kKeptFor) Remove(left[i].path);
  }
}

void PruneLogs(const std::string& directory, LogBounds bounds) {
  struct File {
    fs::path path;
    fs::file_time_type::duration age;
    int64_t bytes = 0;
  };
  std::vector<File> files;
  for (const fs::path& entry : Entries(directory)) {
    std::error_code error;
    const auto bytes = fs::file_size(entry, error);
    if (!error) files.push_back({entry, AgeOf(entry), static_cast<int64_t>(bytes)});
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.age < b.age; });
  int64_t bytes = 0;
  size_t kept = 0;
  for (const File& file : files) {
    bytes += file.bytes;
    ++kept;
    if (file.age < kFreshFor || (bytes <= bounds.bytes_max && kept <= bounds.files_max)) continue;
    std::error_code ignored;
    fs::remove(file.path, ignored);
    bytes -= file.bytes;
    --kept;
  }
}

}  // namespace muster::cli
