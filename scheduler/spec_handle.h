// A request's spec as events carry it: shared, immutable, its hash known. A copy costs a reference
// count, and a handle that comes again is known again by its address: so whoever sends many
// requests of one class keeps its handle.
//
// Thread-safety: as std::shared_ptr; what it refers to never changes.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "scheduler/choice.h"

namespace muster::sched {

class SpecHandle {
 public:
  SpecHandle();                  // A spec without choices: Validate() refuses it.
  SpecHandle(RequestSpec spec);  // NOLINT(google-explicit-constructor)

  const RequestSpec& operator*() const { return shared_->spec; }
  const RequestSpec* operator->() const { return &shared_->spec; }
  size_t hash() const { return shared_->hash; }

  // By what the specs say.
  friend bool operator==(const SpecHandle& a, const SpecHandle& b) {
    return a.shared_ == b.shared_ || (a.hash() == b.hash() && *a == *b);
  }
  friend bool operator!=(const SpecHandle& a, const SpecHandle& b) { return !(a == b); }
  template <typename H>
  friend H AbslHashValue(H h, const SpecHandle& s) {
    return H::combine(std::move(h), s.hash());
  }

 private:
  struct Shared {
    RequestSpec spec{};
    size_t hash = 0;
  };
  std::shared_ptr<const Shared> shared_;
};

}  // namespace muster::sched
