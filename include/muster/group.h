// Group<f>(options).Remote(arguments...) runs f as `ranks` ranks at once: all are leased together
// or none. CurrentGroup() tells a rank which one it is, and gives what the ranks share.
//
// When a rank dies, the others' store and collectives give kAborted, naming it; what they return is
// ignored, and the group starts again at the next generation, up to max_restarts. A rank that
// throws or returns an error ends the group.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/internal/function.h"
#include "muster/internal/runtime.h"
#include "muster/object_ref.h"
#include "muster/options.h"

namespace muster {

// Get() of the ref gives the ranks' results by rank. Arguments and what f returns: as for Task<f>.
template <auto function>
class Group {
 public:
  explicit Group(GroupOptions options = {}) : options_(std::move(options)) {}

  template <typename... Arguments>
  GroupRef<internal::Result<function>> Remote(Arguments&&... arguments) const {
    return internal::Remote<function, GroupRef<internal::Result<function>>>(
        [this](internal::Call call) { return internal::SubmitGroup(std::move(call), options_); },
        std::forward<Arguments>(arguments)...);
  }

 private:
  GroupOptions options_;
};

// A key-value store in the head that the ranks of one generation share; it begins empty in each
// generation. Errors: kFailedPrecondition outside a group, kAborted when a rank has died.
class GroupStore {
 public:
  absl::Status Set(const std::string& key, const std::string& value) const {
    return internal::StoreSet(key, value);
  }
  // Waits until the key is there; kDeadlineExceeded when the time is over.
  absl::StatusOr<std::string> Get(const std::string& key,
                                  absl::Duration timeout = absl::InfiniteDuration()) const {
    return internal::StoreGet(key, timeout);
  }
};

struct GroupContext {
  int rank;
  int size;
  int generation;  // Counts the group's restarts.
  GroupStore store;
  Collectives& collectives;  // See collective.h.
};

// Of the rank that runs here; outside a group rank 0 of 1, whose store and collectives say so when
// used.
inline GroupContext CurrentGroup() {
  const GroupInfo info = internal::CurrentGroupInfo();
  return {.rank = info.rank,
          .size = info.size,
          .generation = info.generation,
          .store = {},
          .collectives = internal::CurrentCollectives()};
}

}  // namespace muster
