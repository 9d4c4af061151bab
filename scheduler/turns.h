// Whose turn it is, among requests of which each may get what it needs and so change the order of
// the others: priority, then by the share of its tenant, then age; see sharing.h.
//
// While it is in use shares may only grow. A tenant's place is looked up when its turn comes, so a
// grant costs nothing here but the next look.
#pragma once

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "scheduler/scheduling_class.h"
#include "scheduler/tenants.h"

namespace muster::sched {

class Turns {
 public:
  // `by_share`: false is first in, first out.
  Turns(const Tenants& tenants, bool by_share) : tenants_(tenants), by_share_(by_share) {}

  void Put(Request* request) {
    waiting_.push_back(EntryOf(request));
    if (is_heap_) std::push_heap(waiting_.begin(), waiting_.end(), Later);
  }

  Request* Next() {  // Taken out; null: none is left.
    if (!is_heap_) std::make_heap(waiting_.begin(), waiting_.end(), Later);
    is_heap_ = true;
    while (!waiting_.empty()) {
      std::pop_heap(waiting_.begin(), waiting_.end(), Later);
      const Entry entry = waiting_.back();
      waiting_.pop_back();
      const Entry now = EntryOf(entry.request);
      if (!by_share_ || now.share == entry.share) return entry.request;
      Put(entry.request);  // Its tenant has more than when it was put here.
    }
    return nullptr;
  }

 private:
  struct Entry {
    int64_t minus_priority = 0;
    int64_t share = 0;
    uint64_t arrival = 0;
    Request* request = nullptr;
  };
  static bool Later(const Entry& a, const Entry& b) {
    return std::tie(a.minus_priority, a.share, a.arrival) >
           std::tie(b.minus_priority, b.share, b.arrival);
  }
  Entry EntryOf(Request* request) const {
    const SchedulingClass& of = *request->of;
    return {.minus_priority = -int64_t{of.spec.priority},
            .share = by_share_ ? tenants_.TurnOf(*of.tenant) : 0,
            .arrival = request->arrival,
            .request = request};
  }

  const Tenants& tenants_;
  const bool by_share_;
  bool is_heap_ = false;  // From the first Next() on.
  std::vector<Entry> waiting_;
};

}  // namespace muster::sched
