// The requests that ended last, so that `muster explain` can say where a task ran that is over: by
// the lease that its driver names, or, where the driver is gone too, by the task that the lease was
// asked for.
//
// Thread-safety: none. Bounded: the oldest are forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "scheduler/ids.h"

namespace muster::head {

struct EndedRequest {
  RequestId request{};
  uint64_t driver = 0;
  uint64_t number = 0;  // The driver's.
  std::string task_id{};
  std::string name{};
};

class EndedRequests {
 public:
  explicit EndedRequests(size_t kept) : kept_(kept) {}

  void Add(EndedRequest ended) {
    if (kept_ == 0) return;
    if (ended_.size() == kept_) {
      const auto oldest = by_lease_.find({ended_.front().driver, ended_.front().number});
      if (oldest != by_lease_.end() && oldest->second == first_) by_lease_.erase(oldest);
      by_id_.erase(ended_.front().request);
      ended_.pop_front();
      ++first_;
    }
    by_lease_[{ended.driver, ended.number}] = first_ + ended_.size();
    by_id_[ended.request] = first_ + ended_.size();
    ended_.push_back(std::move(ended));
  }

  const EndedRequest* Find(uint64_t driver, uint64_t number) const {  // Null: not known.
    const auto found = by_lease_.find({driver, number});
    return found == by_lease_.end() ? nullptr : &ended_[found->second - first_];
  }

  const EndedRequest* FindById(RequestId request) const {  // Null: not known.
    const auto found = by_id_.find(request);
    return found == by_id_.end() ? nullptr : &ended_[found->second - first_];
  }

  // Those that were asked for by a task whose id begins so, newest first, one for each task.
  std::vector<const EndedRequest*> ByTask(absl::string_view prefix) const {
    std::vector<const EndedRequest*> found;
    for (auto ended = ended_.rbegin(); ended != ended_.rend(); ++ended) {
      if (ended->task_id.empty() || !absl::StartsWith(ended->task_id, prefix)) continue;
      bool known = false;
      for (const EndedRequest* other : found) known = known || other->task_id == ended->task_id;
      if (!known) found.push_back(&*ended);
    }
    return found;
  }

  size_t size() const { return ended_.size(); }

 private:
  const size_t kept_;
  uint64_t first_ = 0;  // The number of ended_.front().
  std::deque<EndedRequest> ended_;
  absl::btree_map<std::pair<uint64_t, uint64_t>, uint64_t> by_lease_;
  absl::btree_map<RequestId, uint64_t> by_id_;
};

}  // namespace muster::head
