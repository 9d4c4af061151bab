// A driver's or worker's link to the head: one long-lived stream that is opened again whenever it
// breaks, and the head's unary calls. gRPC stays behind it.
//
// Thread-safety: all from any thread. The callbacks come from the link's own threads, one at a time
// and in order: OnUp, then batches, then OnDown, then (reconnected) OnUp, ...; they must not block.
// No callback starts after Stop() has returned.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"

namespace muster {

// Out: what this side sends (v1::DriverMessage, v1::WorkerMessage); InBatch: what it gets.
template <typename Out, typename InBatch>
class HeadLink {
 public:
  struct Callbacks {
    std::function<void()> on_up;  // The stream is open: send the hello first.
    std::function<void(InBatch batch)> on_batch;
    // `why` names the address and the cause ("connection refused"); called after a stream broke,
    // and after each attempt that failed.
    std::function<void(absl::Status why)> on_down;
  };
  virtual ~HeadLink() = default;  // Stops.
  // Dropped while the link is down: what matters is replayed by on_up. While on_up runs, what other
  // threads send is kept until it returns, so that the hello comes first; it may then arrive
  // besides its replay.
  virtual void Send(Out message) = 0;
  // Writes what is queued, half-closes, ends. Idempotent. REQUIRES: not called by a callback.
  virtual void Stop(absl::Duration flush_for) = 0;
};
using DriverLink = HeadLink<v1::DriverMessage, v1::ToDriverBatch>;
using WorkerLink = HeadLink<v1::WorkerMessage, v1::ToWorkerBatch>;

// The callbacks may begin before these return. Attempts follow each other after 50 ms, doubling to
// 1 s. `address` is "host:port".
std::unique_ptr<DriverLink> ConnectDriver(const std::string& address,
                                          DriverLink::Callbacks callbacks);
std::unique_ptr<WorkerLink> ConnectWorker(const std::string& address,
                                          WorkerLink::Callbacks callbacks);

// Unary calls, and packages. They are tried again until the timeout while no head answers; one that
// is there has 5 s at least. An answer that refuses (the replies' `refused`) comes as that status.
// Each call uses a connection of its own and blocks its thread. Errors: kUnavailable "no muster
// head at 10.0.0.1:6379: connection refused (tried for 10 s). Start one with: muster head".
class HeadClient {
 public:
  explicit HeadClient(std::string address);
  ~HeadClient();
  absl::StatusOr<v1::StatusReply> GetStatus(absl::Duration timeout);
  absl::StatusOr<v1::ExplainReply> Explain(const std::string& task_prefix, absl::Duration timeout);
  // Decision `number`; or the one about the task; or the newest, at most `most`.
  absl::StatusOr<v1::DecisionsReply> GetDecisions(uint64_t number, const std::string& task_prefix,
                                                  int most, absl::Duration timeout);
  // May be large, and is given a minute.
  absl::StatusOr<std::string> GetSnapshot(absl::Duration timeout);
  // Its protocol is filled in. What was not done comes as that status.
  absl::StatusOr<v1::ControlNodeReply> ControlNode(v1::ControlNodeRequest request,
                                                   absl::Duration timeout);
  absl::StatusOr<v1::SetSharingReply> SetSharing(v1::SetSharingRequest request,  // The same.
                                                 absl::Duration timeout);
  absl::StatusOr<v1::StopReply> Stop(absl::Duration timeout);
  absl::Status UploadPackage(const std::string& build_id, const std::string& path);
  // Writes to a temporary file beside `path`, checks size and sha256, then renames; mode 0700.
  absl::Status FetchPackage(const std::string& build_id, const std::string& path);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
