// Task<f>(options).Remote(arguments...) runs f on some node of the cluster and gives an ObjectRef
// to its result.
//
// f is a function (also of an anonymous namespace, or a static member) or a captureless lambda;
// naming it here is all the registration there is. Its parameters are values or const references of
// types that can be sent (see serialization.h; std::string_view is sent as text); default arguments
// are not known here, so all must be given. An argument is a value that converts to the parameter's
// type, or an ObjectRef of exactly that type, which is resolved before the task runs. What f
// returns:
//   T                  Get() gives absl::StatusOr<T>
//   void, Status       Get() gives absl::Status
//   StatusOr<T>        Get() gives absl::StatusOr<T>: the function's own error, or what went wrong
//   on the way
// Errors that f returns or throws are not retried; the death of its executor or node is
// (max_retries).
//
// Errors: Remote() never fails; what is wrong, with the options too, comes back from Get().
// Thread-safety: Remote() may be called from any thread, in tasks too.
#pragma once

#include <utility>

#include "muster/internal/function.h"
#include "muster/object_ref.h"
#include "muster/options.h"

namespace muster {

template <auto function>
class Task {
 public:
  explicit Task(TaskOptions options = {}) : options_(std::move(options)) {}

  template <typename... Arguments>
  ObjectRef<internal::Result<function>> Remote(Arguments&&... arguments) const {
    return internal::Remote<function, ObjectRef<internal::Result<function>>>(
        [this](internal::Call call) { return internal::Submit(std::move(call), options_); },
        std::forward<Arguments>(arguments)...);
  }

 private:
  TaskOptions options_;
};

}  // namespace muster
