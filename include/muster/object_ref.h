// An ObjectRef<T> stands for a value of type T that is there or will be: the result of a task, or
// what was Put().
//
// A handle: cheap to copy, and the value is kept for as long as a copy lives in the process that
// made it. There is no empty ref to trip over, except one that was moved from: then Get() says so.
// Thread-safety: as for a std::shared_ptr.
#pragma once

#include <string>
#include <utility>

#include "muster/internal/runtime.h"

namespace muster {

namespace internal {
struct RefAccess;
}  // namespace internal

template <typename T>
class ObjectRef {
 public:
  using value_type = T;

  // What `muster explain task` takes; empty for what was Put().
  std::string task_id() const { return object_ == nullptr ? "" : internal::TaskIdOf(*object_); }

  friend bool operator==(const ObjectRef& a, const ObjectRef& b) { return a.object_ == b.object_; }

 private:
  friend struct internal::RefAccess;
  explicit ObjectRef(internal::ObjectHandle object) : object_(std::move(object)) {}

  internal::ObjectHandle object_;
};

// Stands for the results of all ranks of a group; see group.h. Get() gives them by rank.
template <typename T>
class GroupRef {
 public:
  using value_type = T;

  std::string task_id() const { return object_ == nullptr ? "" : internal::TaskIdOf(*object_); }

  friend bool operator==(const GroupRef& a, const GroupRef& b) { return a.object_ == b.object_; }

 private:
  friend struct internal::RefAccess;
  explicit GroupRef(internal::ObjectHandle object) : object_(std::move(object)) {}

  internal::ObjectHandle object_;
};

namespace internal {

struct RefAccess {
  template <typename Ref>
  static Ref Make(ObjectHandle object) {
    return Ref(std::move(object));
  }
  template <typename Ref>
  static const ObjectHandle& Handle(const Ref& ref) {
    return ref.object_;
  }
};

template <typename T>
inline constexpr bool kIsObjectRef = false;
template <typename T>
inline constexpr bool kIsObjectRef<ObjectRef<T>> = true;

}  // namespace internal
}  // namespace muster
