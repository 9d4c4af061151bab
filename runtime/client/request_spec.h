// From what an application writes (TaskOptions) to what the head is asked for, with everything
// checked.
#pragma once

#include "absl/status/statusor.h"
#include "muster/options.h"
#include "muster/v1/common.pb.h"

namespace muster::client {

// Errors: kInvalidArgument, naming the option and its value.
absl::StatusOr<v1::RequestSpec> MakeRequestSpec(const TaskOptions& options, int bundles);

// Whether tasks with these options may share leases: the same to the scheduler.
bool SameClass(const TaskOptions& a, const TaskOptions& b);

}  // namespace muster::client
