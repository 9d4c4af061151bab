// A Forecast answers "what if" and "when could it start": a copy of the scheduler, loaded from a
// snapshot, that goes on by itself. Nobody asks for anything more, and each lease ends when it is
// expected to: after its request's expected duration, else after the median of what the last leases
// of its class took, else never. One that has run for longer already is taken to run on for as long
// again as it is late. Nodes that drain go at their deadline, and leases that are told to leave end
// then.
//
// So an estimate is what would come to pass if those durations were right and nothing new came, by
// the same decisions that the scheduler itself takes; it is no promise.
//
// Thread-safety: none. Errors: what Scheduler::Load() refuses.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/duration_history.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"

namespace muster::sched {

struct ForecastConfig {
  absl::Duration horizon = absl::Hours(24 * 365);  // How far it looks ahead.
  // Events before it gives up; what a step looks for in the plans of backfill counts as well.
  int64_t steps_max = 200'000;
};

// When and where a request starts.
struct StartEstimate {
  enum class When {
    kKnown,       // At `at`, which is now where it need not wait.
    kUnknown,     // What holds what it needs has no known end.
    kInfeasible,  // No node there can ever hold it.
    kTooFar,      // Not within the horizon, or the steps.
    kGone,        // It was rejected, or failed as infeasible.
  };
  When when = When::kUnknown;
  absl::Time at{};
  std::vector<Placement> placements{};
  std::vector<std::string> where{};  // As in Explanation.
  std::string because{};  // What makes room: "request 4 (Train) on 6f1c2a is expected to end".
  int64_t guessed = 0;    // Ends before it that were guessed from what earlier leases took.
  int64_t unknown = 0;    // kUnknown: leases without a known end on nodes that it could use.
  std::string reason{};   // kInfeasible, kGone: why. kUnknown: what stands before it besides.
};

// "in about 3m20s on 6f1c2a, choice 1 (any node), GPU 0, when request 4 (Train) is expected to
// end", "now on ...", "unknown: 3 leases without an expected duration hold what it needs", ...
std::string ToText(const StartEstimate& estimate, absl::Time now);

class Forecast {
 public:
  static absl::StatusOr<std::unique_ptr<Forecast>> Make(const Snapshot& snapshot,
                                                        ForecastConfig config = {});

  // Something that happens now. REQUIRES: before the first Run().
  void Apply(decltype(Event::what) what);

  // Goes on until each of `requests` has started or cannot, and says when; in their order.
  std::vector<StartEstimate> Run(const std::vector<RequestId>& requests);

  absl::Time now() const { return now_; }
  const Scheduler& scheduler() const { return *scheduler_; }
  // Leases that ended because their node went, by Apply().
  int64_t leases_lost() const { return leases_lost_; }

 private:
  struct Lease {
    RequestId request{};
    int bundle = 0;
    friend bool operator<(const Lease& a, const Lease& b) {
      return std::tie(a.request, a.bundle) < std::tie(b.request, b.bundle);
    }
  };
  struct Ending {
    absl::Time at{};
    Lease lease{};
    bool guessed = false;
    friend bool operator<(const Ending& a, const Ending& b) {
      return std::tie(a.at, a.lease) < std::tie(b.at, b.lease);
    }
  };
  struct Length {
    absl::Duration duration{};
    bool guessed = false;
  };
  struct Known {  // Of each request that waits or runs.
    SpecHandle spec{};
    std::optional<Length> length{};
  };

  explicit Forecast(ForecastConfig config) : config_(config) {}
  static std::optional<Length> LengthOf(const RequestSpec& spec, const DurationHistory& history);
  void Plan(const Lease& lease, absl::Time began, const std::optional<Length>& length);
  void SayWhyUnknown(RequestId request, StartEstimate& estimate) const;
  bool Advance();  // To the next thing that happens; false: nothing does.
  void Step(decltype(Event::what) what);
  void Take(const Action& action);
  void End(const Lease& lease);
  // What its owner would ask for once all of the request has ended.
  void GoOnInstead(RequestId ended);
  int64_t CountUnknown(RequestId request) const;
  std::string NameOf(RequestId request) const;
  std::string NodeName(NodeId node) const;

  const ForecastConfig config_;
  std::unique_ptr<Scheduler> scheduler_;
  absl::Time now_{};
  absl::Time begin_{};
  int64_t steps_ = 0;
  int64_t guessed_ = 0;
  int64_t leases_lost_ = 0;
  uint64_t made_up_ = UINT64_MAX;  // The next id of a request that nobody has made.
  std::string because_;            // What happens at the moment.
  absl::btree_map<RequestId, Known> known_;
  absl::btree_map<NodeId, std::string> names_;
  absl::btree_set<std::pair<absl::Time, NodeId>> leaving_nodes_;
  absl::btree_set<Ending> endings_;
  absl::btree_map<Lease, NodeId> running_;  // All leases.
  absl::btree_map<Lease, Ending> planned_;  // Those with a known end.
  absl::btree_map<RequestId, StartEstimate> wanted_;
  size_t missing_ = 0;  // Of `wanted_`, those that nothing is known of yet.
  std::vector<Action> actions_;
};

}  // namespace muster::sched
