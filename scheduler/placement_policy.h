// Which of the nodes with room a bundle gets. The cluster has one policy (SchedulerConfig), and a
// request may name another (RequestSpec).
//
//   pack      work that needs GPUs goes where it spoils the least of what is free for the work
//             that is typical there, and keeps off GPUs that are scarce for those who can use no
//             others; see packing.h. Other work: best fit
//   best-fit  where the least stays free; see scheduler.h
//   spread    where the fewest GPUs are in use, and of these where the most is free; a share on
//             the emptiest device. Work that needs no GPU: off nodes with GPUs, where the most is
//             free
//
// Placement groups and requests with a strategy lie as their strategy says.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::sched {

enum class PlacementPolicy : uint8_t { kPack, kBestFit, kSpread };

// "pack", "best-fit", "spread". Errors: kInvalidArgument naming the word and what is allowed.
absl::StatusOr<PlacementPolicy> ParsePlacementPolicy(absl::string_view text);
std::string ToString(PlacementPolicy policy);

}  // namespace muster::sched
