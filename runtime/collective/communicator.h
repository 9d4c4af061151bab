// A Communicator carries the collective operations of one generation of a group: Gloo over TCP here
// (gloo_communicator.h); another transport is another implementation. Contract, errors and threads
// as in include/muster/collective.h, which is what applications see of it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/status.h"

namespace muster {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual absl::Status AllReduceSum(std::span<float> data) = 0;
  virtual absl::Status Broadcast(std::span<std::byte> data, int root) = 0;
  virtual absl::Status Barrier() = 0;
  virtual void Abort(const std::string& why) = 0;
};

}  // namespace muster
