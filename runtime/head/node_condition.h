// What is said of nodes by operators and health reports, as far as it can be checked by itself.
#pragma once

#include "absl/status/status.h"
#include "muster/v1/cluster.pb.h"

namespace muster::head {

// Errors: kInvalidArgument naming a GPU that the node does not have, or a reason that is too long.
absl::Status CheckGpu(const v1::WorkerHello& node, const v1::GpuHealth& health);
absl::Status CheckReason(const std::string& reason);

}  // namespace muster::head
