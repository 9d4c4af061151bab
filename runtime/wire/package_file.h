// An application's file in transit: its bytes arrive in pieces in a temporary file beside the goal,
// and become the goal in one step once size and digest are right. What is not finished is removed.
//
// Errors: kResourceExhausted for a full disk or a file above the bound, kDataLoss for bytes that
// are missing, too many or wrong, kInvalidArgument for a bad build id; each names the file.
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

inline constexpr size_t kPackageChunkBytes = size_t{1024} * 1024;

// Build ids are file names: 8 to 128 digits of lower-case hex.
absl::Status CheckBuildId(absl::string_view build_id);

class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  ~Sha256();
  void Update(absl::string_view bytes);
  std::string HexDigest();  // Once.

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

class PackageWriter {
 public:
  static absl::StatusOr<PackageWriter> Create(const std::string& path, uint64_t size_bytes);
  PackageWriter(PackageWriter&& other) noexcept;
  PackageWriter& operator=(PackageWriter&&) = delete;
  ~PackageWriter();

  absl::Status Append(absl::string_view bytes);
  absl::Status Finish(absl::string_view sha256);  // The goal has mode 0700.

 private:
  PackageWriter(std::string path, std::string temporary, int fd, uint64_t size_bytes);

  std::string path_;
  std::string temporary_;
  int fd_;
  uint64_t size_bytes_;
  uint64_t written_ = 0;
  Sha256 sha256_;
};

struct PackagePiece {
  uint64_t size_bytes = 0;  // Of the file.
  std::string data;         // At most kPackageChunkBytes.
  std::string sha256;       // Of the file, with the last piece; empty before.
};
// Calls `send` for each piece of the file, at least once; stops when it returns false (then OK
// too).
absl::Status ReadPackage(const std::string& path, const std::function<bool(PackagePiece)>& send);

// Removes what writers of a process that has died left in `directory`, which is made where it is
// missing.
absl::Status PreparePackageDirectory(const std::string& directory);

}  // namespace muster
