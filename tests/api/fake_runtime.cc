#include "tests/api/fake_runtime.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "muster/init.h"

namespace muster {

namespace internal {

class Object {
 public:
  std::string name;
  std::string task_id;
  bool cancelled = false;
  std::optional<absl::StatusOr<std::string>> value;
};

namespace {

struct World {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::thread> threads;
  std::vector<TaskOptions> options;
  std::set<std::string> held;
  std::map<std::string, std::string> store;
  int tasks = 0;
};
World& TheWorld() {
  static World* const world = new World;  // Outlives threads that run at exit.
  return *world;
}
thread_local TaskInfo current_task;
thread_local GroupInfo current_group;
thread_local Object* current_object = nullptr;

void Finish(Object& object, absl::StatusOr<std::string> value) {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  if (!object.value.has_value()) object.value = std::move(value);
  TheWorld().changed.notify_all();
}

// Waits for the arguments and runs the call on their bytes.
absl::StatusOr<std::string> Run(const Call& call) {
  std::vector<std::string_view> bytes;
  for (const Argument& argument : call.arguments) {
    if (argument.ref == nullptr) {
      bytes.push_back(argument.value);
      continue;
    }
    WaitUntilReady({&argument.ref, 1}, 1, absl::InfiniteFuture());
    absl::StatusOr<std::string_view> value = ReadValue(*argument.ref);
    if (!value.ok()) {
      return absl::Status(
          value.status().code(),
          absl::StrCat(call.name, ": an argument failed: ", std::string(value.status().message())));
    }
    bytes.push_back(*value);
  }
  {
    World& world = TheWorld();
    std::unique_lock<std::mutex> lock(world.mutex);
    world.changed.wait(lock, [&] { return !world.held.contains(call.name); });
    if (current_object->cancelled) return absl::CancelledError(call.name + " was cancelled");
  }
  std::string result;
  try {
    if (absl::Status status = call.invoker(bytes, result); !status.ok()) return status;
  } catch (const std::exception& exception) {
    return absl::UnknownError(absl::StrCat(call.name, " threw: ", exception.what()));
  }
  return result;
}

ObjectHandle NewObject(std::string name) {
  World& world = TheWorld();
  const std::lock_guard<std::mutex> lock(world.mutex);
  auto object = std::make_shared<Object>();
  object->name = std::move(name);
  object->task_id = absl::StrCat(absl::Hex(++world.tasks, absl::kZeroPad8));
  return object;
}

void Start(const ObjectHandle& object, const TaskOptions& options,
           std::function<absl::StatusOr<std::string>()> work) {
  World& world = TheWorld();
  const std::lock_guard<std::mutex> lock(world.mutex);
  world.options.push_back(options);
  world.threads.emplace_back([object, work = std::move(work)] {
    current_object = object.get();
    current_task = {.task_id = object->task_id, .node = "fake"};
    Finish(*object, work());
  });
}

}  // namespace

ObjectHandle Submit(Call call, const TaskOptions& options) {
  ObjectHandle object = NewObject(call.name);
  Start(object, options, [call = std::move(call)] { return Run(call); });
  return object;
}

ObjectHandle SubmitGroup(Call call, const GroupOptions& options) {
  ObjectHandle object = NewObject(call.name);
  Start(object, options.per_rank,
        [call = std::move(call), size = options.ranks]() -> absl::StatusOr<std::string> {
          std::vector<std::string> parts;
          for (int rank = 0; rank < size; ++rank) {
            current_group = {.rank = rank, .size = size, .generation = 0};
            absl::StatusOr<std::string> part = Run(call);
            if (!part.ok()) return part.status();
            parts.push_back(*std::move(part));
          }
          return EncodeParts(parts);
        });
  return object;
}

ObjectHandle PutValue(std::string value) {
  auto object = std::make_shared<Object>();
  object->name = "Put";
  object->value = std::move(value);
  return object;
}

ObjectHandle FailedObject(std::string name, absl::Status status) {
  auto object = std::make_shared<Object>();
  object->name = std::move(name);
  object->value = std::move(status);
  return object;
}

std::string TaskIdOf(const Object& object) { return object.task_id; }
std::string NameOf(const Object& object) { return object.name; }

bool IsReady(const Object& object) {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  return object.value.has_value();
}

bool WaitUntilReady(std::span<const ObjectHandle> objects, size_t count, absl::Time deadline) {
  World& world = TheWorld();
  const auto enough = [&] {
    size_t ready = 0;
    for (const ObjectHandle& object : objects) ready += object->value.has_value() ? 1 : 0;
    return ready >= count;
  };
  std::unique_lock<std::mutex> lock(world.mutex);
  if (deadline == absl::InfiniteFuture()) {
    world.changed.wait(lock, enough);
    return true;
  }
  return world.changed.wait_until(lock, absl::ToChronoTime(deadline), enough);
}

absl::StatusOr<std::string_view> ReadValue(const Object& object) {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  if (!object.value->ok()) return object.value->status();
  return std::string_view(**object.value);
}

absl::Status CancelTask(const ObjectHandle& object, bool /*force*/) {
  {
    const std::lock_guard<std::mutex> lock(TheWorld().mutex);
    object->cancelled = true;
  }
  Finish(*object, absl::CancelledError(object->name + " was cancelled"));
  return absl::OkStatus();
}

std::string EncodeParts(std::span<const std::string> parts) {
  std::string encoded;
  for (const std::string& part : parts) {
    const uint64_t size = part.size();
    encoded.append(reinterpret_cast<const char*>(&size), sizeof(size)).append(part);
  }
  return encoded;
}

absl::StatusOr<std::vector<std::string_view>> DecodeParts(std::string_view encoded) {
  std::vector<std::string_view> parts;
  while (!encoded.empty()) {
    uint64_t size = 0;
    if (encoded.size() < sizeof(size)) return absl::InvalidArgumentError("parts are cut short");
    encoded.copy(reinterpret_cast<char*>(&size), sizeof(size));
    encoded.remove_prefix(sizeof(size));
    if (encoded.size() < size) return absl::InvalidArgumentError("a part is cut short");
    parts.push_back(encoded.substr(0, size));
    encoded.remove_prefix(size);
  }
  return parts;
}

TaskInfo CurrentTaskInfo() { return current_task; }
GroupInfo CurrentGroupInfo() { return current_group; }
bool CurrentTaskCancelled() {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  return current_object != nullptr && current_object->cancelled;
}
Collectives& CurrentCollectives() {
  alignas(64) static char never_used[64];
  return reinterpret_cast<Collectives&>(never_used);
}

absl::Status StoreSet(const std::string& key, const std::string& value) {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  TheWorld().store[key] = value;
  TheWorld().changed.notify_all();
  return absl::OkStatus();
}

absl::StatusOr<std::string> StoreGet(const std::string& key, absl::Duration timeout) {
  World& world = TheWorld();
  std::unique_lock<std::mutex> lock(world.mutex);
  const absl::Time deadline = std::min(absl::Now() + timeout, absl::Now() + absl::Hours(1));
  if (!world.changed.wait_until(lock, absl::ToChronoTime(deadline),
                                [&] { return world.store.contains(key); })) {
    return absl::DeadlineExceededError(absl::StrCat("no rank has set \"", key, "\""));
  }
  return world.store[key];
}

uint64_t AddOnLeaving(std::function<bool(const TaskInfo&)>) { return 0; }
void RemoveOnLeaving(uint64_t) {}
void LeaveNow() { DieOf(absl::FailedPreconditionError("LeaveNow() in a fake")); }

void DieOf(const absl::Status& status) {
  std::fprintf(stderr, "muster: %s\n", status.ToString().c_str());
  std::exit(1);
}

}  // namespace internal

namespace fake {

using internal::TheWorld;

std::vector<TaskOptions> SubmittedOptions() {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  return TheWorld().options;
}
void Hold(const std::string& name) {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  TheWorld().held.insert(name);
}
void Release(const std::string& name) {
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  TheWorld().held.erase(name);
  TheWorld().changed.notify_all();
}

void Reset() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard<std::mutex> lock(TheWorld().mutex);
    TheWorld().held.clear();
    TheWorld().changed.notify_all();
    threads.swap(TheWorld().threads);
  }
  for (std::thread& thread : threads) thread.join();
  const std::lock_guard<std::mutex> lock(TheWorld().mutex);
  TheWorld().options.clear();
  TheWorld().store.clear();
}

}  // namespace fake

// The real ones read flags and connect.
void Init(int& /*argc*/, char** /*argv*/) {}
// NOLINTNEXTLINE(performance-unnecessary-value-param)
absl::Status TryInit(InitOptions /*options*/) { return absl::OkStatus(); }
void Shutdown() { fake::Reset(); }
bool IsInitialized() { return true; }

}  // namespace muster
