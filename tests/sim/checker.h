// What must hold whatever happens, seen from outside the cores, by a model of its own:
//   - a task completes exactly once, with the result of a run of its own on a lease that its driver
//   had not
//     been told was over;
//   - what the executors of one worker hold together is never more than the worker has (CPUs that a
//   waiting
//     task lent out aside), and a device is never given out twice;
//   - a task runs by no more attempts than it has; a group's ranks are of one generation, each in
//   its place.
// Errors are kept as text, not thrown: a canary wants to see them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"
#include "muster/v1/task.pb.h"

namespace muster::sim {

// What the load asked for, and what became of it. Handed to the driver's core as the cookie.
struct SimTask {
  uint64_t driver = 0;
  uint64_t number = 0;
  uint32_t ranks = 0;  // 0: no group.
  int max_retries = 0;
  absl::Duration run{};
  absl::Duration timeout = absl::InfiniteDuration();
  bool fails = false;       // Its function returns an error.
  bool cooperates = false;  // Ends soon after a cancel.
  int children = 0;         // Tasks that it submits and waits for.
  uint64_t family = 0;      // Of such a task: which of its driver's parents it is of.
  bool may_fail = false;    // Cancelled, timed out, infeasible, or depends on such a task.
  std::string class_name;
  std::string only_on;  // The node that it asks for, and no other; empty: any.
  int completions = 0;
  absl::Status status;
};

// One start of a task's function (or of one rank). Its number is the result's text.
struct Run {
  uint64_t driver = 0;
  uint64_t sequence = 0;
  uint64_t executor = 0;
  std::string lease;
  uint32_t generation = 0;
  uint32_t rank = 0;
  uint32_t ranks = 0;
  bool finished = false;
  bool arrived = false;  // While its lease was good.
};

class Checker {
 public:
  void WorkerStarts(uint64_t worker, const v1::NodeResources& total);
  void Holds(uint64_t worker, uint64_t executor, const std::optional<v1::AssignLease>& lease);
  void Lends(uint64_t worker, uint64_t executor);  // A task of its lease waits for others.
  uint64_t Starts(const Run& run, const SimTask& task, uint32_t attempt);
  void Finishes(uint64_t run) { runs_[run].finished = true; }
  void Arrives(const std::string& value);  // At its driver.
  void HearsOfEnd(uint64_t driver, const v1::LeaseKey& lease);
  void Completes(SimTask& task, const absl::Status& status,
                 const std::shared_ptr<const std::string>& value);

  void Fail(std::string what);
  const std::vector<std::string>& errors() const { return errors_; }

 private:
  struct Holding {
    v1::AssignLease lease;
    bool lent = false;
  };
  struct Worker {
    v1::NodeResources total;
    absl::btree_map<uint64_t, Holding> held;  // By executor.
  };
  void CheckRoom(uint64_t number, const Worker& worker);
  Run* FindRun(const std::string& value);
  void CheckRun(const SimTask& task, const std::string& text, std::optional<uint32_t> rank,
                std::optional<uint32_t>& generation);

  absl::btree_map<uint64_t, Worker> workers_;
  std::vector<Run> runs_;
  absl::btree_map<uint64_t, std::set<std::string>> ended_;
  std::set<std::string> rank_starts_;
  std::vector<std::string> errors_;
};

}  // namespace muster::sim
