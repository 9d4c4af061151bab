// What the tests of server and link share: a listener that notes what happens, and waits with a
// bound.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "runtime/wire/head_link.h"
#include "runtime/wire/head_server.h"

namespace muster::testing_internal {

// Things that happened, from any thread.
class Notes {
 public:
  void Add(std::string note) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    notes_.push_back(std::move(note));
    changed_.SignalAll();
  }
  // False: `enough` did not become true in time, which is generous: sanitizers and loaded machines
  // are slow.
  bool Await(const std::function<bool(const std::vector<std::string>&)>& enough)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::Time until = MonotonicNow() + absl::Seconds(60);
    MutexLock lock(&mutex_);
    while (!enough(notes_) && MonotonicNow() < until) {
      changed_.WaitFor(&mutex_, until - MonotonicNow());
    }
    return enough(notes_);
  }
  bool AwaitCount(size_t count) {
    return Await([count](const auto& notes) { return notes.size() >= count; });
  }
  std::vector<std::string> all() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return notes_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);
};

// The hooks are set before the first connection.
struct RecordingListener : HeadListener {
  Notes notes;
  std::function<void(ConnectionId, const v1::DriverMessage&)> on_driver = [](auto, const auto&) {};
  std::function<void(ConnectionId, const v1::WorkerMessage&)> on_worker = [](auto, const auto&) {};
  std::function<void(std::function<void(v1::StatusReply)>)> on_status = [](const auto& reply) {
    v1::StatusReply answer;
    answer.set_version("here");
    reply(answer);
  };

  std::function<void(std::function<void(v1::StopReply)>)> on_stop = [](const auto& reply) {
    v1::StopReply answer;
    answer.mutable_refused()->set_code(16);
    answer.mutable_refused()->set_message("no");
    reply(answer);
  };

  size_t snapshot_bytes = 10;

  void OnDriver(ConnectionId connection, v1::DriverBatch batch) override {
    for (const v1::DriverMessage& message : batch.messages()) on_driver(connection, message);
  }
  void OnDriverClosed(ConnectionId) override { notes.Add("driver closed"); }
  void OnWorker(ConnectionId connection, v1::WorkerBatch batch) override {
    for (const v1::WorkerMessage& message : batch.messages()) on_worker(connection, message);
  }
  void OnWorkerClosed(ConnectionId) override { notes.Add("worker closed"); }
  void OnStatus(v1::StatusRequest, std::function<void(v1::StatusReply)> reply) override {
    on_status(std::move(reply));
  }
  void OnExplain(v1::ExplainRequest request, std::function<void(v1::ExplainReply)> reply) override {
    v1::ExplainReply answer;
    answer.set_text(request.task_prefix());
    reply(answer);
  }
  void OnDecisions(v1::DecisionsRequest request,
                   std::function<void(v1::DecisionsReply)> reply) override {
    v1::DecisionsReply answer;
    answer.add_decisions()->set_number(request.number());
    reply(answer);
  }
  void OnSnapshot(v1::SnapshotRequest, std::function<void(v1::SnapshotReply)> reply) override {
    v1::SnapshotReply answer;
    answer.set_json(std::string(snapshot_bytes, 'x'));
    reply(answer);
  }
  void OnControl(v1::ControlNodeRequest request,
                 std::function<void(v1::ControlNodeReply)> reply) override {
    v1::ControlNodeReply answer;
    answer.mutable_node()->set_id(request.node());
    reply(answer);
  }
  void OnSetSharing(v1::SetSharingRequest request,
                    std::function<void(v1::SetSharingReply)> reply) override {
    v1::SetSharingReply answer;
    answer.mutable_quota()->set_name(request.quota());
    reply(answer);
  }
  void OnStop(v1::StopRequest, std::function<void(v1::StopReply)> reply) override {
    on_stop(std::move(reply));
  }
};

}  // namespace muster::testing_internal
