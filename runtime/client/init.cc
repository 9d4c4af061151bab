// Init(), Shutdown() and the compiled half of the seam to the public headers.
#include "muster/init.h"

#include <limits.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "muster/internal/runtime.h"
#include "runtime/base/clock.h"
#include "runtime/base/host_id.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/client/client_runtime.h"
#include "runtime/client/flags.h"
#include "runtime/client/function_registry.h"
#include "runtime/client/object.h"
#include "runtime/client/parts.h"
#include "runtime/client/placement_group.h"
#include "runtime/cluster/local_cluster.h"
#include "runtime/executor/executor.h"
#include "runtime/executor/executor_context.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"

namespace muster {
namespace {

constexpr absl::Duration kBlockPatience = absl::Milliseconds(5);

// What a driver holds between Init() and Shutdown(). Members end in reverse order.
struct Driver {
  std::optional<cluster::LocalCluster> cluster;
  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<client::ClientRuntime> runtime;
};

Mutex driver_mutex;
std::unique_ptr<Driver> driver ABSL_GUARDED_BY(driver_mutex);
std::atomic<Reactor*> driver_reactor{nullptr};

std::string ProgramPath() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "" : path.string();
}

// The whole argv as the kernel has it: flags that Init() takes out of main's are in it.
std::vector<std::string> WholeArgv() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::string> argv = absl::StrSplit(text, '\0');
  if (!argv.empty() && argv.back().empty()) argv.pop_back();
  return argv;
}

v1::Binary ThisBinary() {
  v1::Binary binary;
  binary.set_build_id(client::MainImageBuildId());
  binary.set_path(ProgramPath());
  binary.set_host_id(HostId());
  std::error_code error;
  binary.set_size_bytes(std::filesystem::file_size("/proc/self/exe", error));
  for (const std::string& argument : WholeArgv()) binary.add_argv(argument);
  binary.set_working_directory(std::filesystem::current_path(error).string());
  return binary;
}

std::string ProgramName() { return std::filesystem::path(ProgramPath()).filename().string(); }

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

// Executors and the cluster on this machine are this program, started again: here they become what
// they are.
void TakeOtherRoles(const InitOptions& options) {
  if (cluster::IsLocalCluster()) {
    cluster::RunLocalCluster(/*report_fd=*/3, /*lifeline_fd=*/4);
  }
  if (!executor::IsExecutor()) return;
  SetUpLog("executor", LogLevel::kWarning);
  executor::ExecutorOptions executor;
  executor.control_fd = std::atoi(Variable("MUSTER_CONTROL_FD").c_str());
  executor.head_address = Variable("MUSTER_HEAD");
  executor.binary = ThisBinary();
  executor.program = ProgramName();
  executor.reconnect_timeout = options.reconnect_timeout;
  executor::Serve(executor);
}

absl::Status Connect(const InitOptions& options) {
  MutexLock lock(&driver_mutex);
  if (driver != nullptr)
    return absl::FailedPreconditionError(
        "muster::Init was called before: this program is connected");
  auto started = std::make_unique<Driver>();
  client::RuntimeOptions runtime;
  runtime.address = client::AddressToUse(options, getenv("MUSTER_ADDRESS"));
  if (runtime.address.empty()) {
    MUSTER_ASSIGN_OR_RETURN(started->cluster, cluster::LocalCluster::Start(options));
    runtime.address = started->cluster->address();
  }
  runtime.program = ProgramName();
  runtime.binary = ThisBinary();
  runtime.reconnect_timeout = options.reconnect_timeout;
  runtime.tenant = options.tenant.empty() ? Variable("MUSTER_TENANT") : options.tenant;
  runtime.job_name = options.job.empty() ? Variable("MUSTER_JOB") : options.job;
  MUSTER_RETURN_IF_ERROR(sched::ValidateTenantName("tenant", runtime.tenant));
  MUSTER_RETURN_IF_ERROR(sched::ValidateTenantName("job", runtime.job_name));
  Reactor::Options reactor;
  reactor.background_thread = true;
  reactor.spin = absl::Microseconds(50);
  started->reactor = std::make_unique<Reactor>(reactor);
  MUSTER_ASSIGN_OR_RETURN(started->runtime,
                          client::ClientRuntime::Connect(*started->reactor, runtime));
  client::SetTheRuntime(started->runtime.get());
  driver_reactor = started->reactor.get();
  driver = std::move(started);
  static const bool at_exit = [] { return std::atexit([] { Shutdown(); }) == 0; }();
  if (!at_exit) return absl::InternalError("atexit refused");
  return absl::OkStatus();
}

absl::Status Start(InitOptions& options) {
  if (options.argc != nullptr)
    MUSTER_RETURN_IF_ERROR(client::TakeFlags(*options.argc, options.argv, options));
  return absl::OkStatus();
}

}  // namespace

absl::Status TryInit(InitOptions options) {
  const absl::Status flags = Start(options);
  TakeOtherRoles(options);
  MUSTER_RETURN_IF_ERROR(flags);
  SetUpLog("driver", LogLevel::kWarning);
  return Connect(options);
}

void Init(int& argc, char** argv) {
  InitOptions options;
  options.argc = &argc;
  options.argv = argv;
  const absl::Status status = TryInit(options);
  if (status.ok()) return;
  fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(absl::IsInvalidArgument(status) ? 2 : 3);
}

void Shutdown() {
  std::unique_ptr<Driver> ending;
  {
    MutexLock lock(&driver_mutex);
    if (driver == nullptr) return;
    driver->runtime->Shutdown();
    client::SetTheRuntime(nullptr);
    driver_reactor = nullptr;
    ending = std::move(driver);
  }
}

bool IsInitialized() {
  return client::TheRuntime() != nullptr || executor::TheExecutor() != nullptr;
}

namespace internal {
namespace {

absl::StatusOr<client::ClientRuntime*> Runtime() {
  if (executor::ExecutorContext* context = executor::TheExecutor(); context != nullptr)
    return context->Runtime();
  client::ClientRuntime* runtime = client::TheRuntime();
  if (runtime == nullptr)
    return absl::FailedPreconditionError("muster::Init was not called, or muster::Shutdown was");
  return runtime;
}

}  // namespace

ObjectHandle Submit(Call call, const TaskOptions& options) {
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  if (!runtime.ok()) return FailedObject(call.name, runtime.status());
  return (*runtime)->Submit(std::move(call), options);
}

ObjectHandle SubmitGroup(Call call, const GroupOptions& options) {
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  if (!runtime.ok()) return FailedObject(call.name, runtime.status());
  return (*runtime)->SubmitGroup(std::move(call), options);
}

std::shared_ptr<PlacementGroupState> CreatePlacementGroup(const PlacementGroupOptions& options) {
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  if (runtime.ok()) return (*runtime)->CreateGroup(options);
  auto state = std::make_shared<PlacementGroupState>();
  MutexLock lock(&state->mutex);
  state->status = runtime.status();
  return state;
}

absl::Status WaitForPlacementGroup(PlacementGroupState& group, absl::Duration timeout) {
  {
    MutexLock lock(&group.mutex);
    if (!group.status.ok()) return group.status;
  }
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  return runtime.ok() ? (*runtime)->WaitForGroup(group, timeout) : runtime.status();
}

absl::Status RemovePlacementGroup(PlacementGroupState& group) {
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  if (!runtime.ok()) return runtime.status();
  if (group.number != 0) (*runtime)->RemoveGroup(group);
  return absl::OkStatus();
}

std::vector<BundlePlace> BundlesOf(PlacementGroupState& group) {
  MutexLock lock(&group.mutex);
  return group.bundles;
}

std::string IdOf(PlacementGroupState& group) {
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  return runtime.ok() && group.number != 0 ? (*runtime)->TaskIdOf(group.number) : "";
}

ObjectHandle PutValue(std::string value) {
  auto object = std::make_shared<Object>();
  object->name = "Put";
  object->value = std::make_shared<const std::string>(std::move(value));
  object->ready = true;
  return object;
}

ObjectHandle FailedObject(std::string name, absl::Status status) {
  auto object = std::make_shared<Object>();
  object->name = std::move(name);
  object->status = std::move(status);
  object->ready = true;
  return object;
}

std::string TaskIdOf(const Object& object) {
  client::ClientRuntime* runtime = client::TheRuntime();
  return object.task == 0 || runtime == nullptr ? "" : runtime->TaskIdOf(object.task);
}

bool IsReady(const Object& object) { return object.ready.load(std::memory_order_acquire); }

bool WaitUntilReady(std::span<const ObjectHandle> objects, size_t count, absl::Time deadline) {
  // Callers give wall-clock times; the reactor goes by one that never jumps.
  const absl::Time monotonic =
      deadline == absl::InfiniteFuture() ? deadline : MonotonicNow() + (deadline - absl::Now());
  if (executor::ExecutorContext* context = executor::TheExecutor(); context != nullptr) {
    return client::WaitForObjects(context->TheReactor(), objects, count, monotonic, kBlockPatience,
                                  [context](bool blocked) { context->Block(blocked); });
  }
  Reactor* reactor = driver_reactor.load();
  if (reactor == nullptr) {
    size_t ready = 0;
    for (const ObjectHandle& object : objects) ready += IsReady(*object) ? 1 : 0;
    return ready >= count;
  }
  return client::WaitForObjects(*reactor, objects, count, monotonic, kBlockPatience, nullptr);
}

absl::StatusOr<std::string_view> ReadValue(const Object& object) {
  if (!object.status.ok()) return object.status;
  return std::string_view(*object.value);
}

absl::Status CancelTask(const ObjectHandle& object, bool force) {
  if (object->task == 0) return absl::OkStatus();
  const absl::StatusOr<client::ClientRuntime*> runtime = Runtime();
  if (!runtime.ok()) return runtime.status();
  return (*runtime)->Cancel(object, force);
}

std::string NameOf(const Object& object) { return object.name; }

std::string EncodeParts(std::span<const std::string> parts) { return client::JoinParts(parts); }
absl::StatusOr<std::vector<std::string_view>> DecodeParts(std::string_view encoded) {
  return client::SplitParts(encoded);
}

TaskInfo CurrentTaskInfo() {
  executor::ExecutorContext* context = executor::TheExecutor();
  return context == nullptr ? TaskInfo{} : context->Task();
}
bool CurrentTaskCancelled() {
  executor::ExecutorContext* context = executor::TheExecutor();
  return context != nullptr && context->Cancelled();
}
GroupInfo CurrentGroupInfo() {
  executor::ExecutorContext* context = executor::TheExecutor();
  return context == nullptr ? GroupInfo{} : context->Group();
}
Collectives& CurrentCollectives() {
  executor::ExecutorContext* context = executor::TheExecutor();
  static Collectives alone;
  return context == nullptr ? alone : context->TheCollectives();
}

absl::Status StoreSet(const std::string& key, const std::string& value) {
  executor::ExecutorContext* context = executor::TheExecutor();
  if (context == nullptr)
    return absl::FailedPreconditionError(
        "the store is for the ranks of a group; this is the driver");
  return context->StoreSet(key, value);
}
absl::StatusOr<std::string> StoreGet(const std::string& key, absl::Duration timeout) {
  executor::ExecutorContext* context = executor::TheExecutor();
  if (context == nullptr)
    return absl::FailedPreconditionError(
        "the store is for the ranks of a group; this is the driver");
  return context->StoreGet(key, timeout);
}

uint64_t AddOnLeaving(std::function<bool(const TaskInfo&)> save) {
  executor::ExecutorContext* context = executor::TheExecutor();
  return context == nullptr ? 0 : context->AddOnLeaving(std::move(save));
}
void RemoveOnLeaving(uint64_t number) {
  if (executor::ExecutorContext* context = executor::TheExecutor()) {
    context->RemoveOnLeaving(number);
  }
}
void LeaveNow() {
  if (executor::TheExecutor() != nullptr) throw executor::TaskLeaves{};
  DieOf(absl::FailedPreconditionError("LeaveNow() was called outside of a task"));
}

void DieOf(const absl::Status& status) {
  if (executor::TheExecutor() != nullptr) throw executor::TaskEnds{status};
  fprintf(stderr, "muster: %s\n", status.ToString().c_str());
  std::exit(1);
}

}  // namespace internal
}  // namespace muster
