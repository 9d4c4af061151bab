// The seam between the templates applications see and the compiled client library. Values cross it
// as bytes; everything here may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/options.h"
#include "muster/task_info.h"

namespace muster {
class Collectives;
}  // namespace muster

namespace muster::internal {

// Runs one call in an executor: arguments and result are serialized values. A status that is not OK
// is the task's error as it stands, and names the function: an argument could not be read, or the
// function itself returned an error. Exceptions of the function are let through (the executor turns
// them into a status).
using Invoker = absl::Status (*)(std::span<const std::string_view> arguments, std::string& result);

// What a function is known by: the offset of its invoker from the base of the image that holds it.
// The same binary has the same offsets, and driver and executor are the same binary (checked by
// build id).
struct Function {
  Invoker invoker = nullptr;
  std::string name;  // For people: "Score", "lambda".
};
uint64_t RegisterFunction(Invoker invoker,
                          std::string name);  // At load, from a static member; gives its key.

// A future value that this process owns. Freed with the last handle.
class Object;
using ObjectHandle = std::shared_ptr<Object>;

struct Argument {
  std::string value;  // Serialized, where `ref` is null.
  ObjectHandle ref;   // Resolved before the task runs; its error becomes the task's.
};
struct Call {
  Invoker invoker = nullptr;
  std::string name;
  std::vector<Argument> arguments;
};

// Never fails by itself: what is wrong is what ReadValue() of the handle says.
ObjectHandle Submit(Call call, const TaskOptions& options);
// The value of a group's object is EncodeParts() of its ranks' values, in order of rank.
ObjectHandle SubmitGroup(Call call, const GroupOptions& options);
ObjectHandle PutValue(std::string value);
// An error that the templates found before anything was submitted; `name` is the function's.
ObjectHandle FailedObject(std::string name, absl::Status status);

std::string TaskIdOf(const Object& object);  // Hex; empty for Put() and FailedObject().
bool IsReady(const Object& object);
// Waits until `count` of the objects are ready or the deadline is there; whether `count` are ready.
bool WaitUntilReady(std::span<const ObjectHandle> objects, size_t count, absl::Time deadline);
// REQUIRES: IsReady. The view lives as long as the handle.
absl::StatusOr<std::string_view> ReadValue(const Object& object);
absl::Status CancelTask(const ObjectHandle& object, bool force);
std::string NameOf(const Object& object);  // The function's, for messages; "Put" for Put().

std::string EncodeParts(std::span<const std::string> parts);
absl::StatusOr<std::vector<std::string_view>> DecodeParts(std::string_view encoded);

// Of the task that runs on the calling thread (or its executor); default values in a driver.
// (TaskInfo CurrentTaskInfo() and bool CurrentTaskCancelled() are declared in task_info.h.)
GroupInfo CurrentGroupInfo();
// Connects when it is first used, not here. Outside a group each use is an error.
Collectives& CurrentCollectives();
// kFailedPrecondition outside a group.
absl::Status StoreSet(const std::string& key, const std::string& value);
absl::StatusOr<std::string> StoreGet(const std::string& key, absl::Duration timeout);

// See leaving.h.
uint64_t AddOnLeaving(std::function<bool(const TaskInfo&)> save);
void RemoveOnLeaving(uint64_t number);
[[noreturn]] void LeaveNow();

// Says "muster: <status>" on stderr and ends the program with 1, as GetOrDie() promises. In an
// executor it ends the task instead, with that status (by an exception of the library's own).
[[noreturn]] void DieOf(const absl::Status& status);

}  // namespace muster::internal
