// Whatever a worker says it kept of quotas and weights is taken or refused with a reason; another
// head that is told what was taken knows the same.
#include <cstddef>
#include <cstdint>

#include "runtime/head/sharing_changes.h"
#include "scheduler/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using muster::head::SharingChanges;
  muster::v1::SharingChanges theirs;
  if (!theirs.ParseFromArray(data, static_cast<int>(size))) return 0;
  SharingChanges head({}, {}, {});
  for (const muster::v1::SharingChange& change : theirs.changes()) {
    const auto taken = head.Take(change);
    if (!taken.ok()) MUSTER_CHECK(!taken.status().message().empty());
  }
  SharingChanges again({}, {}, {});
  for (const muster::v1::SharingChange& change : head.Kept().changes()) {
    MUSTER_CHECK(again.Take(change).ok());
  }
  MUSTER_CHECK(again.QuotasInForce() == head.QuotasInForce());
  MUSTER_CHECK(again.Kept().SerializeAsString() == head.Kept().SerializeAsString());
  return 0;
}
