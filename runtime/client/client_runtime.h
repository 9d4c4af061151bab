// The client library's shell: the driver's core behind a mutex, the connections to executors on a
// reactor, the link to the head. A process has at most one; executors have one too, once their
// tasks submit tasks or use the group's store.
//
// A thread that waits in Get() polls the executors' connections itself, so a result is seen by the
// thread that wants it without a hop; see Reactor. Thread-safety: any thread may call any member.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/internal/runtime.h"
#include "muster/options.h"
#include "muster/v1/cluster.pb.h"
#include "runtime/base/reactor.h"

namespace muster::client {

struct RuntimeOptions {
  std::string address;
  std::string program;  // For the head's log: the program's name.
  v1::Binary binary;
  std::string tenant;    // Of an outermost driver.
  std::string job_name;  // For quotas.
  uint64_t job = 0;      // In an executor: of its lease.
  absl::Duration reconnect_timeout = absl::Seconds(60);
  absl::Duration connect_timeout = absl::Seconds(10);
  bool nested = false;  // In an executor.
};

// A rank's place in its group, for the store.
struct StorePlace {
  std::string group;
  uint32_t generation = 0;
};

class ClientRuntime {
 public:
  // Waits for the head's welcome. Errors: kUnavailable "no muster head at ...", kFailedPrecondition
  // where it speaks another protocol.
  static absl::StatusOr<std::unique_ptr<ClientRuntime>> Connect(Reactor& reactor,
                                                                const RuntimeOptions& options);
  virtual ~ClientRuntime() = default;  // As Shutdown().

  virtual internal::ObjectHandle Submit(internal::Call call, const TaskOptions& options) = 0;
  virtual internal::ObjectHandle SubmitGroup(internal::Call call, const GroupOptions& options) = 0;
  virtual std::shared_ptr<internal::PlacementGroupState> CreateGroup(
      const PlacementGroupOptions& options) = 0;
  virtual absl::Status WaitForGroup(internal::PlacementGroupState& group,
                                    absl::Duration timeout) = 0;
  virtual void RemoveGroup(internal::PlacementGroupState& group) = 0;
  virtual absl::Status Cancel(const internal::ObjectHandle& object, bool force) = 0;
  virtual std::string TaskIdOf(uint64_t task) = 0;

  // The task that runs in this executor waits for others, or no longer does.
  virtual void TaskWaits(const v1::LeaseKey& lease, bool waits) = 0;

  virtual absl::Status StoreSet(const StorePlace& place, const std::string& key,
                                const std::string& value) = 0;
  virtual absl::StatusOr<std::string> StoreGet(const StorePlace& place, const std::string& key,
                                               absl::Duration timeout) = 0;
  // What is waiting, and whatever comes later of this generation, gets `status`.
  virtual void AbortStore(const StorePlace& place, const absl::Status& status) = 0;

  // Prints what tasks have written so far (for at most 2 s), gives leases back, says goodbye.
  virtual void Shutdown() = 0;
};

// Of this process; null before Init() and after Shutdown().
ClientRuntime* TheRuntime();
void SetTheRuntime(ClientRuntime* runtime);

// Waits on `reactor` until `count` of `objects` are ready. `on_block` is called with true where
// that takes longer than `patience`, and with false afterwards.
bool WaitForObjects(Reactor& reactor, std::span<const internal::ObjectHandle> objects, size_t count,
                    absl::Time deadline, absl::Duration patience,
                    const std::function<void(bool)>& on_block);

}  // namespace muster::client
