// What was set of sharing while the cluster ran: quotas and tenants' weights. It lies over what the
// head was started with, name by name, whatever a later head is started with.
//
// Each change has a stamp later than any before it, and of two for one name the later holds. So
// what workers kept for a head that forgot may come back in any order, also from workers that
// missed some of it: the outcome is the same.
//
// Invariants: at most quotas_max quotas and weights_max weights other than 1 are in force, as far
//   as run time has a say; a change that would go beyond is refused whole.
//   What only takes away (a quota removed, a weight of 1) is kept as long as a flag says otherwise;
//   of the rest, against workers that missed it, the last undone_kept.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "scheduler/events.h"

namespace muster::head {

struct SharingLimits {
  size_t quotas_max = 256;  // Each lease that begins or ends looks at all.
  size_t weights_max = 1024;
  size_t undone_kept = 256;
};

class SharingChanges {
 public:
  using SchedulerEvent = std::variant<sched::TenantSet, sched::QuotaSet, sched::QuotaRemoved>;

  // What the head was started with, which the scheduler knows already.
  SharingChanges(const std::vector<sched::TenantSet>& tenants,
                 const std::vector<sched::Quota>& quotas, const SharingLimits& limits);

  // The change that `request` asks for, stamped; nothing is changed yet. Errors: kInvalidArgument
  // naming what is wrong with it, kNotFound a quota that is not there, kResourceExhausted naming
  // the bound, kFailedPrecondition where a clock ran so far ahead that there are no later stamps.
  absl::StatusOr<v1::SharingChange> Read(const v1::SetSharingRequest& request,
                                         absl::Time now) const;

  // Takes a change, also of another head's: what the scheduler is to be told; nullopt where one as
  // late is known for that name. Errors: as Read(); then nothing has changed.
  absl::StatusOr<std::optional<SchedulerEvent>> Take(const v1::SharingChange& change);

  // For the workers. What takes away comes first, so that there is room for what comes after.
  const v1::SharingChanges& Kept();
  bool QuotaSetAtRunTime(const std::string& name) const;
  std::set<std::string> QuotasInForce() const;

 private:
  struct Known {
    v1::SharingChange change;
    bool undone = false;  // The quota is removed, the weight 1.
  };
  using KnownByName = absl::btree_map<std::string, Known>;
  struct Parsed {
    std::string name;
    bool undone = false;
    SchedulerEvent event;
  };

  static absl::StatusOr<Parsed> Parse(const v1::SharingChange& change);
  absl::Status CheckRoom(const Parsed& parsed) const;
  void Forget(KnownByName& known, const std::set<std::string>& flags);

  const SharingLimits limits_;
  std::set<std::string> flag_quotas_;
  std::set<std::string> flag_weights_;  // Other than 1.
  KnownByName quotas_;
  KnownByName weights_;
  uint64_t last_stamp_ = 0;
  v1::SharingChanges kept_;
  bool listed_ = true;  // kept_ is what is known.
};

}  // namespace muster::head
