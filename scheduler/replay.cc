#include "scheduler/replay.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace muster::sched {
namespace {

constexpr int kSamples = 2000;  // Of utilisation, over the whole time.
// A timer that the recorded head would have served by itself: its ticks are in the recording.
constexpr absl::Duration kTickPatience = absl::Seconds(1);
constexpr absl::Duration kKillTakes = absl::Seconds(1);
constexpr absl::Duration kLeavingTakes = absl::Seconds(10);
constexpr size_t kNotRecorded = std::numeric_limits<size_t>::max();  // Comes last at its time.

using LeaseKey = std::pair<RequestId, int>;

// How a lease went on after it was granted.
struct Course {
  struct Turn {
    absl::Duration after{};
    size_t number = 0;  // Of the recorded event: its place among those of one time.
    decltype(Event::what) what{};
  };
  std::vector<Turn> turns{};  // Blocked, unblocked, finished or cancelled.
  std::optional<absl::Duration> lasted{};
};

struct Courses {
  absl::btree_map<LeaseKey, Course> leases{};
  absl::btree_map<RequestId, SpecHandle> specs{};
  absl::btree_set<size_t> inner{};  // The events that are turns of a course.
  absl::flat_hash_map<SpecHandle, absl::Duration> usual{};  // Looked up only.
};

class Meter {
 public:
  Meter(absl::Time begin, absl::Time end) : step_((end - begin) / kSamples), next_(begin + step_) {}

  // Before an event at `at`: what was true until then.
  void Until(absl::Time at, const Scheduler& scheduler) {
    if (step_ <= absl::ZeroDuration() || next_ > at) return;
    double used_gpus = 0, gpus = 0, used_cpus = 0, cpus = 0;
    for (const NodeView& node : scheduler.Nodes()) {
      if (node.state == NodeState::kLost) continue;
      used_gpus += static_cast<double>(node.used.gpus);
      gpus += static_cast<double>(node.total.gpu_devices) * Amount::kUnit;
      used_cpus += static_cast<double>(node.used.cpus);
      cpus += static_cast<double>(node.total.cpus);
    }
    for (; next_ <= at; next_ += step_) {
      used_gpus_ += used_gpus;
      gpus_ += gpus;
      used_cpus_ += used_cpus;
      cpus_ += cpus;
    }
  }
  double gpu_utilisation() const { return gpus_ == 0 ? 0 : used_gpus_ / gpus_; }
  double cpu_utilisation() const { return cpus_ == 0 ? 0 : used_cpus_ / cpus_; }

 private:
  const absl::Duration step_;
  absl::Time next_;
  double used_gpus_ = 0, gpus_ = 0, used_cpus_ = 0, cpus_ = 0;
};

// A scheduler with its measurements; both kinds of replay drive one.
class Stage {
 public:
  static absl::StatusOr<std::unique_ptr<Stage>> Make(const Recording& recording,
                                                     const SchedulerConfig& config) {
    Snapshot start = recording.start;
    start.config = config;
    const absl::Time end =
        recording.events.empty() ? start.now : std::max(start.now, recording.events.back().at);
    absl::Time begin = start.now;
    if (!recording.events.empty()) begin = std::max(begin, recording.events.front().at);
    std::unique_ptr<Stage> stage(new Stage(begin, end));
    MUSTER_ASSIGN_OR_RETURN(stage->scheduler_, Scheduler::Load(start, stage->actions_));
    stage->now_ = start.now;
    stage->result_.lasted = end - begin;
    for (const SnapshotRequest& request : start.requests) {
      stage->known_.insert(request.request);
      if (request.granted()) continue;
      ++stage->result_.requests;
      stage->waiting_.emplace(request.request, request.since);
    }
    stage->Count();
    return stage;
  }

  // Steps, and returns what the scheduler did.
  const std::vector<Action>& Step(absl::Time at, const decltype(Event::what)& what) {
    now_ = std::max(now_, at);
    meter_.Until(now_, *scheduler_);
    if (const auto* requested = std::get_if<Requested>(&what)) {
      if (known_.insert(requested->request).second) {
        ++result_.requests;
        waiting_.emplace(requested->request, now_);
      }
    } else if (const auto* cancelled = std::get_if<RequestCancelled>(&what)) {
      if (waiting_.erase(cancelled->request) > 0) ++result_.gave_up;
    }
    actions_.clear();
    scheduler_->Step({.at = now_, .what = what}, actions_);
    Count();
    return actions_;
  }

  ReplayResult Result(absl::Time end) {
    meter_.Until(end, *scheduler_);
    result_.waiting = static_cast<int64_t>(waiting_.size());
    result_.gpu_utilisation = meter_.gpu_utilisation();
    result_.cpu_utilisation = meter_.cpu_utilisation();
    std::sort(result_.delays.begin(), result_.delays.end());
    return std::move(result_);
  }

  const Scheduler& scheduler() const { return *scheduler_; }
  absl::Time now() const { return now_; }
  const std::vector<Action>& at_start() const { return actions_; }  // Before the first Step().

 private:
  Stage(absl::Time begin, absl::Time end) : meter_(begin, end) {}

  void Count() {
    for (const Action& action : actions_) {
      if (const auto* grant = std::get_if<Grant>(&action)) {
        const auto waited = waiting_.find(grant->request);
        if (waited == waiting_.end()) continue;  // Said again, or taken back by its owner.
        ++result_.granted;
        ReplayGrant& granted = result_.grants[grant->request];
        granted.at = now_;
        granted.waited = now_ - waited->second;
        granted.placements.assign(grant->placements.begin(), grant->placements.end());
        result_.delays.push_back(granted.waited);
        const size_t choice = static_cast<size_t>(granted.placements[0].choice);
        if (result_.by_choice.size() <= choice) result_.by_choice.resize(choice + 1);
        ++result_.by_choice[choice];
        waiting_.erase(waited);
      } else if (const auto* infeasible = std::get_if<Infeasible>(&action)) {
        if (infeasible->failed && waiting_.erase(infeasible->request) > 0) ++result_.refused;
      } else if (const auto* rejected = std::get_if<Rejected>(&action)) {
        if (waiting_.erase(rejected->request) > 0) ++result_.refused;
      } else if (std::holds_alternative<Revoke>(action)) {
        ++result_.revoked;
      } else if (std::holds_alternative<LeaseLost>(action)) {
        ++result_.lost;
      }
    }
  }

  std::unique_ptr<Scheduler> scheduler_;
  absl::Time now_{};
  Meter meter_;
  std::vector<Action> actions_;
  absl::btree_set<RequestId> known_;
  absl::btree_map<RequestId, absl::Time> waiting_;
  ReplayResult result_;
};

absl::Time EndOf(const Recording& recording) {
  return recording.events.empty() ? recording.start.now
                                  : std::max(recording.start.now, recording.events.back().at);
}

// Plays the recording as it was, and notes the course of each lease.
class Recorded {
 public:
  explicit Recorded(const Recording& recording) : recording_(recording) {}

  absl::StatusOr<ReplayResult> Run() {
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Stage> stage,
                            Stage::Make(recording_, recording_.start.config));
    absl::btree_map<uint64_t, SpecHandle> specs;
    for (const SnapshotClass& of : recording_.start.classes) specs.emplace(of.id, of.spec);
    for (const SnapshotRequest& request : recording_.start.requests) {
      const auto spec = specs.find(request.of);
      if (spec != specs.end()) courses_.specs.emplace(request.request, spec->second);
    }
    Note(stage->at_start(), stage->now());
    for (size_t i = 0; i < recording_.events.size(); ++i) {
      const Event& event = recording_.events[i];
      if (const auto* requested = std::get_if<Requested>(&event.what)) {
        courses_.specs.emplace(requested->request, requested->spec);
      }
      const absl::Time at = std::max(event.at, stage->now());
      NoteTurn(i, at, event.what);
      Note(stage->Step(event.at, event.what), at);
    }
    FindUsual();
    return stage->Result(EndOf(recording_));
  }

  Courses& courses() { return courses_; }

 private:
  void Note(const std::vector<Action>& actions, absl::Time at) {
    for (const Action& action : actions) {
      if (const auto* grant = std::get_if<Grant>(&action)) {
        for (size_t i = 0; i < grant->placements.size(); ++i) {
          const LeaseKey key = {grant->request, static_cast<int>(i)};
          if (began_.emplace(key, at).second) courses_.leases[key];
        }
      } else if (const auto* lost = std::get_if<LeaseLost>(&action)) {
        Cut({lost->request, lost->bundle}, at);
      }
    }
  }

  // Lost: it lasted until then.
  void Cut(LeaseKey key, absl::Time at) {
    const auto began = began_.find(key);
    if (began == began_.end()) return;
    Course& course = courses_.leases.at(key);
    if (course.lasted) return;
    course.lasted = at - began->second;
    course.turns.push_back({.after = *course.lasted,
                            .number = kNotRecorded,
                            .what = LeaseFinished{.request = key.first, .bundle = key.second}});
  }

  void NoteTurn(size_t number, absl::Time at, const decltype(Event::what)& what) {
    const auto turn = [&](LeaseKey key, bool ends) {
      const auto began = began_.find(key);
      if (began == began_.end()) return;  // Granted before the recording: it ends as it did.
      Course& course = courses_.leases.at(key);
      course.turns.push_back({.after = at - began->second, .number = number, .what = what});
      if (ends && !course.lasted) course.lasted = at - began->second;
      courses_.inner.insert(number);
    };
    if (const auto* finished = std::get_if<LeaseFinished>(&what)) {
      turn({finished->request, finished->bundle}, true);
    } else if (const auto* blocked = std::get_if<LeaseBlocked>(&what)) {
      turn({blocked->request, blocked->bundle}, false);
    } else if (const auto* cancelled = std::get_if<RequestCancelled>(&what)) {
      turn({cancelled->request, 0}, true);  // Of all its bundles.
    }
  }

  void FindUsual() {
    absl::flat_hash_map<SpecHandle, std::vector<absl::Duration>> lengths;
    std::vector<SpecHandle> order;
    for (const auto& [key, course] : courses_.leases) {
      const auto spec = courses_.specs.find(key.first);
      if (!course.lasted || spec == courses_.specs.end()) continue;
      std::vector<absl::Duration>& known = lengths[spec->second];
      if (known.empty()) order.push_back(spec->second);
      known.push_back(*course.lasted);
    }
    for (const SpecHandle& spec : order) {
      std::vector<absl::Duration>& known = lengths[spec];
      const auto middle = known.begin() + static_cast<int64_t>((known.size() - 1) / 2);
      std::nth_element(known.begin(), middle, known.end());
      courses_.usual.emplace(spec, *middle);
    }
  }

  const Recording& recording_;
  Courses courses_;
  absl::btree_map<LeaseKey, absl::Time> began_;
};

// Plays it under another configuration.
class Played {
 public:
  Played(const Recording& recording, const Courses& courses)
      : recording_(recording), courses_(courses) {}

  absl::StatusOr<ReplayResult> Run(const SchedulerConfig& config) {
    MUSTER_ASSIGN_OR_RETURN(stage_, Stage::Make(recording_, config));
    for (size_t i = 0; i < recording_.events.size(); ++i) {
      if (courses_.inner.contains(i)) continue;
      queue_.emplace(std::tuple(recording_.events[i].at, i, uint64_t{0}),
                     recording_.events[i].what);
    }
    const absl::Time end = EndOf(recording_);
    Take(std::vector<Action>(stage_->at_start()));
    while (true) {
      const absl::Time next =
          queue_.empty() ? absl::InfiniteFuture() : std::get<0>(queue_.begin()->first);
      const absl::Time tick = stage_->scheduler().NextTick();
      if (std::min(next, tick) > end) break;
      // Later than this the recorded head's own tick would have come.
      if (tick + kTickPatience < next) {
        Step(tick, Tick{});
        continue;
      }
      if (next > end) break;
      const decltype(Event::what) what = std::move(queue_.begin()->second);
      queue_.erase(queue_.begin());
      Step(next, what);
    }
    return stage_->Result(end);
  }

 private:
  void Step(absl::Time at, const decltype(Event::what)& what) {
    Take(std::vector<Action>(stage_->Step(at, what)));
  }

  void Take(const std::vector<Action>& actions) {
    for (const Action& action : actions) {
      if (const auto* grant = std::get_if<Grant>(&action)) {
        for (size_t i = 0; i < grant->placements.size(); ++i) {
          Plan({grant->request, static_cast<int>(i)});
        }
      } else if (const auto* revoke = std::get_if<Revoke>(&action)) {
        OnRevoke({revoke->request, revoke->bundle});
      }
    }
  }

  void Push(absl::Time at, size_t number, decltype(Event::what) what) {
    queue_.emplace(std::tuple(at, number, ++pushed_), std::move(what));
  }

  void Plan(LeaseKey key) {
    if (!planned_.insert(key).second) return;  // Said again.
    const absl::Time now = stage_->now();
    const auto course = courses_.leases.find(key);
    if (course != courses_.leases.end()) {
      for (const Course::Turn& turn : course->second.turns) {
        Push(now + turn.after, turn.number, turn.what);
      }
      return;
    }
    const auto spec = courses_.specs.find(key.first);
    if (spec == courses_.specs.end()) return;
    absl::Duration lasts = spec->second->expected_duration;
    if (lasts == absl::InfiniteDuration()) {
      const auto usual = courses_.usual.find(spec->second);
      if (usual == courses_.usual.end()) return;
      lasts = usual->second;
    }
    Push(now + lasts, kNotRecorded, LeaseFinished{.request = key.first, .bundle = key.second});
  }

  // It would be killed: where it ends soon by itself, as recorded, that is how it ended there.
  void OnRevoke(LeaseKey key) {
    const absl::Time now = stage_->now();
    const auto course = courses_.leases.find(key);
    if (course != courses_.leases.end() && course->second.lasted) {
      for (const auto& [when, what] : queue_) {
        if (std::get<0>(when) > now + kLeavingTakes) break;
        const auto* finished = std::get_if<LeaseFinished>(&what);
        if (finished == nullptr || finished->request != key.first) continue;
        if (finished->bundle == key.second) return;
      }
    }
    Push(now + kKillTakes, kNotRecorded, LeaseFinished{.request = key.first, .bundle = key.second});
  }

  const Recording& recording_;
  const Courses& courses_;
  std::unique_ptr<Stage> stage_;
  absl::btree_map<std::tuple<absl::Time, size_t, uint64_t>, decltype(Event::what)> queue_;
  absl::btree_set<LeaseKey> planned_;
  uint64_t pushed_ = 0;
};

}  // namespace

std::optional<absl::Duration> ReplayResult::Delay(double percent) const {
  if (delays.empty()) return std::nullopt;
  const double at = percent / 100.0 * static_cast<double>(delays.size());
  const size_t index = static_cast<size_t>(std::max(at, 1.0) + 0.999999) - 1;
  return delays[std::min(index, delays.size() - 1)];
}

absl::StatusOr<ReplayResult> ReplayAsRecorded(const Recording& recording) {
  return Recorded(recording).Run();
}

absl::StatusOr<ReplayResult> ReplayUnder(const Recording& recording,
                                         const SchedulerConfig& config) {
  Recorded recorded(recording);
  MUSTER_RETURN_IF_ERROR(recorded.Run().status());
  return Played(recording, recorded.courses()).Run(config);
}

ReplayMoves CompareGrants(const ReplayResult& first, const ReplayResult& second) {
  ReplayMoves moves;
  for (const auto& [request, grant] : first.grants) {
    const auto other = second.grants.find(request);
    if (other == second.grants.end()) {
      ++moves.only_first;
      continue;
    }
    ++moves.both;
    const auto same = [](const Placement& a, const Placement& b) {
      return a.node == b.node && a.choice == b.choice;
    };
    if (!std::equal(grant.placements.begin(), grant.placements.end(),
                    other->second.placements.begin(), other->second.placements.end(), same)) {
      ++moves.elsewhere;
    }
    if (other->second.at < grant.at) ++moves.earlier;
    if (other->second.at > grant.at) ++moves.later;
  }
  moves.only_second = static_cast<int64_t>(second.grants.size()) - moves.both;
  return moves;
}

}  // namespace muster::sched
