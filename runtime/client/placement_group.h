// What a PlacementGroup of the API refers to.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "muster/placement_group.h"
#include "runtime/base/mutex.h"
#include "runtime/client/driver_core.h"

namespace muster::internal {

// Thread-safety: as said of each member.
class PlacementGroupState {
 public:
  // Written once, before others know it.
  client::TaskNumber number = 0;  // 0: it was never asked for, and `status` says why.
  uint64_t request = 0;
  std::string name;

  Mutex mutex;
  bool placed ABSL_GUARDED_BY(mutex) = false;
  absl::Status status ABSL_GUARDED_BY(mutex);  // Not OK: it is over.
  std::vector<BundlePlace> bundles ABSL_GUARDED_BY(mutex);
};

}  // namespace muster::internal
