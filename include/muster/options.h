// What a task, a group or a program asks for: plain values, written with designated initialisers.
// They are checked at submit, and what is wrong with them comes back from Get() as
// kInvalidArgument.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/label.h"

// g++ 12 warns falsely (-Wmaybe-uninitialized) where it inlines the destructor of a map into the
// clean-up of a half-built aggregate, and the warning would be seen in the program that wrote the
// braces.
#define MUSTER_NOINLINE_ [[gnu::noinline]]

namespace muster {

// The conditions that a node's labels must meet, all of them: a std::map from key to text such as
// "L4", "!spot", "in(a,b)", "gt(3)", or typed entries, Label("zone").In({"a", "b"}).
// A key that is written twice in the braces asks for both (a plain map would lose the second).
class LabelSelector : public std::map<std::string, std::string> {
 public:
  LabelSelector() = default;
  LabelSelector(const LabelSelector&) = default;
  LabelSelector(LabelSelector&&) = default;
  LabelSelector& operator=(const LabelSelector&) = default;
  LabelSelector& operator=(LabelSelector&&) = default;
  MUSTER_NOINLINE_ ~LabelSelector() {}
  LabelSelector(std::initializer_list<value_type> entries) {
    for (const value_type& entry : entries) Add(entry);
  }
  LabelSelector(std::map<std::string, std::string> text)  // NOLINT(google-explicit-constructor)
      : std::map<std::string, std::string>(std::move(text)) {}

 private:
  void Add(const value_type& entry) {
    const auto [at, added] = insert(entry);
    if (!added) at->second += "," + entry.second;
  }
};

// Names and amounts of resources that a cluster's owner made up: a std::map, as in `muster worker
// --resources`.
class CustomResources : public std::map<std::string, double> {
 public:
  using std::map<std::string, double>::map;
  CustomResources() = default;
  CustomResources(const CustomResources&) = default;
  CustomResources(CustomResources&&) = default;
  CustomResources& operator=(const CustomResources&) = default;
  CustomResources& operator=(CustomResources&&) = default;
  MUSTER_NOINLINE_ ~CustomResources() {}
};

// What one task (one rank of a group) holds while it runs. Below 1, gpus is a share of one device;
// from 1 on it is a whole number of devices. Exact to 1/10000.
struct Resources {
  double cpus = 1;
  double gpus = 0;
  int64_t memory_bytes = 0;
  CustomResources custom = {};
};

// Findings about all choices open so far that open this one before its `after` is over.
struct AdvanceOn {
  bool infeasible = true;
  bool stockout = true;
  bool quota = true;
  bool busy = false;
};

// One more way to satisfy a request, tried when those before it have no room.
struct Choice {
  // How long the request must have waited since the choice before this one opened; 0: open from the
  // start.
  absl::Duration after = absl::ZeroDuration();
  std::optional<Resources> resources = std::nullopt;  // Replaces all of the primary's.
  LabelSelector label_selector = {};
  AdvanceOn advance_on = {};
};

// What to do with a request that no node there is, and none that could come, can ever satisfy.
enum class OnInfeasible : uint8_t {
  kWait,  // Say so on stderr, at once and each minute, and wait for such a node.
  kFail,  // Get() gives kFailedPrecondition.
};

// The node that work wants, as Ray's NodeAffinitySchedulingStrategy(node_id, soft). It narrows all
// choices: their label selectors must hold there too.
struct NodeAffinity {
  // The node's name, as `muster nodes` and CurrentTask().node have it; at most 256 bytes. Empty:
  // any.
  std::string node = {};
  // False: that node or none. Work waits while it has no room there; where there is no such node,
  // or one that could never hold it, it is infeasible (see on_infeasible).
  // True: there, by any choice that is open, if it has room now; else wherever there is room.
  bool soft = false;
};

struct PlacementGroupOptions;
struct BundlePlace;
namespace internal {
class PlacementGroupState;
}  // namespace internal

// Resources reserved together, all or nothing; see placement_group.h. A copy is the same group.
class PlacementGroup {
 public:
  PlacementGroup() = default;                                     // None.
  explicit PlacementGroup(const PlacementGroupOptions& options);  // Asks for it, and does not wait.

  // Waits until all bundles have their place. kDeadlineExceeded when the time is over (the group
  // goes on waiting), kFailedPrecondition where it is infeasible (OnInfeasible::kFail) or removed.
  absl::Status Ready(absl::Duration timeout = absl::InfiniteDuration()) const;
  // Gives everything back, and ends what runs inside. Tasks that were to run there fail.
  absl::Status Remove() const;
  std::vector<BundlePlace> Bundles() const;  // By index; empty before it is ready.
  std::string id() const;                    // As `muster explain task` takes it.

  explicit operator bool() const { return state_ != nullptr; }
  friend bool operator==(const PlacementGroup& a, const PlacementGroup& b) {
    return a.state_ == b.state_;
  }
  const std::shared_ptr<internal::PlacementGroupState>& state() const { return state_; }

 private:
  std::shared_ptr<internal::PlacementGroupState> state_;
};

struct TaskOptions {
  Resources resources = {};
  LabelSelector label_selector = {};
  std::vector<Choice> fallback_strategy = {};
  std::string name = {};  // For people; empty: the function's.
  int max_retries =
      3;  // After the death of an executor or node; -1: without end. Errors are not retried.
  absl::Duration timeout =
      absl::InfiniteDuration();  // Of each run, from its start; no retry after it.
  OnInfeasible on_infeasible = OnInfeasible::kWait;
  int priority = 0;  // Higher comes first, and may end what is lower; see preemptible.
  // A hint for backfill and start estimates, never a limit; infinite: not known.
  absl::Duration expected_duration = absl::InfiniteDuration();
  // May be told to leave for work of higher priority, or for others after a time slice. What that
  // ends is run again, and costs no retry and no restart.
  bool preemptible = true;
  // Where the task runs: in what the group has reserved, on its devices. Ranks of a Group<> fill
  // the bundles in order.
  PlacementGroup placement_group = {};
  int bundle_index = -1;  // -1: any.
  // Which of the nodes with room: "pack", "best-fit" or "spread"; empty: as the cluster does.
  std::string placement = {};
  // On which node. With a placement_group, or a group's strategy, it is refused: there a label
  // selector of ray.io/node-id=NAME says it. All ranks of a group are to fit there together, if it
  // is not soft.
  NodeAffinity node_affinity = {};
};

// Long-lived work goes back to a choice that it asked for before the one it was granted, once that
// has room which nobody who waits could use. Its ranks are told to leave (leaving.h), that room is
// kept meanwhile, and the group starts there at its next generation; that costs no restart.
struct ReturnToPreferred {
  int moves = 0;                             // At most so many, up to 1000; 0: it stays.
  absl::Duration after = absl::Minutes(10);  // Since the generation was granted its choice.
  // To save and leave; then what still runs is killed. Infinite: as long as it likes.
  absl::Duration grace = absl::Minutes(5);
};

struct GroupOptions {
  int ranks = 1;  // Leased all or none.
  TaskOptions per_rank =
      {};                 // What each rank needs; a rank is not retried alone, so no max_retries.
  int max_restarts = 0;   // Of the whole group after the death of a rank; -1: without end.
  std::string name = {};  // For people; empty: per_rank.name or the function's.
  // How the ranks lie to each other: levels, tried in order, as in PlacementGroupOptions. Empty:
  // anywhere.
  std::vector<std::string> strategy = {};
  // From a choice of per_rank.fallback_strategy to one before it.
  ReturnToPreferred return_to_preferred = {};
};

struct CancelOptions {
  bool force = false;  // Kills the executor of a task that runs.
};

struct InitOptions {
  // "HOST:PORT" of the head; empty: MUSTER_ADDRESS, or without it a cluster on this machine.
  std::string address = {};
  // main's own: the --muster-... flags are taken out of them and win over the members here.
  int* argc = nullptr;
  char** argv = nullptr;
  // How long what needs the head waits for one that is away, before it fails with kUnavailable.
  absl::Duration reconnect_timeout = absl::Seconds(60);
  // What the cluster on this machine says it has; absent: what is detected.
  std::optional<double> num_cpus = std::nullopt;
  std::optional<int> num_gpus = std::nullopt;
  std::map<std::string, std::string> labels = {};
  // Whose work this is, for fair shares and quotas: a team or user, and one application of it.
  // Empty: MUSTER_TENANT and MUSTER_JOB, or without them the default tenant and no job.
  std::string tenant = {};
  std::string job = {};
};

}  // namespace muster

#undef MUSTER_NOINLINE_
