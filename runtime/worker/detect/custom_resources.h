// The custom resources of a node as `muster worker --resources JSON` takes them: {"license": 2,
// "ssd": 0.5}.
//
// Amounts are exact to 1/10000; zero amounts are left out. CPU, GPU and memory have options of
// their own and are
//   refused here, as in Ray.
// Errors: kInvalidArgument, naming the resource and its value. Thread-safety: free functions, no
// state.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "scheduler/resources.h"

namespace muster::worker {

using CustomResources = sched::CustomAmounts;  // Name to 1/10000.

absl::StatusOr<CustomResources> ParseCustomResources(const std::string& json);  // "" is none.
std::string CustomResourcesToJson(const CustomResources& resources);            // "{}" for none.

}  // namespace muster::worker
