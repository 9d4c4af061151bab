// A request says what it needs as an ordered list of choices; choice 0 is the primary, the rest is the
// fallback strategy.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/label_selector.h"
#include "scheduler/resources.h"

namespace muster {

// Findings about all open choices that open the next one before its `after` is over. Bits of advance_on.
enum class Finding : uint8_t { kInfeasible = 1, kStockout = 2, kQuota = 4, kBusy = 8 };
inline constexpr uint8_t kDefaultAdvanceOn = 1 | 2 | 4;

struct Choice {
  LabelSelector selector;
  Resources resources;  // Always filled in: the primary's where the choice has no shape of its own.
  absl::Duration after = absl::ZeroDuration();  // Since the choice before this one opened.
  uint8_t advance_on = kDefaultAdvanceOn;
};

// Equal specs form one scheduling class, whatever name and owner say.
struct RequestSpec {
  std::vector<Choice> choices;  // At least one.
  int bundles = 1;              // Equal bundles, each with these choices, placed all or none.
  int priority = 0;             // Higher comes first.
  bool fail_if_infeasible = false;
  // Part of the class, not of the decision: "Score", and which application and environment.
  std::string name;
  std::string owner;
};

}  // namespace muster
