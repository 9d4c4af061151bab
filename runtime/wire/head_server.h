// The head's side of links 1 and 2 and of the command line's questions: a gRPC server behind plain
// calls. Nothing here decides anything; batches arrive and leave as they are.
//
// Thread-safety: Send* and Close from any thread. The listener's methods are called on gRPC's
// threads and must not block; calls for one connection come in order, and none comes after the
// server's destructor has returned. A connection is closed once, and only where a batch of it was
// delivered. Garbage on the port: the connection is closed, a warning line is logged, nothing else
// is touched. The same goes for a stream whose first message does not come within 10 s, and one
// whose peer does not read: at most unsent_bytes_max wait for it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"

namespace muster {

using ConnectionId = uint64_t;  // Never used twice in one process; 0 is none.

class HeadListener {
 public:
  virtual ~HeadListener() = default;
  virtual void OnDriver(ConnectionId connection, v1::DriverBatch batch) = 0;
  virtual void OnDriverClosed(ConnectionId connection) = 0;
  virtual void OnWorker(ConnectionId connection, v1::WorkerBatch batch) = 0;
  virtual void OnWorkerClosed(ConnectionId connection) = 0;
  // Each answers through `reply`, once, from any thread. A `reply` destroyed unused tells the
  // caller so.
  virtual void OnStatus(v1::StatusRequest request, std::function<void(v1::StatusReply)> reply) = 0;
  virtual void OnExplain(v1::ExplainRequest request,
                         std::function<void(v1::ExplainReply)> reply) = 0;
  virtual void OnDecisions(v1::DecisionsRequest request,
                           std::function<void(v1::DecisionsReply)> reply) = 0;
  virtual void OnSnapshot(v1::SnapshotRequest request,
                          std::function<void(v1::SnapshotReply)> reply) = 0;
  virtual void OnControl(v1::ControlNodeRequest request,
                         std::function<void(v1::ControlNodeReply)> reply) = 0;
  virtual void OnSetSharing(v1::SetSharingRequest request,
                            std::function<void(v1::SetSharingReply)> reply) = 0;
  virtual void OnStop(v1::StopRequest request, std::function<void(v1::StopReply)> reply) = 0;
};

class HeadServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    int port = 0;                        // 0: the kernel picks.
    std::string package_directory = "";  // Where uploaded applications are kept; empty: nowhere.
    uint64_t package_bytes_max = uint64_t{8} << 30;
    size_t unsent_bytes_max = size_t{64} << 20;  // Per connection.
    absl::Duration first_message_within = absl::Seconds(10);
  };
  // Errors: kAlreadyExists "cannot listen on 127.0.0.1:6379: in use by another process; choose one
  // with --port (0 picks a free one)".
  static absl::StatusOr<std::unique_ptr<HeadServer>> Start(const Options& options,
                                                           HeadListener& listener);
  // Writes what was sent, for at most 0.4 s, and closes every stream; takes less than a second.
  virtual ~HeadServer() = default;

  virtual int port() const = 0;
  virtual void SendToDriver(ConnectionId connection,
                            v1::ToDriver message) = 0;  // Unknown connection: dropped.
  virtual void SendToWorker(ConnectionId connection, v1::ToWorker message) = 0;
  virtual void Close(ConnectionId connection) = 0;  // After what was sent is written.
  virtual bool HasPackage(const std::string& build_id) const = 0;
};

}  // namespace muster
