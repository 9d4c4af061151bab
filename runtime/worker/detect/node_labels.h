// The labels of a node, gathered from all who may set them.
//
// Precedence, the later wins, as in Ray:
//   1. what was detected (ray.io/accelerator-type), and the environment that Ray and KubeRay set in
//   pods:
//      RAY_NODE_TYPE_NAME (ray.io/node-group), RAY_NODE_MARKET_TYPE (ray.io/market-type),
//      RAY_NODE_ZONE (ray.io/availability-zone), RAY_NODE_REGION (ray.io/availability-region);
//   2. --labels-file; 3. --labels; 4. RAY_OVERRIDE_LABELS, a JSON map by which Ray's autoscaler has
//   the last word.
// Aliases (ray.io/zone, ...) are overridden together with the key that they stand for.
// ray.io/node-id is the worker's own to set: refused from everyone else.
//
// Errors: kInvalidArgument (kNotFound for an unreadable file), naming the source, the key and the
// value. Thread-safety: free functions, no state. Source: Ray's ResourceAndLabelSpec
// (_resolve_labels), ray start --labels/--labels-file, src/ray/common/constants.h.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "scheduler/labels.h"

namespace muster::worker {

// A variable's value, nullopt where it is not set.
using Environment = std::function<std::optional<std::string>(const std::string&)>;
Environment ProcessEnvironment();

inline constexpr char kNodeIdLabel[] = "ray.io/node-id";
inline constexpr char kAcceleratorTypeLabel[] = "ray.io/accelerator-type";

struct LabelSources {
  sched::Labels detected{};
  Environment environment{};  // Absent: nothing is set.
  std::string labels_file{};  // A path; empty: none.
  std::string labels{};       // As ParseLabels() takes them.
};

absl::StatusOr<sched::Labels> GatherLabels(const LabelSources& sources);

}  // namespace muster::worker
