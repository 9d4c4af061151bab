// A future value that this process owns.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "muster/internal/runtime.h"
#include "runtime/client/driver_core.h"

namespace muster::internal {

// Thread-safety: `status` and `value` are written once, before `ready`; read them after it.
class Object {
 public:
  std::atomic<bool> ready{false};
  absl::Status status;
  client::Value value;
  client::TaskNumber task = 0;  // 0: of no task.
  std::string name;
};

}  // namespace muster::internal
