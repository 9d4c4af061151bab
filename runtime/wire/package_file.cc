#include "runtime/wire/package_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/random.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

constexpr char kTemporary[] = ".part-";

absl::Status FileError(absl::string_view what, absl::string_view path, int error) {
  const std::string text = absl::StrCat("cannot ", what, " ", path, ": ", strerrordesc_np(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    return absl::ResourceExhaustedError(text);
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == EACCES || error == EPERM || error == EROFS) return absl::PermissionDeniedError(text);
  return absl::InternalError(text);
}

}  // namespace

absl::Status CheckBuildId(absl::string_view build_id) {
  const bool hex = std::all_of(build_id.begin(), build_id.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (hex && build_id.size() >= 8 && build_id.size() <= 128) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("build_id \"", build_id.substr(0, 140),
                                                 "\": not 8 to 128 digits of lower-case hex"));
}

struct Sha256::Context {
  EVP_MD_CTX* const evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};
Sha256::Sha256() : context_(std::make_unique<Context>()) {
  MUSTER_CHECK(context_->evp != nullptr);
  MUSTER_CHECK(EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;
void Sha256::Update(absl::string_view bytes) {
  MUSTER_CHECK(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}
std::string Sha256::HexDigest() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int length = 0;
  MUSTER_CHECK(EVP_DigestFinal_ex(context_->evp, digest.data(), &length) == 1);
  return Hex(absl::string_view(reinterpret_cast<const char*>(digest.data()), length));
}

absl::StatusOr<PackageWriter> PackageWriter::Create(const std::string& path, uint64_t size_bytes) {
  std::string temporary = absl::StrCat(path, kTemporary, RandomHex(8));
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
  if (fd < 0) return FileError("create", temporary, errno);
  // A disk that is too small is known before the transfer.
  if (size_bytes > 0 && fallocate(fd, 0, 0, static_cast<off_t>(size_bytes)) != 0 &&
      errno != EOPNOTSUPP && errno != ENOSYS) {
    const int error = errno;
    close(fd);
    unlink(temporary.c_str());
    return FileError("make room for", path, error);
  }
  return PackageWriter(path, std::move(temporary), fd, size_bytes);
}

PackageWriter::PackageWriter(std::string path, std::string temporary, int fd, uint64_t size_bytes)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd), size_bytes_(size_bytes) {}
PackageWriter::PackageWriter(PackageWriter&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      fd_(std::exchange(other.fd_, -1)),
      size_bytes_(other.size_bytes_),
      written_(other.written_),
      sha256_(std::move(other.sha256_)) {}
PackageWriter::~PackageWriter() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status PackageWriter::Append(absl::string_view bytes) {
  if (bytes.size() > size_bytes_ - written_) {
    return absl::DataLossError(
        absl::StrCat(path_, " is longer than the ", size_bytes_, " bytes announced"));
  }
  sha256_.Update(bytes);
  written_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t count = write(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError("write", path_, errno);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status PackageWriter::Finish(absl::string_view sha256) {
  if (written_ != size_bytes_) {
    return absl::DataLossError(
        absl::StrCat(path_, " was cut short: ", written_, " of ", size_bytes_, " bytes came"));
  }
  if (const std::string got = sha256_.HexDigest(); got != sha256) {
    return absl::DataLossError(
        absl::StrCat(path_, " arrived damaged: its sha256 is ", got, ", not ", sha256));
  }
  // Not as umask would have it. Some file systems report a full disk only when the file is closed.
  if (fchmod(fd_, 0700) != 0) return FileError("make executable", path_, errno);
  if (close(std::exchange(fd_, -1)) != 0) return FileError("write", path_, errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return FileError("rename to", path_, errno);
  temporary_.clear();
  return absl::OkStatus();
}

absl::Status ReadPackage(const std::string& path, const std::function<bool(PackagePiece)>& send) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  const absl::Cleanup closing = [fd] { close(fd); };
  struct stat info = {};
  if (fstat(fd, &info) != 0) return FileError("read", path, errno);
  if (!S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a file"));
  const auto size_bytes = static_cast<uint64_t>(info.st_size);
  Sha256 sha256;
  uint64_t at = 0;
  do {
    PackagePiece piece;
    piece.size_bytes = size_bytes;
    piece.data.resize(std::min<uint64_t>(kPackageChunkBytes, size_bytes - at));
    for (size_t filled = 0; filled < piece.data.size();) {
      const ssize_t count = pread(fd, piece.data.data() + filled, piece.data.size() - filled,
                                  static_cast<off_t>(at + filled));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return FileError("read", path, errno);
      if (count == 0)
        return absl::DataLossError(absl::StrCat(path, " became shorter while it was read"));
      filled += static_cast<size_t>(count);
    }
    sha256.Update(piece.data);
    at += piece.data.size();
    if (at == size_bytes) piece.sha256 = sha256.HexDigest();
    if (!send(std::move(piece))) return absl::OkStatus();
  } while (at < size_bytes);
  return absl::OkStatus();
}

absl::Status PreparePackageDirectory(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return FileError("create", directory, error.value());
  for (auto entry = std::filesystem::directory_iterator(directory, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (!absl::StrContains(entry->path().filename().string(), kTemporary)) continue;
    std::error_code ignored;
    std::filesystem::remove(entry->path(), ignored);
  }
  if (error) return FileError("read", directory, error.value());
  return absl::OkStatus();
}

}  // namespace muster
