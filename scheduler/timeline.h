// What each node is expected to have free from now on: what leases give back when they are expected
// to end, less what is reserved. Finds the earliest start of a request.
//
// An estimate: GPUs are summed, so a share may find less room on single devices than is promised
// here; a reservation decides who may pass, never where anything is placed.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "scheduler/group_placer.h"
#include "scheduler/node.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {

class Timeline {
 public:
  // Over the usable ones of `nodes` (in order of id), as they are.
  Timeline(const std::vector<Node*>& nodes, absl::Time now);

  // The node will get these back. After the last of them: Ready(), once.
  void AddEnd(NodeId node, const Resources& held, absl::Time at);
  void Ready();

  // Where a request would start by its first `open` choices, all bundles by one choice: the
  // earliest time, then the earlier choice; on the nodes with the fewest free GPUs then, then the
  // lowest id.
  struct Start {
    absl::Time at{};
    int choice = 0;
    std::vector<std::pair<Node*, int64_t>> nodes{};  // And how many bundles on each.
  };
  // nullopt: never, as far as is known.
  std::optional<Start> EarliestStart(const SchedulingClass& of, int open,
                                     absl::Duration duration) const;
  // The same for a start now and one choice.
  std::optional<Start> StartNow(const SchedulingClass& of, int choice,
                                absl::Duration duration) const;

  // How many bundles the node could hold from now on for so long.
  int64_t RoomNow(const Node& node, const Resources& needs, absl::Duration duration) const;

  // The earliest time from which `find` has room for a whole group for so long, in what the nodes
  // will have then. Which devices are free then is made up; of the first kGroupTimesMax times at
  // which something is free, and the last. nullopt: never, as far as is known.
  static constexpr size_t kGroupTimesMax = 256;
  // `least` is what it takes on all nodes together, of CPUs, GPUs and memory: where there is less,
  // `find` is not asked.
  using Finder = absl::FunctionRef<bool(CapacityView)>;
  std::optional<absl::Time> EarliestGroup(absl::Duration duration, const Resources& least,
                                          Finder find) const;
  // Whether it has from now on, on the devices that are free now.
  bool GroupNow(absl::Duration duration, const Resources& least, Finder find) const;
  // How often `find` was asked.
  int64_t searches() const { return searches_; }

  void Reserve(const Resources& needs, const Start& start, absl::Duration duration);
  void Take(NodeId node, const Resources& needs, absl::Time from, absl::Duration duration);

 private:
  static constexpr size_t kFixed = 3;  // CPUs, GPUs, memory; then custom resources.
  using Amounts = absl::InlinedVector<int64_t, 4>;
  struct Step {  // Until the next.
    int64_t at = 0;
    Amounts free{};
  };
  struct Line {
    Node* node = nullptr;
    std::vector<Step> steps{};  // In order of time; the first begins now.
    std::vector<std::pair<int64_t, Amounts>> ends{};
  };

  Amounts AmountsOf(const Resources& resources) const;
  const Line* Find(NodeId node) const;
  // What is free all the time.
  static Amounts Least(const Line& line, int64_t from, int64_t until);
  // That much of `base`, free now or ever.
  std::optional<Capacity> Only(const Amounts& least, const Capacity& base) const;
  bool FindAt(int64_t at, int64_t duration, const Resources& least, Finder find) const;
  static size_t StepAt(const Line& line, int64_t at);  // Its index, made if need be: see Split().
  static size_t Split(Line& line, int64_t at);
  static int64_t Count(const Amounts& free, const Amounts& needs);
  static int64_t CountOver(const Line& line, const Amounts& needs, int64_t from, int64_t until);
  static std::optional<int64_t> EarliestOn(const Line& line, const Amounts& needs,
                                           int64_t duration);
  std::optional<Start> EarliestFor(const SchedulingClass& of, int choice, int64_t duration) const;
  std::optional<Start> StartAt(const SchedulingClass& of, int choice, int64_t at,
                               int64_t duration) const;

  const int64_t now_;
  mutable int64_t searches_ = 0;
  std::vector<Line> lines_;
  absl::btree_map<NodeId, size_t> line_of_;
  absl::btree_map<std::string, size_t> custom_;  // Index into Amounts.
};

}  // namespace muster::sched
