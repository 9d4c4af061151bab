// A request says what it needs as an ordered list of choices; choice 0 is the primary, the rest is
// the fallback strategy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/ids.h"
#include "scheduler/label_selector.h"
#include "scheduler/placement_policy.h"
#include "scheduler/resources.h"
#include "scheduler/strategy.h"

namespace muster::sched {

// Findings about all open choices that open the next one before its `after` is over. Bits of
// advance_on.
//   infeasible: no node there now (draining and unreachable ones count) could ever satisfy it;
//   stockout, quota: the provider says so (autoscaler);
//   busy: none of these, but there is no room now.
enum class Finding : uint8_t { kInfeasible = 1, kStockout = 2, kQuota = 4, kBusy = 8 };
inline constexpr uint8_t kDefaultAdvanceOn = 1 | 2 | 4;

// "busy|infeasible" to bits and back. Errors: kInvalidArgument naming the word and what is allowed.
absl::StatusOr<uint8_t> ParseAdvanceOn(absl::string_view text);
std::string AdvanceOnToText(uint8_t advance_on);

struct Choice {
  LabelSelector selector{};
  Resources
      resources{};  // Always filled in: the primary's where the choice has no shape of its own.
  absl::Duration after = absl::ZeroDuration();  // Since the choice before this one opened.
  uint8_t advance_on = kDefaultAdvanceOn;

  friend bool operator==(const Choice& a, const Choice& b) {
    return std::tie(a.selector, a.resources, a.after, a.advance_on) ==
           std::tie(b.selector, b.resources, b.after, b.advance_on);
  }
  template <typename H>
  friend H AbslHashValue(H h, const Choice& c) {
    return H::combine(std::move(h), c.selector, c.resources, c.after, c.advance_on);
  }
};

// One bundle of a placement group: what it needs, by its choices in order. They are all open: what
// waits and falls back is the group, see GroupShape.
struct BundleSpec {
  std::vector<Choice> choices{};  // At least one; `after` and `advance_on` mean nothing here.

  friend bool operator==(const BundleSpec& a, const BundleSpec& b) {
    return a.choices == b.choices;
  }
  template <typename H>
  friend H AbslHashValue(H h, const BundleSpec& b) {
    return H::combine(std::move(h), b.choices);
  }
};

// One way to have a placement group, as a whole.
struct GroupShape {
  std::vector<BundleSpec> bundles{};            // At least one.
  Strategy strategy{};                          // Empty: pack.
  absl::Duration after = absl::ZeroDuration();  // As of a choice.
  uint8_t advance_on = kDefaultAdvanceOn;

  friend bool operator==(const GroupShape& a, const GroupShape& b) {
    return std::tie(a.bundles, a.strategy, a.after, a.advance_on) ==
           std::tie(b.bundles, b.strategy, b.after, b.advance_on);
  }
  template <typename H>
  friend H AbslHashValue(H h, const GroupShape& s) {
    return H::combine(std::move(h), s.bundles, s.strategy, s.after, s.advance_on);
  }
};

// A request that is placed in what a placement group has reserved.
struct InsideGroup {
  RequestId group{};
  int bundle = -1;  // -1: any.

  friend bool operator==(InsideGroup a, InsideGroup b) {
    return a.group == b.group && a.bundle == b.bundle;
  }
  template <typename H>
  friend H AbslHashValue(H h, InsideGroup i) {
    return H::combine(std::move(h), i.group, i.bundle);
  }
};

// The node that a request wants, by name. Hard: that node or none. Soft: there, by any open choice,
// where it has room now, else elsewhere.
struct NodeAffinity {
  std::string node{};  // Empty: any node will do.
  bool soft = false;

  bool hard() const { return !node.empty() && !soft; }
  friend bool operator==(const NodeAffinity& a, const NodeAffinity& b) {
    return a.node == b.node && a.soft == b.soft;
  }
  template <typename H>
  friend H AbslHashValue(H h, const NodeAffinity& a) {
    return H::combine(std::move(h), a.node, a.soft);
  }
};

// Long-lived work may go back to an earlier choice: once it has run for `after` by a later one, and
// an earlier one has room for all its bundles that nobody who waits could use, it is told to leave
// (LeavingReason::kReturnToPreferred), and that room is kept for what is asked for instead of it
// (Requested::instead_of). Its owner asks with one move less.
struct ReturnToPreferred {
  int moves = 0;                             // It may still make; 0: it stays where it is.
  absl::Duration after = absl::Minutes(10);  // Since it was granted.
  absl::Duration grace = absl::Minutes(5);   // From the Notice to its end; infinite: without one.

  friend bool operator==(const ReturnToPreferred& a, const ReturnToPreferred& b) {
    return a.moves == b.moves && a.after == b.after && a.grace == b.grace;
  }
  template <typename H>
  friend H AbslHashValue(H h, const ReturnToPreferred& r) {
    return H::combine(std::move(h), r.moves, r.after, r.grace);
  }
};

// Equal specs form one scheduling class, name and owner included.
struct RequestSpec {
  std::vector<Choice> choices{};  // At least one.
  int bundles = 1;                // Equal bundles, each with these choices, placed all or none.
  // How the equal bundles lie to each other. Empty: anywhere, as single requests would.
  Strategy strategy{};
  // A placement group: its shapes, in order of preference. Made by GroupSpec(), which makes the
  // choices too: choice i is the sum of shape i, and `bundles` is 1.
  std::vector<GroupShape> shapes{};
  std::optional<InsideGroup> inside{};
  int priority = 0;  // Higher comes first.
  bool fail_if_infeasible = false;
  std::optional<PlacementPolicy> placement{};  // Empty: the cluster's.
  NodeAffinity affinity{};
  // Nodes, by name and in order, that failed this work: others are tried first, by all open
  // choices; see SchedulerConfig::avoid_for.
  std::vector<std::string> avoid{};
  // --- Between jobs; see sharing.h ---
  std::string tenant{};  // Who shares the cluster: a team, a user. Empty: the default tenant.
  std::string job{};     // For quotas.
  // A hint, never a limit: what backfill and start estimates reckon with. Infinite: not known.
  absl::Duration expected_duration = absl::InfiniteDuration();
  bool preemptible = true;  // Its leases may be taken for work of higher priority, or recalled.
  ReturnToPreferred return_to_preferred{};
  // Part of the class, not of the decision: "Score", and which application and environment.
  std::string name{};
  std::string owner{};

  friend bool operator==(const RequestSpec& a, const RequestSpec& b) {
    const auto tied = [](const RequestSpec& s) {
      return std::tie(s.bundles, s.priority, s.fail_if_infeasible, s.affinity, s.avoid, s.name,
                      s.owner, s.choices, s.strategy, s.shapes, s.inside, s.tenant, s.job,
                      s.expected_duration, s.preemptible, s.placement, s.return_to_preferred);
    };
    return tied(a) == tied(b);
  }
  template <typename H>
  friend H AbslHashValue(H h, const RequestSpec& s) {
    return H::combine(std::move(h), s.bundles, s.priority, s.fail_if_infeasible, s.affinity,
                      s.avoid, s.name, s.owner, s.choices, s.strategy, s.shapes,
                      s.inside.has_value(), s.inside.value_or(InsideGroup{}), s.tenant, s.job,
                      s.expected_duration, s.preemptible, s.placement.has_value(),
                      s.placement.value_or(PlacementPolicy::kPack), s.return_to_preferred);
  }
  bool is_group() const { return !shapes.empty(); }  // A placement group.
};

// The spec of a placement group; name, owner, priority and the like are the caller's to set.
RequestSpec GroupSpec(std::vector<GroupShape> shapes);

inline constexpr int kChoicesMax = 64;
inline constexpr int kBundlesMax = 100'000;
inline constexpr int kGroupBundlesMax = 10'000;  // Of one shape of a placement group.
inline constexpr int kAvoidedNodesMax = 8;
inline constexpr int kMovesMax = 1000;      // Of ReturnToPreferred.
inline constexpr int kTenantNameMax = 128;  // Bytes, of a tenant, a job and a quota.

// What the scheduler relies on: at least one choice, bounds, resources in order, no negative
// `after` (and the primary's `after` is 0), a positive expected duration, moves and names in
// bounds. Errors: kInvalidArgument naming the choice.
absl::Status Validate(const RequestSpec& spec);

// The name of a tenant, job or quota, as `what`: printable ASCII without blanks, commas, colons or
// "=", so that flags and tables can hold it. Empty is allowed.
absl::Status ValidateTenantName(absl::string_view what, absl::string_view name);

}  // namespace muster::sched
