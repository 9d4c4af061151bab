// A PlacementGroup reserves resources on several nodes at once, all or nothing:
//
//   const muster::PlacementGroup group({.bundles = {{.resources = {.gpus = 8}, .count = 4}},
//                                       .strategy = {"same(rack)", "pack"}});
//   if (absl::Status ready = group.Ready(absl::Minutes(10)); !ready.ok()) { ... }
//   auto ref = muster::Task<Train>({.resources = {.gpus = 8}, .placement_group = group,
//                                   .bundle_index = 2}).Remote();
//   ...
//   group.Remove();
//
// Nothing runs by a group itself; tasks and Group<>s name it in their options. Where a node is
// lost, its bundles are placed anew, beside the others within the strategy, or else all of them;
// what ran in them is retried as after any loss of a node. A group ends with Remove() or with its
// driver.
//
// A strategy is a list of levels, tried in order; what one says (in any case):
//   PACK, SPREAD                  on as few, or as many, nodes as there is room for
//   STRICT_PACK, STRICT_SPREAD    all on one node; each on a node of its own
//   same(label)                   all on nodes with one value of the label: same(rack)
//   spread(label)                 each on nodes with another value of it: spread(zone)
//   same(label)+LEVEL             both: same(zone)+spread(rack)
//
// Errors: the constructor never fails; what is wrong is what Ready() says (kInvalidArgument).
// Thread-safety: any thread; tasks may make groups, too.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/options.h"

namespace muster {

struct Bundle {
  Resources resources = {};
  LabelSelector label_selector = {};
  std::vector<Choice> fallback_strategy = {};  // All open at once: no `after`; see GroupShape.
  int count = 1;                               // So many equal ones.
};

// Another way to have the whole group, tried where those before it have no room.
struct GroupShape {
  absl::Duration after = absl::ZeroDuration();
  std::vector<Bundle> bundles = {};
  std::vector<std::string> strategy = {};
  AdvanceOn advance_on = {};
};

struct PlacementGroupOptions {
  std::vector<Bundle> bundles = {};
  std::vector<std::string> strategy = {};  // Empty: PACK.
  std::vector<GroupShape> fallback_strategy = {};
  std::string name = {};  // For people.
  OnInfeasible on_infeasible = OnInfeasible::kWait;
  int priority = 0;  // Higher comes first.
};

struct BundlePlace {
  std::string node = {};  // Empty while it is placed anew.
  std::map<std::string, std::string> labels = {};
};

namespace internal {
std::shared_ptr<PlacementGroupState> CreatePlacementGroup(const PlacementGroupOptions& options);
absl::Status WaitForPlacementGroup(PlacementGroupState& group, absl::Duration timeout);
absl::Status RemovePlacementGroup(PlacementGroupState& group);
std::vector<BundlePlace> BundlesOf(PlacementGroupState& group);
std::string IdOf(PlacementGroupState& group);
}  // namespace internal

inline PlacementGroup::PlacementGroup(const PlacementGroupOptions& options)
    : state_(internal::CreatePlacementGroup(options)) {}

inline absl::Status PlacementGroup::Ready(absl::Duration timeout) const {
  if (state_ == nullptr) return absl::FailedPreconditionError("there is no placement group");
  return internal::WaitForPlacementGroup(*state_, timeout);
}
inline absl::Status PlacementGroup::Remove() const {
  return state_ == nullptr ? absl::OkStatus() : internal::RemovePlacementGroup(*state_);
}
inline std::vector<BundlePlace> PlacementGroup::Bundles() const {
  return state_ == nullptr ? std::vector<BundlePlace>{} : internal::BundlesOf(*state_);
}
inline std::string PlacementGroup::id() const {
  return state_ == nullptr ? "" : internal::IdOf(*state_);
}

}  // namespace muster
