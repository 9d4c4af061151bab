#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "muster/collective.h"
#include "runtime/collective/gloo_communicator.h"

namespace muster {

int Collectives::rank() const { return communicator_ == nullptr ? 0 : communicator_->rank(); }
int Collectives::size() const { return communicator_ == nullptr ? 1 : communicator_->size(); }

absl::Status Collectives::AllReduceSum(float* data, size_t n) {
  if (communicator_ == nullptr) return absl::OkStatus();
  return communicator_->AllReduceSum(std::span<float>(data, n));
}

absl::Status Collectives::Broadcast(void* data, size_t bytes, int root) {
  if (root < 0 || root >= size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("broadcast from rank ", root, ": the group has ranks 0 to ", size() - 1));
  }
  if (communicator_ == nullptr) return absl::OkStatus();
  return communicator_->Broadcast(std::span<std::byte>(static_cast<std::byte*>(data), bytes), root);
}

absl::Status Collectives::Barrier() {
  return communicator_ == nullptr ? absl::OkStatus() : communicator_->Barrier();
}

void Collectives::Abort(const std::string& why) {
  if (communicator_ != nullptr) communicator_->Abort(why);
}

absl::StatusOr<Collectives> ConnectCollectives(const CollectiveOptions& options) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    return absl::InvalidArgumentError(absl::StrCat("no rank ", options.rank, " in a group of size ",
                                                   options.size, ": ranks count from 0"));
  }
  if (options.size == 1) return Collectives();
  if (options.store == nullptr) {
    return absl::InvalidArgumentError("collectives of more than one rank need a store to meet in");
  }
  absl::StatusOr<std::unique_ptr<Communicator>> communicator = ConnectGloo(options);
  if (!communicator.ok()) return communicator.status();
  return Collectives(*std::move(communicator));
}

}  // namespace muster
