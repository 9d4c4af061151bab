#include "scheduler/leaving.h"

#include "scheduler/base/check.h"

namespace muster::sched {

bool Leaving::Tell(const Notice& notice, std::vector<Action>& actions) {
  const LeaseId lease = {notice.request, notice.bundle};
  if (const Entry* const before = Find(lease)) {
    if (before->revoked || !notice.deadline) return false;
    if (before->notice.deadline && *before->notice.deadline <= *notice.deadline) return false;
    Erase(lease);
  }
  told_.emplace(lease, Entry{.notice = notice});
  if (notice.deadline) due_.emplace(*notice.deadline, notice.request, notice.bundle);
  actions.push_back(notice);
  return true;
}

bool Leaving::Restore(const Entry& entry) {
  const Notice& notice = entry.notice;
  if (!told_.emplace(LeaseId(notice.request, notice.bundle), entry).second) return false;
  if (notice.deadline && !entry.revoked) {
    due_.emplace(*notice.deadline, notice.request, notice.bundle);
  }
  return true;
}

void Leaving::RevokeAllDue(absl::Time now, std::vector<Action>& actions) {
  while (!due_.empty() && std::get<0>(*due_.begin()) <= now) {
    Entry& entry = told_.at({std::get<1>(*due_.begin()), std::get<2>(*due_.begin())});
    due_.erase(due_.begin());
    entry.revoked = true;
    actions.push_back(Revoke{.request = entry.notice.request,
                             .bundle = entry.notice.bundle,
                             .reason = entry.notice.reason,
                             .why = entry.notice.why});
  }
}

absl::Time Leaving::NextDue() const {
  return due_.empty() ? absl::InfiniteFuture() : std::get<0>(*due_.begin());
}

const Leaving::Entry* Leaving::Find(LeaseId lease) const {
  const auto found = told_.find(lease);
  return found == told_.end() ? nullptr : &found->second;
}

void Leaving::CheckInvariants() const {
  size_t due = 0;
  for (const auto& [lease, entry] : told_) {
    MUSTER_CHECK(entry.notice.request == lease.first);
    MUSTER_CHECK(entry.notice.bundle == lease.second);
    const bool waits = entry.notice.deadline.has_value() && !entry.revoked;
    if (!waits) continue;
    ++due;
    MUSTER_CHECK(due_.contains({*entry.notice.deadline, lease.first, lease.second}));
  }
  MUSTER_CHECK(due == due_.size());
}

void Leaving::Erase(LeaseId lease) {
  const auto found = told_.find(lease);
  if (found == told_.end()) return;
  const Notice& notice = found->second.notice;
  if (notice.deadline) due_.erase({*notice.deadline, notice.request, notice.bundle});
  told_.erase(found);
}

}  // namespace muster::sched
