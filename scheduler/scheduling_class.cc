#include "scheduler/scheduling_class.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/node.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/placer.h"
#include "scheduler/selector_index.h"

namespace muster::sched {

SchedulingClass::SchedulingClass(uint64_t id_in, SpecHandle handle_in)
    : id(id_in),
      handle(std::move(handle_in)),
      spec(*handle),
      nodes_for_choice(spec.choices.size()),
      bundles_for_open(spec.choices.size() + 1),
      witnesses(spec.choices.size()),
      feasible_for_open(spec.choices.size() + 1, true),
      segments(spec.choices.size() + 1),
      no_room(spec.choices.size()),
      demand(spec) {
  while (opens_later() && spec.choices[open_at_first_].after == absl::ZeroDuration()) {
    ++open_at_first_;
  }
}

void SchedulingClass::Count(const Node& node, int64_t sign) {
  for (int i = 0; i < choices(); ++i) {
    const bool fits = MayUse(spec, node) && SelectorIndex::Selected(node, selectors[i]) &&
                      node.empty().Fits(spec.choices[i].resources);
    if (fits) nodes_for_choice[i] += sign;
  }
  if (!counted()) return;
  for (int open = 1; open <= choices(); ++open) {
    bundles_for_open[open] += sign * Fill(*this, open, node, node.empty(), spec.bundles).bundles;
  }
}

uint8_t SchedulingClass::Findings(int open) const {
  if (!Feasible(open)) return static_cast<uint8_t>(Finding::kInfeasible);
  uint8_t findings = 0;
  for (int i = 0; i < open; ++i) {
    // Of a placement group's shapes, and inside one, no node is to hold all that the choice says.
    const bool by_node = !spec.is_group() && !spec.inside.has_value();
    const bool by_quota = (quota_closed >> i & 1) != 0;
    findings |= static_cast<uint8_t>(by_node && nodes_for_choice[i] == 0 ? Finding::kInfeasible
                                     : by_quota                          ? Finding::kQuota
                                                                         : Finding::kBusy);
  }
  return findings;
}

Request* SchedulingClass::head() const {
  for (size_t open = segments.size() - 1; open > 0; --open) {
    if (!segments[open].empty()) return segments[open].begin()->second;
  }
  return nullptr;
}

int64_t SchedulingClass::Before(const Request& request) const {
  int64_t before = 0;
  for (size_t open = segments.size() - 1; open > static_cast<size_t>(request.open); --open) {
    before += static_cast<int64_t>(segments[open].size());
  }
  const auto& segment = segments[request.open];
  return before + std::distance(segment.begin(), segment.find(request.arrival));
}

std::vector<Request*> SchedulingClass::Queue() const {
  std::vector<Request*> queue;
  for (size_t open = segments.size() - 1; open > 0; --open) {
    for (const auto& [arrival, request] : segments[open]) queue.push_back(request);
  }
  return queue;
}

Request* SchedulingClass::After(const Request& request) const {
  for (size_t open = static_cast<size_t>(request.open); open > 0; --open) {
    const auto& segment = segments[open];
    const auto next = segment.upper_bound(request.arrival);
    if (next != segment.end()) return next->second;
  }
  return nullptr;
}

void SchedulingClass::Push(Request* request) {
  request->queued = true;
  segments[request->open].emplace(request->arrival, request);
  ++waiting;
}

void SchedulingClass::Erase(Request* request) {
  const size_t erased = segments[request->open].erase(request->arrival);
  MUSTER_CHECK(erased == 1);
  request->queued = false;
  --waiting;
}

bool SchedulingClass::OpenByTime(absl::Time now) {
  bool any = false;
  for (int open = choices() - 1; open > 0; --open) {
    auto& segment = segments[open];
    while (!segment.empty()) {
      Request* const first = segment.begin()->second;
      if (first->opened_at + spec.choices[open].after > now) break;
      segment.erase(segment.begin());
      while (first->open < choices()) {
        const absl::Time due = first->opened_at + spec.choices[first->open].after;
        if (due > now) break;
        first->opened_at = due;
        ++first->open;
      }
      segments[first->open].emplace(first->arrival, first);
      any = true;
    }
  }
  return any;
}

bool SchedulingClass::OpenByFindings(absl::Time now, bool infeasible_counts) {
  bool any = false;
  // The last first: a request gets one more, and is tried with it before it could be called busy.
  for (int open = choices() - 1; open > 0; --open) {
    auto& segment = segments[open];
    if (segment.empty()) continue;
    const uint8_t findings = Findings(open);
    const bool unsure =
        !infeasible_counts && (findings & static_cast<uint8_t>(Finding::kInfeasible)) != 0;
    if (unsure || (findings & ~spec.choices[open].advance_on) != 0) continue;
    for (const auto& [arrival, request] : segment) {
      request->open = open + 1;
      request->opened_at = now;
      segments[open + 1].emplace(arrival, request);
    }
    segment.clear();
    any = true;
  }
  if (any) OpenByTime(now);
  return any;
}

absl::Time SchedulingClass::NextDue() const {
  absl::Time due = absl::InfiniteFuture();
  for (int open = 1; open < choices(); ++open) {
    if (segments[open].empty()) continue;
    due = std::min(due, segments[open].begin()->second->opened_at + spec.choices[open].after);
  }
  return due;
}

}  // namespace muster::sched
