#include "scheduler/placement_policy.h"

#include <cstddef>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace muster::sched {
namespace {

constexpr const char* kPolicies[] = {"pack", "best-fit", "spread"};

}  // namespace

absl::StatusOr<PlacementPolicy> ParsePlacementPolicy(absl::string_view text) {
  for (size_t i = 0; i < std::size(kPolicies); ++i) {
    if (text == kPolicies[i]) return static_cast<PlacementPolicy>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("placement policy \"",
                                                 absl::Utf8SafeCHexEscape(text.substr(0, 80)),
                                                 "\" is unknown; allowed: pack, best-fit, spread"));
}

std::string ToString(PlacementPolicy policy) { return kPolicies[static_cast<size_t>(policy)]; }

}  // namespace muster::sched
