#include "runtime/snapshot/event_recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/snapshot/snapshot_json.h"

namespace muster::snapshot {
namespace {

constexpr size_t kBufferBytes = 64 << 10;

absl::Status Failed(const std::string& path, int error) {
  return absl::InvalidArgumentError(absl::StrCat("cannot write ", path, ": ", strerror(error)));
}

// The file and what waits to go there.
class EventFile {
 public:
  explicit EventFile(std::string path) : path_(std::move(path)) {}
  ~EventFile() { Close(); }
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  absl::Status Open() {
    file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bytes_ = 0;
    return file_ < 0 ? Failed(path_, errno) : absl::OkStatus();
  }
  absl::Status Rotate() {
    absl::Status flushed = Flush();
    if (!flushed.ok()) return flushed;
    Close();
    if (rename(path_.c_str(), absl::StrCat(path_, ".1").c_str()) != 0) return Failed(path_, errno);
    return Open();
  }
  absl::Status Append(absl::string_view line) {
    buffer_.append(line.data(), line.size());
    buffer_ += '\n';
    bytes_ += static_cast<int64_t>(line.size()) + 1;
    return buffer_.size() >= kBufferBytes ? Flush() : absl::OkStatus();
  }
  absl::Status Flush() {
    absl::string_view left = buffer_;
    while (!left.empty()) {
      const ssize_t wrote = write(file_, left.data(), left.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return Failed(path_, wrote == 0 ? EIO : errno);
      left.remove_prefix(static_cast<size_t>(wrote));
    }
    buffer_.clear();
    return absl::OkStatus();
  }
  int64_t bytes() const { return bytes_; }

 private:
  void Close() {
    if (file_ >= 0) close(file_);
    file_ = -1;
  }

  const std::string path_;
  int file_ = -1;
  int64_t bytes_ = 0;  // Of the file, with what is in the buffer.
  std::string buffer_;
};

class Recorder final : public EventRecorder {
 public:
  Recorder(const RecorderOptions& options, std::function<sched::Snapshot()> take)
      : options_(options), take_(std::move(take)), file_(options.path) {}

  ~Recorder() override {
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      changed_.SignalAll();
    }
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Begin() {
    absl::Status status = file_.Open();
    if (status.ok()) status = file_.Append(ToJson({.snapshot = take_()}, Style::kOneLine));
    if (status.ok()) status = file_.Flush();
    if (!status.ok()) return status;
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  void Record(const sched::Event& event) override {
    bool anew = false;
    {
      MutexLock lock(&mutex_);
      if (!status_.ok()) return;
      anew = std::exchange(wants_snapshot_, false);
    }
    // O(cluster), and rare: the bound divided by what an event takes.
    std::optional<sched::Snapshot> snapshot;
    if (anew) snapshot = take_();
    MutexLock lock(&mutex_);
    if (snapshot) queue_.emplace_back(*std::move(snapshot));
    if (queue_.size() >= options_.queue_max) {
      Stop(absl::ResourceExhaustedError(
          absl::StrCat("events come faster than ", options_.path, " can be written")));
      return;
    }
    queue_.emplace_back(event);
    changed_.SignalAll();
  }

  absl::Status status() const override {
    MutexLock lock(&mutex_);
    return status_;
  }

 private:
  using Entry = std::variant<sched::Event, sched::Snapshot>;  // A snapshot begins a new file.

  void Run() {
    std::deque<Entry> entries;
    while (true) {
      bool stop = false;
      {
        MutexLock lock(&mutex_);
        while (queue_.empty() && !stop_) changed_.Wait(&mutex_);
        stop = stop_;
        if (!status_.ok()) return;
        entries.swap(queue_);
      }
      absl::Status written;
      for (const Entry& entry : entries) {
        written = Write(entry);
        if (!written.ok()) break;
      }
      entries.clear();
      if (written.ok()) written = file_.Flush();
      MutexLock lock(&mutex_);
      if (!written.ok()) {
        Stop(written);
        return;
      }
      if (file_.bytes() >= options_.bytes_max / 2 && !rotating_) {
        rotating_ = true;
        wants_snapshot_ = true;
      }
      if (stop && queue_.empty()) return;
    }
  }

  absl::Status Write(const Entry& entry) {
    if (const auto* event = std::get_if<sched::Event>(&entry)) return file_.Append(ToJson(*event));
    absl::Status status = file_.Rotate();
    rotating_ = false;
    if (!status.ok()) return status;
    return file_.Append(ToJson({.snapshot = std::get<sched::Snapshot>(entry)}, Style::kOneLine));
  }

  void Stop(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!status_.ok()) return;
    status_ = why;
    queue_.clear();
    Log(LogLevel::kWarning, "events are no longer recorded: ", why.message(),
        "; the cluster goes on");
  }

  const RecorderOptions options_;
  const std::function<sched::Snapshot()> take_;
  EventFile file_;  // The thread's, once it runs; with what follows.
  bool rotating_ = false;
  std::thread thread_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mutex_);
  bool wants_snapshot_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<EventRecorder>> EventRecorder::Start(
    const RecorderOptions& options, std::function<sched::Snapshot()> snapshot) {
  auto recorder = std::make_unique<Recorder>(options, std::move(snapshot));
  if (absl::Status status = recorder->Begin(); !status.ok()) return status;
  return recorder;
}

}  // namespace muster::snapshot
