// The ids that the scheduler's events and actions speak of. Each is its own type, so that a node
// cannot be passed where a request is meant; the text names that users see belong to the shells.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace muster {

template <typename Tag>
struct Id {
  uint64_t value = 0;

  friend bool operator==(Id a, Id b) { return a.value == b.value; }
  friend bool operator!=(Id a, Id b) { return a.value != b.value; }
  friend bool operator<(Id a, Id b) { return a.value < b.value; }
  template <typename H>
  friend H AbslHashValue(H h, Id id) {
    return H::combine(std::move(h), id.value);
  }
  std::string ToString() const { return absl::StrCat(value); }
};

using NodeId = Id<struct NodeIdTag>;        // Given in the order of joining: ties go to the lowest.
using RequestId = Id<struct RequestIdTag>;  // A request, and the leases granted to it.

}  // namespace muster
