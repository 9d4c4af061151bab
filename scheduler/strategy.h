// How the bundles of a request lie to each other. A strategy is a list of levels, tried in order:
// "as near as the NVLink domain, else the rack, else anywhere" is [same(ray.io/gpu-domain),
// same(rack), pack].
//
// A level is written as one of these, in any case:
//   pack            on as few nodes as possible
//   spread          on as many nodes as possible
//   strict_pack     all on one node
//   strict_spread   each on a node of its own
//   same(label)     all in one domain, i.e. on nodes with one value of the label
//   spread(label)   each in a domain of its own
// "same(label)+" may stand before any but same(label): all in one domain, and in it as said.
// pack and spread are wishes that every placement satisfies; the others are conditions.
//
// Errors: kInvalidArgument, naming the level and what is allowed.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::sched {

struct Level {
  enum class Within : uint8_t { kPack, kSpread, kStrictPack, kStrictSpread, kSpreadLabel };
  std::string same{};  // The label of whose domains one holds all; empty: none need.
  Within within = Within::kPack;
  std::string spread{};  // The label of kSpreadLabel; empty otherwise.

  friend bool operator==(const Level& a, const Level& b) {
    return std::tie(a.same, a.within, a.spread) == std::tie(b.same, b.within, b.spread);
  }
  template <typename H>
  friend H AbslHashValue(H h, const Level& level) {
    return H::combine(std::move(h), level.same, level.within, level.spread);
  }
};
using Strategy = std::vector<Level>;

inline constexpr int kLevelsMax = 8;

absl::StatusOr<Level> ParseLevel(absl::string_view text);
std::string ToText(const Level& level);        // "same(rack)+strict_spread": what ParseLevel reads.
std::string ToText(const Strategy& strategy);  // "same(rack) > pack"
absl::Status Validate(const Strategy& strategy);

}  // namespace muster::sched
