// Room that is kept for a request until it is placed: what its victims give back goes there and to
// nobody else.
//
// A hold has a part for each bundle, on the node where the bundle is to go. What a part has so far
// is taken out of the node's free capacity, so no search finds it.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "scheduler/events.h"
#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {

struct HoldPart {
  Node* node = nullptr;
  int choice = 0;  // Of a hold for a return.
  Resources needs{};
  Resources has{};
  GpuShares devices{};

  bool full() const { return has == needs; }
  void Fill();   // Takes what the node has free of what is missing.
  void Empty();  // Gives all back.
};

struct Hold {
  uint64_t id = 0;
  SchedulingClass* of = nullptr;  // Its oldest waiting requests get what is held.
  RequestId request{};            // That it was made for.
  LeavingReason reason = LeavingReason::kPreempted;
  // Of kReturnToPreferred, which is for nobody who waits, but for what will be asked for instead of
  // `request`: by which level of a strategy, and until when, once `request` has ended.
  int level = 0;
  absl::Time until = absl::InfiniteFuture();
  std::vector<HoldPart> parts{};
  std::vector<LeaseId> victims{};

  bool returns() const { return reason == LeavingReason::kReturnToPreferred; }
  bool full() const;
  bool IsOn(const Node& node) const;
};

class Holds {
 public:
  static constexpr size_t kMax = 64;

  bool empty() const { return holds_.empty(); }
  size_t size() const { return holds_.size(); }
  Hold& Add(Hold hold);
  // The parts are to be empty.
  void Remove(uint64_t id) { holds_.erase(id); }
  int CountOf(const SchedulingClass& of) const;  // For those that wait.
  Hold* ReturnOf(RequestId request);             // Null: none.
  absl::Time NextEnd() const;                    // InfiniteFuture(): none has an end.
  bool Claims(LeaseId lease) const;
  // A hold that claims the lease and whose class is of `priority` or higher.
  bool ClaimsAt(LeaseId lease, int priority) const;
  absl::btree_map<uint64_t, Hold>& all() { return holds_; }
  const absl::btree_map<uint64_t, Hold>& all() const { return holds_; }

 private:
  absl::btree_map<uint64_t, Hold> holds_;  // By id, so oldest first.
  uint64_t next_ = 1;
};

}  // namespace muster::sched
