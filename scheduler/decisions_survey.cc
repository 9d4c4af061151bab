// What is recorded of decisions, and how they are shown: the scheduler's side of decisions.h.
#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/decisions.h"
#include "scheduler/scheduler_impl.h"

namespace muster::sched {
namespace {

ScoredNode Scored(PlacementPolicy policy, const Packing& packing, const Node& node,
                  const Resources& needs) {
  const Devices& devices = node.free.devices();
  ScoredNode scored{
      .node = node.id,
      .rank = packing.RankOf(policy, needs, node),
      .parts = {devices.count() > 0 ? 1 : 0, devices.LeftOnDevice(needs.gpus), devices.free(),
                devices.empty_devices() * Amount::kUnit, node.free.cpus(), node.free.memory_bytes(),
                devices.count() * Amount::kUnit - devices.free(), 0, 0}};
  if (policy == PlacementPolicy::kPack) {
    const std::pair<int, int64_t> parts = packing.PartsOf(needs, node);
    scored.parts[7] = parts.first;
    scored.parts[8] = parts.second;
  }
  return scored;
}

// Keeps the best few, in order of score and then of looking.
void KeepBest(const ScoredNode& node, DecisionSurvey& survey) {
  constexpr int kMax = DecisionSurvey::kRunnersUpMax;
  int at = survey.runners_up;
  while (at > 0 && node.rank < survey.runner_up[at - 1].rank) --at;
  if (at == kMax) return;
  const int last = std::min(survey.runners_up, kMax - 1);
  for (int i = last; i > at; --i) survey.runner_up[i] = survey.runner_up[i - 1];
  survey.runner_up[at] = node;
  survey.runners_up = last + 1;
}

std::string FoundText(const TriedChoice& tried, int nodes) {
  std::string text =
      absl::StrCat(tried.matching, " of ", nodes, nodes == 1 ? " node matched" : " nodes matched");
  std::vector<std::string> parts;
  const auto part = [&](int count, absl::string_view what) {
    if (count > 0) parts.push_back(absl::StrCat(count, " ", what));
  };
  part(tried.too_small, "too small");
  part(tried.away, "draining or away");
  part(tried.busy, "busy");
  part(tried.candidates, "with room");
  if (!parts.empty()) absl::StrAppend(&text, ": ", absl::StrJoin(parts, ", "));
  return text;
}

}  // namespace

void Scheduler::Impl::SurveyBefore(const SchedulingClass& of, const Room& room) {
  if (!decisions_.WantsSurvey(static_cast<int64_t>(cluster_.nodes().size()) * (room.choice + 1))) {
    return;
  }
  DecisionSurvey& survey = decisions_.AddSurvey();
  survey.nodes = static_cast<int>(cluster_.nodes().size());
  const int first = std::max(0, room.choice + 1 - DecisionSurvey::kTriedMax);
  for (int choice = first; choice <= room.choice; ++choice) {
    const Resources& needs = of.spec.choices[choice].resources;
    TriedChoice& tried = survey.choices[survey.tried++];
    survey.policy = cluster_.packing().PolicyOf(of, needs);
    tried.choice = choice;
    for (const Node* node : cluster_.nodes()) {
      if (!SelectorIndex::Selected(*node, of.selectors[choice])) continue;
      ++tried.matching;
      if (!node->empty().Fits(needs)) {
        ++tried.too_small;
      } else if (!node->usable()) {
        ++tried.away;
      } else if (!node->free.Fits(needs)) {
        ++tried.busy;
      } else {
        ++tried.candidates;
        const ScoredNode scored = Scored(survey.policy, cluster_.packing(), *node, needs);
        if (node == room.node) {
          survey.winner = scored;
        } else {
          KeepBest(scored, survey);
        }
      }
    }
  }
}

void Scheduler::Impl::RecordGrant(const Request& request) {
  if (!decisions_.on()) return;
  Decision& decision = decisions_.Add();
  const Placement& first = request.bundles.front().placement;
  decision.at = now_;
  decision.waited = request.waited;
  decision.request = request.id;
  decision.of = request.of->id;
  decision.node = first.node;
  decision.bundle = 0;
  decision.bundles = static_cast<int>(request.bundles.size());
  // Of a placement group the choice is its shape; its bundles have choices of their own.
  decision.choice = request.of->spec.is_group() ? request.shape : first.choice;
  decision.open = request.open;
  decision.kind = DecisionKind::kGranted;
}

void Scheduler::Impl::Record(const Action& action) {
  RequestId id{};
  NodeId node{};
  int bundle = 0;
  DecisionKind kind = DecisionKind::kRejected;
  std::string why;
  if (const auto* infeasible = std::get_if<Infeasible>(&action)) {
    std::tie(id, kind, why) =
        std::tuple(infeasible->request, DecisionKind::kInfeasible, infeasible->reason);
  } else if (const auto* rejected = std::get_if<Rejected>(&action)) {
    std::tie(id, kind, why) =
        std::tuple(rejected->request, DecisionKind::kRejected, rejected->reason);
  } else if (const auto* lost = std::get_if<LeaseLost>(&action)) {
    std::tie(id, bundle, node, kind) =
        std::tuple(lost->request, lost->bundle, lost->node, DecisionKind::kLost);
    why = "its node is lost";
  } else if (const auto* notice = std::get_if<Notice>(&action)) {
    std::tie(id, bundle, kind) = std::tuple(notice->request, notice->bundle, DecisionKind::kNotice);
    why = absl::StrCat(ToString(notice->reason), notice->why.empty() ? "" : ": ", notice->why);
  } else if (const auto* revoke = std::get_if<Revoke>(&action)) {
    std::tie(id, bundle, kind) =
        std::tuple(revoke->request, revoke->bundle, DecisionKind::kRevoked);
    why = absl::StrCat(ToString(revoke->reason), revoke->why.empty() ? "" : ": ", revoke->why);
  } else {
    return;
  }
  const Decision* const before = decisions_.Latest(id);
  const uint64_t of_before = before == nullptr ? 0 : before->of;
  const int bundles_before = before == nullptr ? 1 : before->bundles;
  Decision& decision = decisions_.Add();
  const uint64_t number = decision.number;
  decision = Decision{.number = number, .at = now_, .request = id, .node = node};
  decision.bundle = bundle;
  decision.kind = kind;
  decisions_.SetWhy(number, std::move(why));
  if (const Request* request = Find(id)) {
    decision.of = request->of->id;
    decision.bundles = request->of->spec.bundles;
    decision.open = request->open;
    if (request->granted() && node == NodeId{}) {
      decision.node = request->bundles[static_cast<size_t>(bundle)].placement.node;
    }
  } else {  // It is forgotten, its grant may not be.
    decision.of = of_before;
    decision.bundles = bundles_before;
  }
}

DecisionView Scheduler::Impl::ViewOf(const Decision& decision) const {
  DecisionView view{.decision = decision, .why = decisions_.WhyOf(decision.number)};
  const auto node_name = [&](NodeId id) {
    if (id == NodeId{}) return std::string();
    if (const Node* node = cluster_.FindNode(id)) return node->name;
    for (const NodeView& lost : cluster_.lost_nodes()) {
      if (lost.node == id) return lost.name;
    }
    return absl::StrCat("node ", id.ToString());
  };
  view.node = node_name(decision.node);
  const auto of = cluster_.classes().find(decision.of);
  const RequestSpec* const spec = of == cluster_.classes().end() ? nullptr : &of->second->spec;
  if (spec != nullptr) {
    view.name = spec->name;
    view.choices = static_cast<int>(spec->choices.size());
    const Choice& choice = spec->choices[static_cast<size_t>(decision.choice)];
    view.needs = ToText(choice.resources);
    view.choice = ToText(choice.selector);
  }
  const DecisionSurvey* const survey = decisions_.SurveyOf(decision.number);
  if (survey == nullptr || decision.kind != DecisionKind::kGranted) return view;
  view.surveyed = true;
  view.policy = ToString(survey->policy);
  for (int i = 0; i < survey->tried; ++i) {
    const TriedChoice& tried = survey->choices[i];
    view.tried.push_back(
        {.choice = tried.choice,
         .selector = spec == nullptr ? "" : ToText(spec->choices[tried.choice].selector),
         .found = FoundText(tried, survey->nodes)});
    view.candidates = tried.candidates;
  }
  for (int i = 0; i < survey->runners_up; ++i) {
    view.losers.push_back({.node = node_name(survey->runner_up[i].node),
                           .by = LostBy(survey->policy, survey->winner, survey->runner_up[i])});
  }
  return view;
}

std::vector<DecisionView> Scheduler::Impl::NewestDecisions(size_t most) const {
  std::vector<DecisionView> views;
  for (const Decision* decision : decisions_.Newest(most)) views.push_back(ViewOf(*decision));
  return views;
}

std::optional<DecisionView> Scheduler::Impl::FindDecision(uint64_t number) const {
  const Decision* const decision = decisions_.Find(number);
  if (decision == nullptr) return std::nullopt;
  return ViewOf(*decision);
}

std::optional<DecisionView> Scheduler::Impl::LatestDecision(RequestId request) const {
  const Decision* const decision = decisions_.Latest(request);
  if (decision == nullptr) return std::nullopt;
  return ViewOf(*decision);
}

}  // namespace muster::sched
