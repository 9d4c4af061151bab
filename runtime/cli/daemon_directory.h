// Where a head or worker of this user keeps its files, and by which other commands find it:
//
//   ${TMPDIR:-/tmp}/muster-<uid>/worker-<pid>-<start>/about.json   what it is: kind, process,
//   head's address
//                                                    /log          its own log, where it is
//                                                    detached /logs/        what its executors
//                                                    wrote /packages/    applications
//
// The process removes its directory when it ends. One that was killed leaves it: `muster down` of
// its head removes it, and so does the start of any head or worker a day later, or once 16 newer
// ones are left too.
//
// Errors: kPermissionDenied where the place belongs to someone else, kUnavailable where it cannot
// be written. Thread-safety: one thread per object.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/cli/process.h"

namespace muster::cli {

struct DaemonRecord {
  std::string kind;  // "head", "worker".
  Process process{};
  std::string address;  // Of the head; a head writes it once it listens.
  std::string host_id;  // Whose pids these are.
  std::string path;     // Of the directory; not written.
};

class DaemonDirectory {
 public:
  // For this process.
  static absl::StatusOr<DaemonDirectory> Create(const std::string& kind,
                                                const std::string& address);
  DaemonDirectory(DaemonDirectory&& other) noexcept;
  DaemonDirectory& operator=(DaemonDirectory&& other) = delete;
  ~DaemonDirectory();  // Removes it.

  const std::string& path() const { return record_.path; }
  absl::Status SetAddress(const std::string& address);
  void Touch() const;            // Says each minute that it is in use.
  void Keep() { keep_ = true; }  // For people to read why the process failed.

 private:
  explicit DaemonDirectory(DaemonRecord record) : record_(std::move(record)) {}
  DaemonRecord record_;
  bool keep_ = false;
};

// Of this user and machine (and pid namespace), running or not.
std::vector<DaemonRecord> ListDaemons();
void RemoveDirectory(const DaemonRecord& daemon);
// See above.
void RemoveLeftovers();

// Removes the oldest files of `directory` until those left have at most so many bytes and are at
// most so many; files written in the last minute stay.
struct LogBounds {
  int64_t bytes_max = 0;
  size_t files_max = 0;
};
void PruneLogs(const std::string& directory, LogBounds bounds);

}  // namespace muster::cli
