#include "scheduler/timeline.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "scheduler/placement_constraints.h"

namespace muster::sched {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

int64_t NanosOf(absl::Time time) {
  return time == absl::InfiniteFuture() ? kNever : absl::ToUnixNanos(time);
}

int64_t NanosOf(absl::Duration duration) {
  return duration == absl::InfiniteDuration() ? kNever : absl::ToInt64Nanoseconds(duration);
}

int64_t After(int64_t at, int64_t duration) {
  return duration >= kNever - at ? kNever : at + duration;
}

}  // namespace

Timeline::Timeline(const std::vector<Node*>& nodes, absl::Time now) : now_(NanosOf(now)) {
  for (const Node* node : nodes) {
    for (const auto& [name, amount] : node->total.custom) {
      custom_.emplace(name, kFixed + custom_.size());
    }
  }
  lines_.reserve(nodes.size());
  for (Node* node : nodes) {
    if (!node->usable()) continue;
    Amounts free(kFixed + custom_.size());
    free[0] = node->free.cpus();
    free[1] = node->free.devices().free();
    free[2] = node->free.memory_bytes();
    for (const auto& [name, index] : custom_) free[index] = node->free.custom(name);
    line_of_.emplace(node->id, lines_.size());
    lines_.push_back({.node = node, .steps = {{.at = now_, .free = std::move(free)}}});
  }
}

void Timeline::AddEnd(NodeId node, const Resources& held, absl::Time at) {
  const auto found = line_of_.find(node);
  if (found == line_of_.end()) return;
  lines_[found->second].ends.emplace_back(std::max(NanosOf(at), now_), AmountsOf(held));
}

void Timeline::Ready() {
  for (Line& line : lines_) {
    std::stable_sort(line.ends.begin(), line.ends.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [at, back] : line.ends) {
      if (at == kNever) break;
      if (line.steps.back().at != at) {
        Step next{.at = at, .free = line.steps.back().free};
        line.steps.push_back(std::move(next));
      }
      for (size_t i = 0; i < back.size(); ++i) line.steps.back().free[i] += back[i];
    }
    line.ends.clear();
  }
}

Timeline::Amounts Timeline::AmountsOf(const Resources& resources) const {
  Amounts amounts(kFixed + custom_.size());
  amounts[0] = resources.cpus;
  amounts[1] = resources.gpus;
  amounts[2] = resources.memory_bytes;
  for (const auto& [name, amount] : resources.custom) {
    const auto index = custom_.find(name);
    if (index == custom_.end()) {
      amounts[0] = kNever;  // No node has any: it fits nowhere.
    } else {
      amounts[index->second] = amount;
    }
  }
  return amounts;
}

const Timeline::Line* Timeline::Find(NodeId node) const {
  const auto found = line_of_.find(node);
  return found == line_of_.end() ? nullptr : &lines_[found->second];
}

size_t Timeline::StepAt(const Line& line, int64_t at) {
  const auto next = std::upper_bound(line.steps.begin(), line.steps.end(), at,
                                     [](int64_t time, const Step& step) { return time < step.at; });
  return static_cast<size_t>(next - line.steps.begin()) - 1;
}

size_t Timeline::Split(Line& line, int64_t at) {
  const size_t i = StepAt(line, at);
  if (line.steps[i].at == at) return i;
  Step step{.at = at, .free = line.steps[i].free};
  line.steps.insert(line.steps.begin() + static_cast<int64_t>(i) + 1, std::move(step));
  return i + 1;
}

int64_t Timeline::Count(const Amounts& free, const Amounts& needs) {
  int64_t count = kNever;
  for (size_t i = 0; i < needs.size(); ++i) {
    if (needs[i] > 0) count = std::min(count, std::max(free[i], int64_t{0}) / needs[i]);
  }
  return count;
}

int64_t Timeline::CountOver(const Line& line, const Amounts& needs, int64_t from, int64_t until) {
  int64_t count = kNever;
  for (size_t i = StepAt(line, from); i < line.steps.size() && count > 0; ++i) {
    if (line.steps[i].at >= until && line.steps[i].at > from) break;
    count = std::min(count, Count(line.steps[i].free, needs));
  }
  return count;
}

std::optional<int64_t> Timeline::EarliestOn(const Line& line, const Amounts& needs,
                                            int64_t duration) {
  std::optional<int64_t> start;
  for (const Step& step : line.steps) {
    if (start && step.at >= After(*start, duration)) break;
    if (Count(step.free, needs) == 0) {
      start.reset();
    } else if (!start) {
      start = step.at;
    }
  }
  return start;
}

std::optional<Timeline::Start> Timeline::StartAt(const SchedulingClass& of, int choice, int64_t at,
                                                 int64_t duration) const {
  const Amounts needs = AmountsOf(of.spec.choices[choice].resources);
  struct Found {
    int64_t free_gpus = 0;
    const Line* line = nullptr;
    int64_t count = 0;
  };
  std::vector<Found> found;
  for (const Line& line : lines_) {
    if (!line.node->usable() || !Takes(of, choice, *line.node)) continue;
    const int64_t count = CountOver(line, needs, at, After(at, duration));
    if (count == 0) continue;
    found.push_back({line.steps[StepAt(line, at)].free[1], &line, count});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Found& a, const Found& b) { return a.free_gpus < b.free_gpus; });
  Start start{.at = absl::FromUnixNanos(at), .choice = choice};
  int64_t missing = of.spec.bundles;
  for (const Found& one : found) {
    const int64_t here = std::min(one.count, missing);
    start.nodes.emplace_back(one.line->node, here);
    missing -= here;
    if (missing == 0) return start;
  }
  return std::nullopt;
}

std::optional<Timeline::Start> Timeline::EarliestFor(const SchedulingClass& of, int choice,
                                                     int64_t duration) const {
  const Amounts needs = AmountsOf(of.spec.choices[choice].resources);
  if (of.spec.bundles == 1) {
    std::optional<int64_t> best;
    for (const Line& line : lines_) {
      if (!line.node->usable() || !Takes(of, choice, *line.node)) {
        continue;
      }
      const std::optional<int64_t> start = EarliestOn(line, needs, duration);
      if (start && (!best || *start < *best)) best = start;
    }
    if (!best) return std::nullopt;
    return StartAt(of, choice, *best, duration);
  }
  std::vector<int64_t> times;
  for (const Line& line : lines_) {
    if (!Takes(of, choice, *line.node)) continue;
    for (const Step& step : line.steps) times.push_back(step.at);
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  for (const int64_t at : times) {
    std::optional<Start> start = StartAt(of, choice, at, duration);
    if (start) return start;
  }
  return std::nullopt;
}

std::optional<Timeline::Start> Timeline::EarliestStart(const SchedulingClass& of, int open,
                                                       absl::Duration duration) const {
  std::optional<Start> best;
  for (int choice = 0; choice < open; ++choice) {
    std::optional<Start> start = EarliestFor(of, choice, NanosOf(duration));
    if (start && (!best || start->at < best->at)) best = std::move(start);
  }
  return best;
}

std::optional<Timeline::Start> Timeline::StartNow(const SchedulingClass& of, int choice,
                                                  absl::Duration duration) const {
  return StartAt(of, choice, now_, NanosOf(duration));
}

int64_t Timeline::RoomNow(const Node& node, const Resources& needs, absl::Duration duration) const {
  const Line* const line = Find(node.id);
  if (line == nullptr) return 0;
  return CountOver(*line, AmountsOf(needs), now_, After(now_, NanosOf(duration)));
}

Timeline::Amounts Timeline::Least(const Line& line, int64_t from, int64_t until) {
  Amounts least = line.steps[StepAt(line, from)].free;
  for (size_t i = StepAt(line, from) + 1; i < line.steps.size(); ++i) {
    if (line.steps[i].at >= until) break;
    for (size_t j = 0; j < least.size(); ++j) {
      least[j] = std::min(least[j], line.steps[i].free[j]);
    }
  }
  return least;
}

std::optional<Capacity> Timeline::Only(const Amounts& least, const Capacity& base) const {
  const auto taken = [&](size_t index, int64_t has) {
    return std::max(has, int64_t{0}) -
           std::clamp(least[index], int64_t{0}, std::max(has, int64_t{0}));
  };
  Capacity capacity = base;
  Resources take{.cpus = taken(0, base.cpus()), .memory_bytes = taken(2, base.memory_bytes())};
  for (const auto& [name, index] : custom_) {
    const int64_t amount = taken(index, base.custom(name));
    if (amount > 0) take.custom.emplace(name, amount);
  }
  capacity.Take(take);
  int64_t gpus = taken(1, base.devices().free());
  const int64_t whole = std::min(gpus / Amount::kUnit, int64_t{capacity.devices().empty_devices()});
  if (whole > 0) capacity.Take({.gpus = whole * Amount::kUnit});
  gpus -= whole * Amount::kUnit;
  while (gpus > 0) {  // Shares, of whichever devices have some.
    int64_t share = std::min(gpus, Amount::kUnit - 1);
    while (share > 0 && !capacity.Fits({.gpus = share})) share /= 2;
    if (share == 0) return std::nullopt;
    capacity.Take({.gpus = share});
    gpus -= share;
  }
  return capacity;
}

bool Timeline::FindAt(int64_t at, int64_t duration, const Resources& least, Finder find) const {
  std::vector<Amounts> amounts;
  amounts.reserve(lines_.size());
  std::array<int64_t, kFixed> sums{};
  for (const Line& line : lines_) {
    amounts.push_back(Least(line, at, After(at, duration)));
    for (size_t i = 0; i < kFixed; ++i) sums[i] += std::max(amounts.back()[i], int64_t{0});
  }
  if (sums[0] < least.cpus || sums[1] < least.gpus || sums[2] < least.memory_bytes) return false;
  ++searches_;
  std::vector<std::optional<Capacity>> free;
  free.reserve(lines_.size());
  for (size_t i = 0; i < lines_.size(); ++i) {
    const Node& node = *lines_[i].node;
    free.push_back(Only(amounts[i], at == now_ ? node.free : node.empty()));
  }
  return find([&](const Node& node) -> const Capacity* {
    const auto line = line_of_.find(node.id);
    if (line == line_of_.end() || !node.usable() || !free[line->second]) return nullptr;
    return &*free[line->second];
  });
}

bool Timeline::GroupNow(absl::Duration duration, const Resources& least, Finder find) const {
  return FindAt(now_, NanosOf(duration), least, find);
}

std::optional<absl::Time> Timeline::EarliestGroup(absl::Duration duration, const Resources& least,
                                                  Finder find) const {
  std::vector<int64_t> times;
  for (const Line& line : lines_) {
    for (const Step& step : line.steps) times.push_back(step.at);
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  if (times.size() > kGroupTimesMax) {
    times[kGroupTimesMax - 1] = times.back();
    times.resize(kGroupTimesMax);
  }
  for (const int64_t at : times) {
    if (FindAt(at, NanosOf(duration), least, find)) return absl::FromUnixNanos(at);
  }
  return std::nullopt;
}

void Timeline::Reserve(const Resources& needs, const Start& start, absl::Duration duration) {
  for (const auto& [node, count] : start.nodes) {
    for (int64_t i = 0; i < count; ++i) Take(node->id, needs, start.at, duration);
  }
}

void Timeline::Take(NodeId node, const Resources& needs, absl::Time from, absl::Duration duration) {
  const auto found = line_of_.find(node);
  if (found == line_of_.end()) return;
  Line& line = lines_[found->second];
  const int64_t begin = std::max(NanosOf(from), now_);
  const int64_t end = After(begin, NanosOf(duration));
  const size_t first = Split(line, begin);
  const size_t last = end == kNever ? line.steps.size() : Split(line, end);
  const Amounts amounts = AmountsOf(needs);
  for (size_t i = first; i < last; ++i) {
    for (size_t j = 0; j < amounts.size(); ++j) line.steps[i].free[j] -= amounts[j];
  }
}

}  // namespace muster::sched
