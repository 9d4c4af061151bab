// From what an application writes (TaskOptions) to what the head is asked for, with everything
// checked.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/options.h"
#include "muster/placement_group.h"
#include "muster/v1/common.pb.h"

namespace muster::client {

// Errors: kInvalidArgument, naming the option and its value.
absl::StatusOr<v1::RequestSpec> MakeRequestSpec(const TaskOptions& options, int bundles,
                                                const std::vector<std::string>& strategy = {},
                                                const ReturnToPreferred& back = {});

// Whether tasks with these options may share leases: the same to the scheduler.
bool SameClass(const TaskOptions& a, const TaskOptions& b);

// Of a placement group.
absl::StatusOr<v1::RequestSpec> MakeGroupSpec(const PlacementGroupOptions& options);

}  // namespace muster::client
