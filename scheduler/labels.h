// Labels are the key=value pairs of a node, in Kubernetes syntax.
#pragma once

#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

using Labels = absl::btree_map<std::string, std::string>;

}  // namespace muster
