#include "scheduler/spec_handle.h"

#include "absl/hash/hash.h"

namespace muster::sched {

SpecHandle::SpecHandle() {
  static const SpecHandle* const kEmpty = new SpecHandle(RequestSpec{});
  shared_ = kEmpty->shared_;
}

SpecHandle::SpecHandle(RequestSpec spec) {
  const size_t hash = absl::Hash<RequestSpec>()(spec);
  shared_ = std::make_shared<const Shared>(Shared{.spec = std::move(spec), .hash = hash});
}

}  // namespace muster::sched
