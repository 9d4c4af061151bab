#include "scheduler/explainer.h"

#include <algorithm>
#include <optional>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/explain_words.h"
#include "scheduler/placement_constraints.h"
#include "scheduler/placer.h"

namespace muster::sched {
namespace {

struct Survey {
  std::vector<const Node*> excluded;  // By labels.
  std::vector<const Node*> draining;
  std::vector<const Node*> unreachable;
  std::vector<const Node*> set_aside;  // For a group that waits; see reservation.h.
  std::vector<const Node*> too_small;  // Even empty.
  std::vector<const Node*> busy;
  std::vector<const Node*> avoided;  // With room.
  std::optional<Room> room;
  size_t matching = 0;
};

Survey Look(const Cluster& cluster, const SchedulingClass& of, int choice) {
  Survey survey;
  const Resources& needs = of.spec.choices[choice].resources;
  const Packing& packing = cluster.packing();
  const PlacementPolicy policy = packing.PolicyOf(of, needs);
  PlacementRank rank;
  std::vector<Node*> matching;
  for (Node* node : cluster.nodes()) {
    if (!MayUse(of.spec, *node)) continue;
    if (!SelectorIndex::Selected(*node, of.selectors[choice])) {
      survey.excluded.push_back(node);
      continue;
    }
    matching.push_back(node);
    if (!node->empty().Fits(needs)) {
      survey.too_small.push_back(node);
    } else if (node->draining) {
      survey.draining.push_back(node);
    } else if (!node->reachable) {
      survey.unreachable.push_back(node);
    } else if (node->set_aside && node->free.Fits(needs)) {
      survey.set_aside.push_back(node);
    } else if (!node->free.Fits(needs)) {
      survey.busy.push_back(node);
    } else if (IsAvoided(of.spec, *node)) {
      survey.avoided.push_back(node);
    } else {
      const PlacementRank of_node = packing.RankOf(policy, needs, *node);
      if (survey.room && !(of_node < rank)) continue;
      survey.room = Room{.node = node, .choice = choice};
      rank = of_node;
    }
  }
  survey.matching = matching.size();
  return survey;
}

const Node* NearestMiss(const std::vector<const Node*>& nodes, const Resources& needs, bool ever) {
  const auto lacking = [&](const Node* node) {
    return Lacks(needs, ever ? node->empty() : node->free, node->total).size();
  };
  return *std::min_element(nodes.begin(), nodes.end(),
                           [&](const Node* a, const Node* b) { return lacking(a) < lacking(b); });
}

// "; 1 of 2 GPUs in quarantine: xid 79", where GPUs are asked for.
std::string QuarantineText(const Node& node, const Resources& needs) {
  if (needs.gpus == 0 || node.quarantined.empty()) return "";
  absl::btree_set<std::string> reasons;
  for (const Quarantine& out : node.quarantined) {
    if (!out.reason.empty()) reasons.insert(out.reason);
  }
  return absl::StrCat("; ", node.quarantined.size(), " of ",
                      Plural(node.total.gpu_devices, "GPU", "GPUs"), " in quarantine",
                      reasons.empty() ? "" : ": ", absl::StrJoin(reasons, ", "));
}

std::string TooSmallText(const Node& node, const Resources& needs) {
  std::vector<std::string> parts;
  for (const Lack& lack : Lacks(needs, node.empty(), node.total)) parts.push_back(lack.kind);
  return absl::StrCat(node.name, " has only ", ToText(node.total), ": too few ",
                      absl::StrJoin(parts, " and "), QuarantineText(node, needs));
}

std::string BusyText(const std::vector<const Node*>& busy, const Resources& needs) {
  absl::btree_map<std::string, int64_t> lacking;
  for (const Node* node : busy) {
    for (const Lack& lack : Lacks(needs, node->free, node->total)) ++lacking[lack.kind];
  }
  std::vector<std::string> counts;
  for (const auto& [kind, count] : lacking) {
    counts.push_back(absl::StrCat(count, count == 1 ? " lacks " : " lack ", kind));
  }
  const Node* nearest = NearestMiss(busy, needs, /*ever=*/false);
  return absl::StrCat(absl::StrJoin(counts, ", "), "; ", nearest->name, " comes nearest: it lacks ",
                      LackText(Lacks(needs, nearest->free, nearest->total)),
                      QuarantineText(*nearest, needs));
}

std::string RoomText(const Cluster& cluster, const SchedulingClass& of, int open,
                     const Room& room) {
  if (of.spec.bundles == 1) return absl::StrCat(room.node->name, " could take it now");
  int64_t bundles = 0;
  for (const Node* node : cluster.nodes()) {
    if (!node->usable()) continue;
    bundles += Fill(of, open, *node, node->free, of.spec.bundles).bundles;
  }
  bundles = std::min<int64_t>(bundles, of.spec.bundles);
  return absl::StrCat("room for ", bundles, " of ", of.spec.bundles, " bundles now");
}

std::string WhyOf(const Cluster& cluster, const SchedulingClass& of, int choice, int open) {
  const Choice& asked = of.spec.choices[choice];
  const Survey survey = Look(cluster, of, choice);
  std::vector<std::string> parts;
  if (of.spec.affinity.hard()) {
    const std::string& name = of.spec.affinity.node;
    const Node* const only = cluster.FindNode(name);
    if (only == nullptr) return absl::StrCat("node ", name, " is not there");
    if (survey.matching == 0) {
      const std::optional<LabelSelector::Mismatch> mismatch =
          asked.selector.FirstMismatch(only->labels);
      return absl::StrCat("node ", name, ": ",
                          mismatch ? ShortKey(mismatch->why) : "it does not match");
    }
    parts.push_back(absl::StrCat("no other node than ", name, " will do"));
  }
  if (survey.matching == 0) return WhyNoneMatches(cluster, asked.selector);
  if (survey.room) {
    parts.push_back(RoomText(cluster, of, std::max(open, choice + 1), *survey.room));
  } else {
    const auto standing = [&](const std::vector<const Node*>& nodes, absl::string_view what) {
      if (nodes.size() == 1) parts.push_back(absl::StrCat(nodes[0]->name, " is ", what));
      if (nodes.size() > 1) parts.push_back(absl::StrCat(nodes.size(), " are ", what));
    };
    standing(survey.draining, "draining");
    standing(survey.unreachable, "unreachable");
    standing(survey.set_aside, "set aside for an older group");
    standing(survey.avoided, "avoided: it has room, but failed before");
    if (survey.busy.size() == 1) {
      const Node& node = *survey.busy[0];
      parts.push_back(absl::StrCat(node.name, " lacks ",
                                   LackText(Lacks(asked.resources, node.free, node.total)),
                                   QuarantineText(node, asked.resources)));
    } else if (!survey.busy.empty()) {
      parts.push_back(BusyText(survey.busy, asked.resources));
    }
    if (!survey.too_small.empty()) {
      const Node& nearest = *NearestMiss(survey.too_small, asked.resources, /*ever=*/true);
      parts.push_back(absl::StrCat(survey.too_small.size() > 1
                                       ? absl::StrCat(survey.too_small.size(), " are too small, ")
                                       : "",
                                   TooSmallText(nearest, asked.resources)));
    }
  }
  if (!survey.excluded.empty()) {
    if (const LabelRequirement* obstacle = CommonObstacle(asked.selector, survey.excluded)) {
      parts.push_back(
          absl::StrCat(ShortKey(obstacle->key), "=", obstacle->ToText(), " excludes the rest"));
    }
  }
  return absl::StrJoin(parts, "; ");
}

// When each choice opens; absent: with the one before it, or open already.
std::vector<std::optional<absl::Time>> Openings(const Request& request) {
  const RequestSpec& spec = request.of->spec;
  std::vector<std::optional<absl::Time>> openings(spec.choices.size());
  absl::Time last = request.opened_at;
  for (size_t i = static_cast<size_t>(request.open); i < spec.choices.size(); ++i) {
    if (spec.choices[i].after == absl::ZeroDuration()) continue;
    last += spec.choices[i].after;
    openings[i] = last;
  }
  return openings;
}

std::string NodeWanted(const SchedulingClass& of, int number) {
  const Choice& choice = of.spec.choices[number];
  const std::string node =
      of.spec.affinity.hard() ? absl::StrCat("node ", of.spec.affinity.node) : "a node";
  std::vector<std::string> labels;
  for (const LabelRequirement& requirement : choice.selector.requirements()) {
    labels.push_back(requirement.in.empty() || requirement.in[0].empty()
                         ? absl::StrCat(ShortKey(requirement.key), "=", requirement.ToText())
                         : Alternatives(requirement.in));
  }
  labels.push_back(ShortNeeds(choice.resources));
  if (choice.resources == Resources{}) labels.pop_back();
  if (labels.empty()) return node;
  return absl::StrCat(node, " with ", absl::StrJoin(labels, " and "));
}

// "3 nodes, all L4": what is there instead of what choice 0 wants.
std::string WhatIsThere(const Cluster& cluster, const SchedulingClass& of) {
  const size_t count = cluster.nodes().size();
  if (count == 0) return "there are no nodes";
  const std::string nodes = Plural(static_cast<int64_t>(count), "node", "nodes");
  const LabelSelector& selector = of.spec.choices[0].selector;
  if (of.spec.affinity.hard() && of.nodes_for_choice[0] == 0) {
    return absl::StrCat(nodes, "; ", WhyOf(cluster, of, 0, 1));
  }
  if (of.nodes_for_choice[0] > 0) {
    return absl::StrCat(nodes, ", which could hold ", of.bundles_for_open[of.choices()], " of ",
                        of.spec.bundles, " bundles");
  }
  const Survey survey = Look(cluster, of, 0);
  if (survey.matching > 0) {
    return absl::StrCat(nodes, ", ", survey.matching,
                        survey.matching == 1 ? " matches: " : " match: ", WhyOf(cluster, of, 0, 1));
  }
  if (const LabelRequirement* obstacle = CommonObstacle(selector, survey.excluded)) {
    size_t distinct = 0;
    const std::string there = ValuesThere(cluster, obstacle->key, distinct);
    if (distinct == 0) return absl::StrCat(nodes, ", none has a label ", ShortKey(obstacle->key));
    return absl::StrCat(nodes, count > 1 && distinct == 1 ? ", all " : ", with ", there);
  }
  return absl::StrCat(nodes, "; ", WhyNoneMatches(cluster, selector));
}

}  // namespace

std::string InfeasibleReason(const Cluster& cluster, const SchedulingClass& of) {
  std::vector<std::string> wanted;
  for (const Choice& choice : of.spec.choices) {
    std::string text = ShortNeeds(choice.resources);
    if (!choice.selector.empty()) absl::StrAppend(&text, " on ", ToText(choice.selector));
    if (std::find(wanted.begin(), wanted.end(), text) == wanted.end()) {
      wanted.push_back(std::move(text));
    }
  }
  const size_t more = wanted.size() > kListedMax ? wanted.size() - kListedMax : 0;
  if (more > 0) wanted.resize(kListedMax);
  return absl::StrCat(
      "needs ", of.spec.bundles > 1 ? absl::StrCat(of.spec.bundles, " times ") : "",
      absl::StrJoin(wanted, ", or "), more > 0 ? absl::StrCat(", or ", more, " others") : "",
      of.spec.affinity.hard() ? absl::StrCat(", on node ", of.spec.affinity.node) : "", "; ",
      WhatIsThere(cluster, of));
}

std::vector<ChoiceExplanation> ExplainChoices(const Cluster& cluster, const Request& request) {
  const SchedulingClass& of = *request.of;
  const std::vector<std::optional<absl::Time>> openings = Openings(request);
  std::vector<ChoiceExplanation> choices;
  for (int i = 0; i < of.choices(); ++i) {
    const Choice& choice = of.spec.choices[i];
    ChoiceExplanation explanation;
    explanation.selector = ToText(choice.selector);
    explanation.needs = ToText(choice.resources);
    if (i > 0) explanation.own_needs = OwnNeeds(choice.resources, of.spec.choices[0].resources);
    explanation.state = i < request.open ? ChoiceState::kOpen : ChoiceState::kOpensLater;
    explanation.opens_at = openings[i];
    explanation.matching_nodes =
        of.spec.affinity.hard() ? static_cast<int>(Look(cluster, of, i).matching)
                                : static_cast<int>(cluster.index().nodes(of.selectors[i]).size());
    explanation.nodes = static_cast<int>(cluster.nodes().size());
    explanation.why = WhyOf(cluster, of, i, request.open);
    choices.push_back(std::move(explanation));
  }
  return choices;
}

std::string WhatWouldHelp(const Cluster& cluster, const Request& request, absl::Time now) {
  const SchedulingClass& of = *request.of;
  std::vector<std::string> helps;
  const std::vector<std::optional<absl::Time>> openings = Openings(request);
  for (int i = request.open; i < of.choices(); ++i) {
    if (!openings[i] || *openings[i] == absl::InfiniteFuture()) continue;
    helps.push_back(
        absl::StrCat("choice ", i + 1, " opens in ", ShortDuration(*openings[i] - now)));
    break;
  }
  for (int i = 0; i < request.open; ++i) {
    const Resources& needs = of.spec.choices[i].resources;
    const Survey survey = Look(cluster, of, i);
    if (survey.busy.empty()) continue;
    const Node* nearest = NearestMiss(survey.busy, needs, /*ever=*/false);
    std::vector<std::string> kinds;
    for (const Lack& lack : Lacks(needs, nearest->free, nearest->total)) kinds.push_back(lack.kind);
    helps.push_back(
        absl::StrCat("more free ", absl::StrJoin(kinds, " and "), " on ", nearest->name));
    break;
  }
  if (request.avoids_until > now && request.avoids_until != absl::InfiniteFuture()) {
    helps.push_back(absl::StrCat("in ", ShortDuration(request.avoids_until - now),
                                 " what failed before is good enough (",
                                 absl::StrJoin(of.spec.avoid, ", "), ")"));
  }
  std::vector<std::string> wanted;
  for (int i = 0; i < of.choices(); ++i) {
    if (cluster.feasibility().IsPossible(of, i)) continue;
    std::string node = NodeWanted(of, i);
    if (std::find(wanted.begin(), wanted.end(), node) == wanted.end()) {
      wanted.push_back(std::move(node));
    }
  }
  if (helps.empty() && wanted.empty()) wanted.push_back(NodeWanted(of, 0));
  if (wanted.size() > kListedMax) wanted.resize(kListedMax);
  helps.insert(helps.end(), wanted.begin(), wanted.end());
  return absl::StrJoin(helps, "; or ");
}

std::string ShortWhy(const Cluster& cluster, const Request& request, absl::Time now) {
  const SchedulingClass& of = *request.of;
  const std::vector<std::optional<absl::Time>> openings = Openings(request);
  return absl::StrJoin(
      of.spec.choices, "; ", [&, i = 0](std::string* out, const Choice& choice) mutable {
        const int number = i++;
        absl::StrAppend(out, ShortText(choice.selector), ": ");
        const Survey survey = Look(cluster, of, number);
        if (survey.matching == 0) {
          absl::StrAppend(out, "no such node");
        } else if (number >= request.open) {
          const std::optional<absl::Time> opens = openings[number];
          absl::StrAppend(out, !opens ? absl::StrCat("opens with ", number)
                                      : absl::StrCat("opens in ", ShortDuration(*opens - now)));
        } else {
          std::vector<std::string> parts;
          const auto part = [&](size_t count, absl::string_view what) {
            if (count == survey.matching) parts.push_back(std::string(what));
            if (count > 0 && count < survey.matching)
              parts.push_back(absl::StrCat(count, " ", what));
          };
          part(survey.busy.size(), "busy");
          part(survey.draining.size(), "draining");
          part(survey.unreachable.size(), "unreachable");
          part(survey.set_aside.size(), "set aside");
          part(survey.avoided.size(), "avoided");
          part(survey.too_small.size(), "too small");
          if (parts.empty()) parts.push_back("not room for all bundles");
          absl::StrAppend(out, Plural(static_cast<int64_t>(survey.matching), "node", "nodes"), ", ",
                          absl::StrJoin(parts, ", "));
        }
      });
}

std::string WhereText(const Cluster& cluster, const Request& request, int bundle) {
  const Placement& placement = request.bundles[bundle].placement;
  const Node* const node = cluster.FindNode(placement.node);
  std::string text;
  const RequestSpec& spec = request.of->spec;
  if (spec.bundles > 1 || spec.is_group()) text = absl::StrCat("bundle ", bundle, ": ");
  absl::StrAppend(&text, node == nullptr ? placement.node.ToString() : node->name, ", choice ",
                  placement.choice + 1, " (",
                  ToText(ChoiceOf(spec, request.shape, bundle, placement.choice).selector), ")");
  if (!placement.devices.empty()) {
    absl::StrAppend(&text, placement.devices.size() == 1 ? ", GPU " : ", GPUs ",
                    absl::StrJoin(placement.devices, ", ", [](std::string* out, GpuShare share) {
                      absl::StrAppend(out, share.device);
                    }));
  }
  return text;
}

}  // namespace muster::sched
