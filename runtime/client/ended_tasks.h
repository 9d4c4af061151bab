// The tasks that ended last, and the leases that ran them: what a driver knows of a task that is
// over when `muster explain` asks. A ring: a task that ends costs one entry and no allocation.
//
// Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace muster::client {

struct EndedTask {
  uint64_t task = 0;
  uint64_t task_class = 0;  // 0: a group.
  uint64_t request = 0;     // Of the lease that ran it; 0: none did.
  uint32_t bundle = 0;
  bool failed = false;
};

class EndedTasks {
 public:
  static constexpr size_t kKept = 4096;

  void Add(const EndedTask& ended) {
    if (ring_.size() < kKept) {
      ring_.push_back(ended);
    } else {
      ring_[next_ % kKept] = ended;
    }
    ++next_;
  }

  // `visit(ended)` for each, newest first, until it returns false.
  template <typename Visit>
  void NewestFirst(Visit visit) const {
    for (size_t back = 1; back <= ring_.size(); ++back) {
      if (!visit(ring_[(next_ - back) % kKept])) return;
    }
  }

 private:
  std::vector<EndedTask> ring_;
  size_t next_ = 0;
};

}  // namespace muster::client
