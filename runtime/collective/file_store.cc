#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "muster/collective.h"

namespace muster {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(2);

// A file per key. A value appears whole, by rename, or not at all.
class FileStore : public Store {
 public:
  explicit FileStore(std::string directory) : directory_(std::move(directory)) {}

  absl::Status Set(const std::string& key, const std::string& value) override {
    const std::string path = PathOf(key);
    std::string temporary = absl::StrCat(path, ".XXXXXX");
    const int file = mkstemp(temporary.data());
    if (file < 0) return Failed("create", temporary);
    const char* at = value.data();
    size_t left = value.size();
    while (left > 0) {
      const ssize_t written = write(file, at, left);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        absl::Status status = Failed("write", temporary);
        close(file);
        unlink(temporary.c_str());
        return status;
      }
      at += written;
      left -= static_cast<size_t>(written);
    }
    close(file);
    if (rename(temporary.c_str(), path.c_str()) != 0) return Failed("rename", temporary);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    const absl::Time deadline = absl::Now() + timeout;
    while (true) {
      std::ifstream file(PathOf(key), std::ios::binary);
      if (file) {
        std::ostringstream value;
        value << file.rdbuf();
        return value.str();
      }
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError(absl::StrCat("no \"", key, "\" in ", directory_,
                                                        " after ", absl::FormatDuration(timeout)));
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

 private:
  static absl::Status Failed(const char* what, const std::string& path) {
    return absl::UnavailableError(absl::StrCat("cannot ", what, " ", path, ": ", strerror(errno)));
  }
  // Web-safe base64 has no slash and no dot, so no key can leave the directory or be a temporary.
  std::string PathOf(const std::string& key) const {
    return absl::StrCat(directory_, "/", absl::WebSafeBase64Escape(key));
  }

  const std::string directory_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenFileStore(const std::string& directory) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(absl::StrCat("cannot make ", directory, ": ", strerror(errno)));
  }
  return std::make_unique<FileStore>(directory);
}

}  // namespace muster
