// Writes the scheduler's events to a file as they come, for `muster whatif --replay`: a snapshot in
// the first line, then an event on each. A file that reaches half of the bound is renamed to
// FILE.1, in place of the one before, and FILE begins anew with a snapshot, so that each of the two
// can be replayed.
//
// A thread of its own writes, so that a slow disk holds up nobody. What cannot be written ends the
// recording with one line in the log, and nothing else: a full disk, events that come faster than
// the disk takes them. The file is then whole up to its last line.
// Thread-safety: Record() by one thread; the destructor writes what is left.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "scheduler/events.h"
#include "scheduler/snapshot.h"

namespace muster::snapshot {

struct RecorderOptions {
  std::string path{};
  int64_t bytes_max = int64_t{256} << 20;  // Of FILE and FILE.1 together.
  size_t queue_max = 100'000;              // Events that wait to be written.
};

class EventRecorder {
 public:
  // Begins the file, over one that is there. `snapshot` is called by Record(), and here for the
  // first. Errors: kInvalidArgument naming the path and why it cannot be written.
  static absl::StatusOr<std::unique_ptr<EventRecorder>> Start(
      const RecorderOptions& options, std::function<sched::Snapshot()> snapshot);
  virtual ~EventRecorder() = default;

  // Before the scheduler takes the event.
  virtual void Record(const sched::Event& event) = 0;
  // Why it stopped; OK while it records.
  virtual absl::Status status() const = 0;
};

}  // namespace muster::snapshot
