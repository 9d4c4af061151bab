#include "scheduler/forecast.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/check.h"

namespace muster::sched {

std::string ToText(const StartEstimate& estimate, absl::Time now) {
  switch (estimate.when) {
    case StartEstimate::When::kUnknown:
      return absl::StrCat("unknown: ",
                          estimate.unknown == 0 ? "nothing that is expected to happen makes room"
                          : estimate.unknown == 1
                              ? "1 lease without an expected duration holds what it needs"
                              : absl::StrCat(estimate.unknown,
                                             " leases without an expected duration hold what "
                                             "it needs"),
                          estimate.reason.empty() ? "" : "; ", estimate.reason);
    case StartEstimate::When::kInfeasible:
      return absl::StrCat("never: ", estimate.reason);
    case StartEstimate::When::kGone:
      return absl::StrCat("not at all: ", estimate.reason);
    case StartEstimate::When::kTooFar:
      return "unknown: it is too far ahead";
    case StartEstimate::When::kKnown:
      break;
  }
  std::string text = estimate.at <= now
                         ? std::string("now")
                         : absl::StrCat("in about ", ShortDuration(estimate.at - now));
  if (!estimate.where.empty()) {
    absl::StrAppend(&text, " on ", absl::StrJoin(estimate.where, "; "));
  }
  if (!estimate.because.empty()) absl::StrAppend(&text, ", when ", estimate.because);
  if (estimate.guessed > 0) {
    absl::StrAppend(&text, " (", estimate.guessed, estimate.guessed == 1 ? " end is" : " ends are",
                    " guessed from earlier leases)");
  }
  return text;
}

absl::StatusOr<std::unique_ptr<Forecast>> Forecast::Make(const Snapshot& snapshot,
                                                         ForecastConfig config) {
  std::unique_ptr<Forecast> forecast(new Forecast(config));
  absl::StatusOr<std::unique_ptr<Scheduler>> loaded = Scheduler::Load(snapshot, forecast->actions_);
  if (!loaded.ok()) return loaded.status();
  forecast->scheduler_ = *std::move(loaded);
  forecast->now_ = forecast->begin_ = snapshot.now;
  for (const SnapshotNode& node : snapshot.nodes) {
    forecast->names_.emplace(node.node, node.name);
    if (node.draining && node.deadline) {
      forecast->leaving_nodes_.emplace(std::max(*node.deadline, snapshot.now), node.node);
    }
  }
  absl::btree_map<uint64_t, Known> classes;
  for (const SnapshotClass& of : snapshot.classes) {
    DurationHistory history;
    for (const absl::Duration duration : of.durations) history.Add(duration);
    classes.emplace(of.id, Known{.spec = of.spec, .length = LengthOf(*of.spec, history)});
  }
  for (const SnapshotRequest& request : snapshot.requests) {
    const Known& known =
        forecast->known_.emplace(request.request, classes.at(request.of)).first->second;
    for (size_t i = 0; i < request.bundles.size(); ++i) {
      const SnapshotBundle& bundle = request.bundles[i];
      if (bundle.state != SnapshotBundle::State::kRunning) continue;
      const Lease lease{.request = request.request, .bundle = static_cast<int>(i)};
      forecast->running_.emplace(lease, bundle.placement.node);
      forecast->Plan(lease, request.since + request.waited, known.length);
    }
  }
  // What follows from an edited snapshot.
  for (const Action& action : std::exchange(forecast->actions_, {})) forecast->Take(action);
  return forecast;
}

std::optional<Forecast::Length> Forecast::LengthOf(const RequestSpec& spec,
                                                   const DurationHistory& history) {
  if (const absl::Duration expected = spec.expected_duration; expected < absl::InfiniteDuration()) {
    return Length{.duration = expected};
  }
  if (const std::optional<absl::Duration> median = history.Median()) {
    return Length{.duration = *median, .guessed = true};
  }
  return std::nullopt;
}

void Forecast::Plan(const Lease& lease, absl::Time began, const std::optional<Length>& length) {
  if (!length) return;
  absl::Time end = began + length->duration;
  if (end < now_) end = now_ + (now_ - end);  // Late: for as long again.
  // What is left of a group that is placed anew had one.
  if (const auto before = planned_.find(lease); before != planned_.end()) {
    endings_.erase(before->second);
  }
  const Ending ending{.at = end, .lease = lease, .guessed = length->guessed};
  endings_.insert(ending);
  planned_.insert_or_assign(lease, ending);
}

void Forecast::Apply(decltype(Event::what) what) {
  because_.clear();
  if (const auto* requested = std::get_if<Requested>(&what)) {
    known_.emplace(requested->request,
                   Known{.spec = requested->spec, .length = LengthOf(*requested->spec, {})});
  } else if (const auto* joined = std::get_if<NodeJoined>(&what)) {
    names_.insert_or_assign(joined->node, joined->name);
  }
  Step(std::move(what));
}

std::vector<StartEstimate> Forecast::Run(const std::vector<RequestId>& requests) {
  for (const RequestId id : requests) {
    const auto [wanted, is_new] = wanted_.try_emplace(id);
    if (!is_new) continue;  // Known to be gone, or asked for twice.
    StartEstimate& estimate = wanted->second;
    const std::optional<Explanation> now = scheduler_->Explain(id, now_);
    if (!now) {
      estimate.when = StartEstimate::When::kGone;
      estimate.reason = "it is not known";
    } else if (now->granted) {
      estimate.when = StartEstimate::When::kKnown;
      estimate.at = now_;
      estimate.placements = now->placements;
      estimate.where = now->where;
    } else {
      ++missing_;
    }
  }
  while (missing_ > 0 && Advance()) {
  }
  std::vector<StartEstimate> estimates;
  for (const RequestId id : requests) {
    StartEstimate& estimate = wanted_.at(id);
    if (estimate.when == StartEstimate::When::kUnknown) SayWhyUnknown(id, estimate);
    estimates.push_back(estimate);
  }
  return estimates;
}

void Forecast::SayWhyUnknown(RequestId request, StartEstimate& estimate) const {
  const std::optional<Explanation> waits = scheduler_->Explain(request, now_);
  if (waits && !waits->infeasible.empty()) {
    estimate.when = StartEstimate::When::kInfeasible;
    estimate.reason = waits->infeasible;
    return;
  }
  estimate.unknown = CountUnknown(request);
  // Where nothing is known to end, backfill makes new plans up to the horizon.
  const bool nothing_ends = endings_.empty() && estimate.unknown > 0;
  if (steps_ >= config_.steps_max || (now_ - begin_ >= config_.horizon && !nothing_ends)) {
    estimate.when = StartEstimate::When::kTooFar;
    estimate.unknown = 0;
    return;
  }
  if (waits) estimate.reason = absl::StrJoin(waits->between_jobs, "; ");
}

bool Forecast::Advance() {
  const absl::Time tick = scheduler_->NextTick();
  const absl::Time ending = endings_.empty() ? absl::InfiniteFuture() : endings_.begin()->at;
  const absl::Time leaving =
      leaving_nodes_.empty() ? absl::InfiniteFuture() : leaving_nodes_.begin()->first;
  const absl::Time next = std::min({tick, ending, leaving});
  if (next == absl::InfiniteFuture()) return false;
  steps_ += 1 + scheduler_->searches();
  if (steps_ >= config_.steps_max) return false;
  now_ = std::max(now_, next);
  if (now_ - begin_ >= config_.horizon) return false;
  if (next == tick) {
    because_ = "";
    Step(Tick{});
  } else if (next == ending) {
    const Ending first = *endings_.begin();
    because_ = absl::StrCat(NameOf(first.lease.request), " on ", NodeName(running_.at(first.lease)),
                            " is expected to end");
    if (first.guessed) ++guessed_;
    End(first.lease);
  } else {
    const NodeId node = leaving_nodes_.begin()->second;
    leaving_nodes_.erase(leaving_nodes_.begin());
    because_ = absl::StrCat("node ", NodeName(node), " has gone");
    Step(NodeLost{.node = node});
  }
  return true;
}

void Forecast::End(const Lease& lease) {
  if (const auto planned = planned_.find(lease); planned != planned_.end()) {
    endings_.erase(planned->second);
    planned_.erase(planned);
  }
  running_.erase(lease);
  Step(LeaseFinished{.request = lease.request, .bundle = lease.bundle});
}

void Forecast::Step(decltype(Event::what) what) {
  actions_.clear();
  scheduler_->Step({.at = now_, .what = std::move(what)}, actions_);
  for (const Action& action : std::exchange(actions_, {})) Take(action);
}

void Forecast::Take(const Action& action) {
  if (const auto* grant = std::get_if<Grant>(&action)) {
    const Known& known = known_.at(grant->request);
    for (size_t i = 0; i < grant->placements.size(); ++i) {
      const Lease lease{.request = grant->request, .bundle = static_cast<int>(i)};
      running_.insert_or_assign(lease, grant->placements[i].node);
      Plan(lease, now_, known.length);
    }
    const auto wanted = wanted_.find(grant->request);
    if (wanted == wanted_.end() || wanted->second.when != StartEstimate::When::kUnknown) return;
    StartEstimate& estimate = wanted->second;
    const std::optional<Explanation> where = scheduler_->Explain(grant->request, now_);
    estimate.when = StartEstimate::When::kKnown;
    estimate.at = now_;
    estimate.placements.assign(grant->placements.begin(), grant->placements.end());
    if (where) estimate.where = where->where;
    const int choice = estimate.placements[0].choice + 1;
    estimate.because = !because_.empty() || choice == 1 || now_ == begin_
                           ? because_
                           : absl::StrCat("choice ", choice, " opens");
    estimate.guessed = guessed_;
    --missing_;
  } else if (const auto* revoke = std::get_if<Revoke>(&action)) {
    because_ = absl::StrCat(NameOf(revoke->request), " has been told to leave (",
                            ToString(revoke->reason), ")");
    End({.request = revoke->request, .bundle = revoke->bundle});
    if (revoke->reason == LeavingReason::kReturnToPreferred) GoOnInstead(revoke->request);
  } else if (const auto* lost = std::get_if<LeaseLost>(&action)) {
    const Lease lease{.request = lost->request, .bundle = lost->bundle};
    if (const auto planned = planned_.find(lease); planned != planned_.end()) {
      endings_.erase(planned->second);
      planned_.erase(planned);
    }
    if (running_.erase(lease) > 0) ++leases_lost_;
  } else {
    RequestId gone{};
    std::string reason;
    if (const auto* rejected = std::get_if<Rejected>(&action)) {
      gone = rejected->request;
      reason = rejected->reason;
    } else if (const auto* infeasible = std::get_if<Infeasible>(&action)) {
      if (!infeasible->failed) return;
      gone = infeasible->request;
      reason = infeasible->reason;
    } else {
      return;
    }
    const auto [wanted, is_new] = wanted_.try_emplace(gone);
    StartEstimate& estimate = wanted->second;
    if (!is_new && estimate.when == StartEstimate::When::kUnknown) --missing_;
    estimate.when = StartEstimate::When::kGone;
    estimate.reason = std::move(reason);
  }
}

void Forecast::GoOnInstead(RequestId ended) {
  if (scheduler_->Explain(ended, now_)) return;
  Known known = known_.at(ended);
  RequestSpec spec = *known.spec;
  --spec.return_to_preferred.moves;
  known.spec = SpecHandle(std::move(spec));
  const RequestId id{made_up_--};
  known_.emplace(id, known);
  Step(Requested{.request = id, .spec = known.spec, .instead_of = ended});
}

int64_t Forecast::CountUnknown(RequestId request) const {
  const auto known = known_.find(request);
  if (known == known_.end()) return 0;
  absl::btree_map<NodeId, bool> usable;
  for (const NodeView& node : scheduler_->Nodes()) {
    bool matches = false;
    for (const Choice& choice : known->second.spec->choices) {
      matches = matches || choice.selector.Matches(node.labels);
    }
    usable.emplace(node.node, matches);
  }
  return std::count_if(running_.begin(), running_.end(), [&](const auto& running) {
    const auto node = usable.find(running.second);
    return !planned_.contains(running.first) && node != usable.end() && node->second;
  });
}

std::string Forecast::NameOf(RequestId request) const {
  const auto known = known_.find(request);
  const std::string name = known == known_.end() ? "" : known->second.spec->name;
  return absl::StrCat("request ", request.ToString(), name.empty() ? "" : " (", name,
                      name.empty() ? "" : ")");
}

std::string Forecast::NodeName(NodeId node) const {
  const auto found = names_.find(node);
  return found == names_.end() ? node.ToString() : found->second;
}

}  // namespace muster::sched
