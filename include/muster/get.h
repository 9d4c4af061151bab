// Values out of refs and into them: Get, GetOrDie, Wait, Put, Cancel.
//
// Errors: a task's own error with its code and where it came from; kDeadlineExceeded when the time
// is over (the task
//   goes on), kCancelled after Cancel(). Every error names the function.
// Thread-safety: all of it may be called from any thread, in tasks too (a task that waits lends its
// CPUs out).
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "muster/internal/runtime.h"
#include "muster/object_ref.h"
#include "muster/options.h"
#include "muster/serialization.h"

namespace muster {

// absl::StatusOr<T>, or absl::Status for void.
template <typename T>
using StatusOrVoid =
    typename std::conditional_t<std::is_void_v<T>, std::type_identity<absl::Status>,
                                std::type_identity<absl::StatusOr<T>>>::type;

template <typename T>
struct WaitResult {
  std::vector<ObjectRef<T>> ready;
  std::vector<ObjectRef<T>> pending;
};

namespace internal {

inline absl::Time DeadlineAfter(absl::Duration timeout) {
  return timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + timeout;
}

inline absl::Status MovedFrom() {
  return absl::FailedPreconditionError("this ref was moved from and stands for nothing");
}

inline absl::Status NotDone(const Object& object, absl::Duration timeout) {
  return absl::DeadlineExceededError(NameOf(object) + " is not done after " +
                                     absl::FormatDuration(std::max(timeout, absl::ZeroDuration())));
}

inline absl::Status Unreadable(const Object& object, const absl::Status& why) {
  return absl::InvalidArgumentError(NameOf(object) +
                                    ": its result cannot be read: " + std::string(why.message()));
}

// The value of an object that is ready.
template <typename T>
StatusOrVoid<T> Decode(const Object& object) {
  absl::StatusOr<std::string_view> bytes = ReadValue(object);
  if (!bytes.ok()) return bytes.status();
  if constexpr (std::is_void_v<T>) {
    return absl::OkStatus();
  } else {
    absl::StatusOr<T> value = Deserialize<T>(*bytes);
    if (!value.ok()) return Unreadable(object, value.status());
    return value;
  }
}

template <typename T>
using GroupValue =
    typename std::conditional_t<std::is_void_v<T>, std::type_identity<absl::Status>,
                                std::type_identity<absl::StatusOr<std::vector<T>>>>::type;

template <typename T>
GroupValue<T> DecodeGroup(const Object& object) {
  absl::StatusOr<std::string_view> bytes = ReadValue(object);
  if (!bytes.ok()) return bytes.status();
  if constexpr (std::is_void_v<T>) {
    return absl::OkStatus();
  } else {
    absl::StatusOr<std::vector<std::string_view>> parts = DecodeParts(*bytes);
    if (!parts.ok()) return Unreadable(object, parts.status());
    std::vector<T> values;
    values.reserve(parts->size());
    for (std::string_view part : *parts) {
      absl::StatusOr<T> value = Deserialize<T>(part);
      if (!value.ok()) return Unreadable(object, value.status());
      values.push_back(*std::move(value));
    }
    return values;
  }
}

// OK once the object is ready.
inline absl::Status Await(const ObjectHandle& object, absl::Duration timeout) {
  if (object == nullptr) return MovedFrom();
  if (IsReady(*object) || WaitUntilReady({&object, 1}, 1, DeadlineAfter(timeout))) {
    return absl::OkStatus();
  }
  return NotDone(*object, timeout);
}

// Handles of the refs that stand for something.
template <typename T>
std::vector<ObjectHandle> Handles(const std::vector<ObjectRef<T>>& refs) {
  std::vector<ObjectHandle> handles;
  handles.reserve(refs.size());
  for (const ObjectRef<T>& ref : refs) {
    if (RefAccess::Handle(ref) != nullptr) handles.push_back(RefAccess::Handle(ref));
  }
  return handles;
}

inline void OkOrDie(const absl::Status& status) {
  if (!status.ok()) DieOf(status);
}

// By reference: g++ 12 warns falsely (-Wmaybe-uninitialized) where it inlines the move of a
// StatusOr.
template <typename Value>
Value ValueOrDie(absl::StatusOr<Value>& value) {
  OkOrDie(value.status());
  return *std::move(value);
}

template <typename T>
struct SentAs {
  using Type = T;
};
template <>
struct SentAs<const char*> {
  using Type = std::string;
};
template <>
struct SentAs<char*> {
  using Type = std::string;
};
template <>
struct SentAs<std::string_view> {
  using Type = std::string;
};

}  // namespace internal

// Waits for the value. A timeout of zero or less only looks.
template <typename T>
StatusOrVoid<T> Get(const ObjectRef<T>& ref, absl::Duration timeout = absl::InfiniteDuration()) {
  const internal::ObjectHandle& object = internal::RefAccess::Handle(ref);
  if (absl::Status status = internal::Await(object, timeout); !status.ok()) return status;
  return internal::Decode<T>(*object);
}

// Each ref's own outcome, in the given order; one timeout for all.
template <typename T>
std::vector<StatusOrVoid<T>> Get(const std::vector<ObjectRef<T>>& refs,
                                 absl::Duration timeout = absl::InfiniteDuration()) {
  const std::vector<internal::ObjectHandle> handles = internal::Handles(refs);
  internal::WaitUntilReady(handles, handles.size(), internal::DeadlineAfter(timeout));
  std::vector<StatusOrVoid<T>> values;
  values.reserve(refs.size());
  for (const ObjectRef<T>& ref : refs) {
    const internal::ObjectHandle& object = internal::RefAccess::Handle(ref);
    if (object == nullptr) {
      values.push_back(internal::MovedFrom());
    } else if (internal::IsReady(*object)) {
      values.push_back(internal::Decode<T>(*object));
    } else {
      values.push_back(internal::NotDone(*object, timeout));
    }
  }
  return values;
}

// The ranks' values in order of rank: absl::StatusOr<std::vector<T>>, for void absl::Status.
// kAborted when the group was given up, naming the first rank that died and how.
template <typename T>
internal::GroupValue<T> Get(const GroupRef<T>& group,
                            absl::Duration timeout = absl::InfiniteDuration()) {
  const internal::ObjectHandle& object = internal::RefAccess::Handle(group);
  if (absl::Status status = internal::Await(object, timeout); !status.ok()) return status;
  return internal::DecodeGroup<T>(*object);
}

// For script-like programs: the value, or one line on stderr and the end of the program with exit
// code 1.
template <typename T>
T GetOrDie(const ObjectRef<T>& ref) {
  auto value = Get(ref);
  if constexpr (std::is_void_v<T>) {
    internal::OkOrDie(value);
  } else {
    return internal::ValueOrDie(value);
  }
}
template <typename T>
auto GetOrDie(const GroupRef<T>& group) {
  auto values = Get(group);
  if constexpr (std::is_void_v<T>) {
    internal::OkOrDie(values);
  } else {
    return internal::ValueOrDie(values);
  }
}
template <typename T>
auto GetOrDie(const std::vector<ObjectRef<T>>& refs) {
  if constexpr (std::is_void_v<T>) {
    for (const absl::Status& status : Get(refs)) internal::OkOrDie(status);
  } else {
    std::vector<T> values;
    values.reserve(refs.size());
    for (absl::StatusOr<T>& value : Get(refs)) values.push_back(internal::ValueOrDie(value));
    return values;
  }
}

// Waits until `num_returns` refs are ready or the time is over. `ready` holds at most `num_returns`
// refs, as in Ray, so that a loop that takes what is ready loses nothing; both are in the given
// order. More than there are means all. A ref whose task failed is ready.
template <typename T>
WaitResult<T> Wait(const std::vector<ObjectRef<T>>& refs, size_t num_returns = 1,
                   absl::Duration timeout = absl::InfiniteDuration()) {
  const std::vector<internal::ObjectHandle> handles = internal::Handles(refs);
  const size_t empty = refs.size() - handles.size();  // Ready: Get() has its answer for them.
  const size_t wanted = std::min(num_returns, refs.size());
  if (wanted > empty) {
    internal::WaitUntilReady(handles, wanted - empty, internal::DeadlineAfter(timeout));
  }
  WaitResult<T> result;
  for (const ObjectRef<T>& ref : refs) {
    const internal::ObjectHandle& object = internal::RefAccess::Handle(ref);
    const bool ready =
        result.ready.size() < wanted && (object == nullptr || internal::IsReady(*object));
    (ready ? result.ready : result.pending).push_back(ref);
  }
  return result;
}

// A ref to a value of this process, to give to many tasks without sending it with each.
template <typename T>
auto Put(const T& value) {
  using Sent = typename internal::SentAs<std::decay_t<T>>::Type;
  std::string bytes;
  if constexpr (std::is_same_v<Sent, T>) {
    bytes = Serialize<Sent>(value);
  } else {
    bytes = Serialize<Sent>(Sent(value));
  }
  return internal::RefAccess::Make<ObjectRef<Sent>>(internal::PutValue(std::move(bytes)));
}

// A queued task never starts; one that runs sees CurrentTask().cancelled(), with force its executor
// is killed. Get() gives kCancelled at once either way. Cancelling what is done changes nothing and
// is OK.
template <typename T>
absl::Status Cancel(const ObjectRef<T>& ref, CancelOptions options = {}) {
  const internal::ObjectHandle& object = internal::RefAccess::Handle(ref);
  return object == nullptr ? internal::MovedFrom() : internal::CancelTask(object, options.force);
}
template <typename T>
absl::Status Cancel(const GroupRef<T>& group, CancelOptions options = {}) {
  const internal::ObjectHandle& object = internal::RefAccess::Handle(group);
  return object == nullptr ? internal::MovedFrom() : internal::CancelTask(object, options.force);
}

}  // namespace muster
