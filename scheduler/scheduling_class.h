// A scheduling class: all requests with one spec, their queue, and what the cluster could ever do
// for them.
//
// The queue is oldest first. How many of its choices are open is known for each waiting request;
// since `after` and findings are those of the class, an older request never has fewer open than a
// younger one, so the queue is kept in segments by that number, and the first of a segment is the
// first whose timer ends.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"
#include "scheduler/choice.h"
#include "scheduler/demand.h"
#include "scheduler/duration_history.h"
#include "scheduler/events.h"
#include "scheduler/group_plan.h"
#include "scheduler/ids.h"
#include "scheduler/node.h"
#include "scheduler/packing.h"
#include "scheduler/prefetch.h"

namespace muster::sched {

struct SchedulingClass;
struct Tenant;

struct Bundle {
  // Missing: granted before a restart of the head, not seen since.
  // Closing: of a placement group, given up; held until the last request inside it has ended.
  enum class State { kMissing, kRunning, kClosing, kEnded };
  State state = State::kMissing;
  bool blocked = false;         // Its CPUs are lent out.
  bool may_overcommit = false;  // It took CPUs back, or joined held.
  bool adopted = false;         // It joined held: when it began is not known.
  int inside = -1;              // The bundle of the placement group that it was placed in.
  Placement placement{};
  Node* on = nullptr;  // The placement's node, where it is known.
};

struct Request {
  // What the end of a lease reads comes first.
  RequestId id{};
  SchedulingClass* of = nullptr;
  std::vector<Bundle> bundles{};   // Empty while it waits.
  const void* first_on = nullptr;  // The node of its first bundle, or where it was; see SendFor().
  absl::Time since{};              // When it came.

  uint64_t arrival = 0;
  absl::Time opened_at{};  // When the last of the open choices opened.
  int open = 1;            // Choices 0 to open - 1 are open.
  bool queued = false;     // In its class.
  // Of a placement group, or a request with a strategy:
  bool broken = false;   // It waits for its lost bundles to be placed anew, and holds the others.
  bool closing = false;  // It is over, or to be placed anew, once its closing bundles are free.
  bool removed = false;  // Closing: it is over.
  absl::Time avoids_until = absl::InfinitePast();  // Of spec.avoid.
  absl::Duration waited{};                         // Granted: how long it had waited.
  absl::Time adopt_by = absl::InfinitePast();      // Of what awaits_missing().
  int shape = 0;                                   // Granted, of these: by which shape and level.
  int level = 0;

  // As new, for another request.
  void Reset() {
    std::vector<Bundle> kept = std::move(bundles);
    kept.clear();
    std::destroy_at(this);  // In place: a copy of a new one costs twice as much.
    std::construct_at(this)->bundles = std::move(kept);
  }
  // Its bundles and node come from memory at the same time.
  void SendFor() const {
    PrefetchLines(bundles.data(), 3);
    Node::Prefetch(first_on);
  }
  bool granted() const { return !bundles.empty() && !broken; }
  // It was asked for again, and some of its bundles are missing.
  bool awaits_missing() const { return adopt_by != absl::InfinitePast(); }
  absl::Time granted_at() const { return since + waited; }  // REQUIRES: granted().
  bool Has(Bundle::State state) const {
    for (const Bundle& bundle : bundles) {
      if (bundle.state == state) return true;
    }
    return false;
  }
  bool HasBlocked() const {
    for (const Bundle& bundle : bundles) {
      if (bundle.blocked && bundle.state == Bundle::State::kRunning) return true;
    }
    return false;
  }
};

// The place of a class among those that wait: higher priority first, then by the oldest request.
struct WaitingKey {
  int64_t minus_priority = 0;
  uint64_t arrival = 0;

  friend bool operator==(WaitingKey a, WaitingKey b) {
    return a.minus_priority == b.minus_priority && a.arrival == b.arrival;
  }
  friend bool operator<(WaitingKey a, WaitingKey b) {
    return a.minus_priority != b.minus_priority ? a.minus_priority < b.minus_priority
                                                : a.arrival < b.arrival;
  }
};

struct SchedulingClass {
  SchedulingClass(uint64_t id_in, SpecHandle handle_in);

  const uint64_t id;
  const SpecHandle handle;
  const RequestSpec& spec;       // What the handle refers to.
  std::vector<int> selectors{};  // By choice: its number in the SelectorIndex.
  int requests = 0;              // Waiting or granted.
  // Of requests of several bundles, placement groups among them; null for single ones.
  std::unique_ptr<GroupPlan> plan{};

  // --- What the nodes there are could ever hold, all of it free; see Feasibility ---
  // By choice: nodes that could hold a bundle; of a plain class, whether there is one.
  std::vector<int64_t> nodes_for_choice{};
  // By number of open choices: bundles, each node counting up to spec.bundles; see scheduler.h on
  // filling a node. Of a plain class, whether there is a node.
  std::vector<int64_t> bundles_for_open{};
  std::vector<Node*> witnesses{};  // By choice, of a plain class. Null: none there, or not known.
  bool watched = false;            // All of this is kept up to date: it waits.
  bool witnessed = false;          // A null witness means that there is none.
  bool may_have_changed = false;   // Since the scheduler asked.
  void Count(const Node& node, int64_t sign);  // Adds or takes away what a node could hold.
  bool Feasible(int open) const {
    return counted() ? bundles_for_open[open] >= spec.bundles : feasible_for_open[open];
  }
  // Whether feasibility is a sum over nodes. Where it is not, the scheduler looks by itself.
  bool counted() const { return !shaped() && !spec.inside.has_value(); }
  // Whether where its bundles lie to each other matters.
  bool shaped() const { return plan != nullptr && !plan->anywhere; }
  std::vector<bool> feasible_for_open{};  // By number of open choices, where it is not counted.
  int64_t feasible_version = -1;          // Of the topology it was looked up for.
  bool Feasible() const { return Feasible(choices()); }
  // What is found about all open choices where a request waits for them. Bits of Finding.
  uint8_t Findings(int open) const;

  // --- The queue ---
  int choices() const { return static_cast<int>(spec.choices.size()); }
  int open_at_first() const { return open_at_first_; }  // Choices that open with the request.
  bool opens_later() const { return open_at_first_ < choices(); }
  bool waits() const { return waiting > 0; }
  Request* head() const;                         // Null where none waits.
  int64_t Before(const Request& request) const;  // How many wait in front of it.
  std::vector<Request*> Queue() const;           // Oldest first.
  Request* After(const Request& request) const;  // The next in the queue; null: it is the last.
  WaitingKey key() const { return {-int64_t{spec.priority}, head()->arrival}; }
  void Push(Request* request);
  void Erase(Request* request);
  // Opens what is due by then, each at its own time. True if a request has more open choices now.
  bool OpenByTime(absl::Time now);
  // Opens at `now` what findings open. `infeasible_counts` is false while nodes may still be on
  // their way.
  bool OpenByFindings(absl::Time now, bool infeasible_counts);
  absl::Time NextDue() const;  // InfiniteFuture() if nothing waits for its time.

  // By number of open choices, then arrival. Index 0 is never used.
  std::vector<absl::btree_map<uint64_t, Request*>> segments{};
  int64_t waiting = 0;

  // --- Kept by the placer ---
  // By choice: when nothing could hold it, by the index's version and the rows that had risen; see
  // LikelyRoom().
  struct NoRoom {
    uint64_t version = 0;  // 0: not known.
    uint64_t risen = 0;
  };
  mutable std::vector<NoRoom> no_room{};

  // --- Kept by the scheduler ---
  DemandUses demand;                               // What a request adds to the demand.
  mutable std::vector<PackTarget> pack_targets{};  // By choice; see Packing.
  DurationHistory durations{};                     // Of its leases that finished.
  bool blocked = false;  // The head has no room on any node that has not grown since it was tried.
  bool said_infeasible = false;          // To all that wait.
  std::string infeasible_reason{};       // Empty: to be made.
  uint64_t reason_version = 0;           // When infeasible_reason was made.
  std::vector<uint32_t> waiting_bits{};  // By open choice of the head; see WaitingIndex.
  bool candidate = false;                // Listed as one that may have room.
  bool touched = false;                  // Listed as one whose queue or open choices changed.
  Tenant* tenant = nullptr;              // While it has requests.
  bool quota_limited = false;            // A quota closes nodes to an open choice of the head,
  uint64_t quota_closed = 0;             // and, by choice, all nodes that could hold it. Bits.
  bool found_no_victims = false;         // As `blocked`, for what could be taken from others.
  std::optional<WaitingKey> indexed_key{};
  std::optional<WaitingKey> indexed_ready{};
  std::optional<absl::Time> indexed_due{};
  std::optional<uint64_t> idle_since{};

 private:
  int open_at_first_ = 1;
};

}  // namespace muster::sched
