// The leases that were told to leave, and by when: each notice is said once, and once its deadline
// is over the lease is revoked, once. Drain, quarantine, preemption, recall and return-to-preferred
// all end leases through it.
//
// Invariants: a lease that was told has one entry until Forget(), which whoever ends a bundle
// calls;
//   what is due is in order of deadline, then request, then bundle.
// Thread-safety: none.
#pragma once

#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/time/time.h"
#include "scheduler/events.h"
#include "scheduler/node.h"

namespace muster::sched {

class Leaving {
 public:
  struct Entry {
    Notice notice{};
    bool revoked = false;
  };

  // Tells the lease to leave. Where it was told before, only an earlier deadline (any is earlier
  // than none) is said again, with its reason; nothing is said after a Revoke. True if it was said.
  bool Tell(const Notice& notice, std::vector<Action>& actions);

  // As it was in a snapshot. False: the lease is there already.
  bool Restore(const Entry& entry);

  // The lease has ended. Unknown ones are ignored.
  void Forget(LeaseId lease) {
    if (!told_.empty()) Erase(lease);
  }

  // Says Revoke for what has a deadline of `now` or earlier.
  void RevokeDue(absl::Time now, std::vector<Action>& actions) {
    if (!due_.empty()) RevokeAllDue(now, actions);
  }

  absl::Time NextDue() const;              // InfiniteFuture(): nothing has a deadline ahead.
  const Entry* Find(LeaseId lease) const;  // Null: it was not told.
  const absl::btree_map<LeaseId, Entry>& told() const { return told_; }

  void CheckInvariants() const;

 private:
  void Erase(LeaseId lease);
  void RevokeAllDue(absl::Time now, std::vector<Action>& actions);

  absl::btree_map<LeaseId, Entry> told_;
  absl::btree_set<std::tuple<absl::Time, RequestId, int>> due_;  // Not revoked, with a deadline.
};

}  // namespace muster::sched
