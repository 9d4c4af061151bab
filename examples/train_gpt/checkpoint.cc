#include "examples/train_gpt/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <system_error>
#include <type_traits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "examples/train_gpt/text.h"

namespace train_gpt {
namespace {

constexpr char kFormat[] = "train_gpt checkpoint, version ";
constexpr int kVersion = 1;
constexpr size_t kKept = 2;
constexpr char kSuffix[] = ".ckpt";

std::string HeaderLine() {
  return absl::StrCat(kFormat, kVersion, ", ",
                      std::endian::native == std::endian::little ? "little" : "big", " endian\n");
}

class Writer {
 public:
  template <typename T>
  void Number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Array(const std::vector<float>& values) {
    Number<uint64_t>(values.size());
    out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  std::string out;
};

// Reads nothing beyond the end: from there on everything is empty and ok is false.
class Reader {
 public:
  explicit Reader(const std::string& text) : rest_(text.data(), text.size()) {}

  template <typename T>
  T Number() {
    T value = {};
    Copy(&value, sizeof(value));
    return value;
  }
  std::vector<float> Array() {
    const auto n = Number<uint64_t>();
    if (n > rest_.size() / sizeof(float)) ok = false;
    std::vector<float> values(ok ? n : 0);
    Copy(values.data(), values.size() * sizeof(float));
    return values;
  }
  bool Skip(const std::string& text) {
    if (rest_.size() < text.size() || memcmp(rest_.data(), text.data(), text.size()) != 0) {
      return false;
    }
    rest_ = rest_.subspan(text.size());
    return true;
  }
  bool at_end() const { return rest_.empty(); }
  bool ok = true;

 private:
  void Copy(void* to, size_t bytes) {
    if (bytes > rest_.size()) ok = false;
    if (!ok || bytes == 0) return;
    memcpy(to, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
  }
  std::span<const char> rest_;
};

uint64_t ChecksumOf(const std::string& text) {
  return Checksum(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

std::string Serialize(const Checkpoint& checkpoint) {
  Writer writer;
  writer.out = HeaderLine();
  writer.Number<int32_t>(checkpoint.model.layers);
  writer.Number<int32_t>(checkpoint.model.heads);
  writer.Number<int32_t>(checkpoint.model.width);
  writer.Number<int32_t>(checkpoint.model.context);
  writer.Number(checkpoint.seed);
  writer.Number(checkpoint.text_checksum);
  writer.Number(checkpoint.step);
  writer.Array(checkpoint.parameters);
  writer.Array(checkpoint.first_moment);
  writer.Array(checkpoint.second_moment);
  writer.Number(ChecksumOf(writer.out));
  return std::move(writer.out);
}

absl::Status Failed(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

absl::Status WriteDurably(const std::string& path, const std::string& content) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return Failed("create", path);
  absl::Status status = absl::OkStatus();
  size_t done = 0;
  while (status.ok() && done < content.size()) {
    const ssize_t n = write(file, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      status = Failed("write", path);
    } else {
      done += static_cast<size_t>(n);
    }
  }
  if (status.ok() && fsync(file) != 0) status = Failed("sync", path);
  if (close(file) != 0 && status.ok()) status = Failed("close", path);
  return status;
}

// The rename itself is on the disk only once the directory is.
absl::Status SyncDirectory(const std::string& directory) {
  const int file = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return Failed("open", directory);
  absl::Status status = fsync(file) == 0 ? absl::OkStatus() : Failed("sync", directory);
  close(file);
  return status;
}

// Newest first: the names sort as the steps do.
std::vector<std::string> Checkpoints(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, "step-") && absl::EndsWith(name, kSuffix)) {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.rbegin(), paths.rend());
  return paths;
}

}  // namespace

absl::Status SaveCheckpoint(const std::string& directory, const Checkpoint& checkpoint) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot make ", directory, ": ", error.message()));
  }
  const std::string path =
      absl::StrCat(directory, "/step-", absl::Dec(checkpoint.step, absl::kZeroPad8), kSuffix);
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  absl::Status status = WriteDurably(temporary, Serialize(checkpoint));
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = Failed("rename", temporary);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  if (status = SyncDirectory(directory); !status.ok()) return status;
  const std::vector<std::string> paths = Checkpoints(directory);
  for (size_t i = kKept; i < paths.size(); ++i) unlink(paths[i].c_str());
  return absl::OkStatus();
}

absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto bad = [&](const std::string& why) {
    return absl::DataLossError(absl::StrCat(path, ": ", why));
  };
  if (!absl::StartsWith(text, kFormat)) return bad("not a checkpoint of train_gpt");
  if (!Reader(text).Skip(HeaderLine())) {
    return bad(
        absl::StrCat("another version or byte order: \"", text.substr(0, text.find('\n')), "\""));
  }
  uint64_t sum = 0;
  if (text.size() < HeaderLine().size() + sizeof(sum)) return bad("cut short");
  memcpy(&sum, text.data() + text.size() - sizeof(sum), sizeof(sum));
  text.resize(text.size() - sizeof(sum));
  if (sum != ChecksumOf(text)) return bad("cut short or changed: its checksum does not match");
  Reader reader(text);
  reader.Skip(HeaderLine());
  Checkpoint checkpoint;
  checkpoint.model.layers = reader.Number<int32_t>();
  checkpoint.model.heads = reader.Number<int32_t>();
  checkpoint.model.width = reader.Number<int32_t>();
  checkpoint.model.context = reader.Number<int32_t>();
  checkpoint.seed = reader.Number<uint64_t>();
  checkpoint.text_checksum = reader.Number<uint64_t>();
  checkpoint.step = reader.Number<int64_t>();
  checkpoint.parameters = reader.Array();
  checkpoint.first_moment = reader.Array();
  checkpoint.second_moment = reader.Array();
  const size_t n = checkpoint.parameters.size();
  if (!reader.ok || !reader.at_end() || checkpoint.first_moment.size() != n ||
      checkpoint.second_moment.size() != n) {
    return bad("its lengths do not add up");
  }
  return checkpoint;
}

absl::StatusOr<Checkpoint> LoadNewestCheckpoint(const std::string& directory,
                                                std::vector<std::string>& warnings) {
  const std::vector<std::string> paths = Checkpoints(directory);
  if (paths.empty()) return absl::NotFoundError(absl::StrCat("no checkpoint in ", directory));
  for (const std::string& path : paths) {
    absl::StatusOr<Checkpoint> checkpoint = LoadCheckpoint(path);
    if (checkpoint.ok()) return checkpoint;
    warnings.emplace_back(checkpoint.status().message());
  }
  return absl::DataLossError(
      absl::StrCat("no checkpoint in ", directory, " can be read; the newest: ", warnings.front()));
}

}  // namespace train_gpt
