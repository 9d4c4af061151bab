#include "scheduler/group_explain.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::sched {
namespace {

const Capacity* FreeNow(const Node& node) { return node.usable() ? &node.free : nullptr; }
const Capacity* FreeEver(const Node& node) { return &node.empty(); }

std::string Counted(size_t count, const Resources& needs) {
  if (count == 1) return ToText(needs);
  return absl::StrCat(count, " x (", ToText(needs), ")");
}

std::string NeedsOf(const RequestSpec& spec, int shape) {
  if (spec.is_group()) return BundlesText(spec.shapes[shape]);
  return Counted(static_cast<size_t>(spec.bundles), spec.choices[0].resources);
}

std::string DomainName(const Topology& topology, int key, const Domain& domain) {
  if (key < 0) return "the cluster";
  return absl::StrCat(ShortKey(topology.label(key)), "=", domain.value);
}

// Which domain could hold the most of the shape's bundles, the first of equals.
struct Nearest {
  const Domain* domain = nullptr;
  int bundles = 0;
};
Nearest NearestDomain(const std::vector<Domain>& domains, const ShapePlan& shape, int choices,
                      GroupPlacer& placer, bool ever) {
  Nearest nearest;
  for (const Domain& domain : domains) {
    const int held = ever ? placer.Most(domain, shape, choices, FreeEver)
                          : placer.Most(domain, shape, choices, FreeNow);
    if (nearest.domain == nullptr || held > nearest.bundles) {
      nearest = {.domain = &domain, .bundles = held};
    }
  }
  return nearest;
}

std::string LevelWhy(const Cluster& cluster, const SchedulingClass& of, const ShapePlan& shape,
                     const LevelPlan& level, int choices, GroupPlacer& placer, bool ever) {
  const Topology& topology = cluster.topology();
  const int key = level.same_key;
  const std::vector<Domain>& domains = topology.domains(key < 0 ? of.plan->cluster_key : key);
  // A strategy of one level stands beside it already.
  const std::string name =
      shape.levels.size() > 1 || ever ? absl::StrCat(ToText(level.level), ": ") : "";
  if (domains.empty()) {
    return absl::StrCat(name, key < 0 ? "there are no nodes"
                                      : absl::StrCat("no node has a label ", topology.label(key)));
  }
  const Nearest nearest = NearestDomain(domains, shape, choices, placer, ever);
  std::string text = absl::StrCat(name, DomainName(topology, key, *nearest.domain));
  const std::string held = absl::StrCat(nearest.bundles, " of ", shape.bundles, " bundles");
  absl::StrAppend(&text, key < 0 || domains.size() == 1 ? "" : " comes nearest, it",
                  ever ? " could hold " : " has room for ", held);
  if (nearest.bundles < shape.bundles) return text;
  switch (level.level.within) {
    case Level::Within::kStrictPack:
      return absl::StrCat(text, ", but not on one node");
    case Level::Within::kStrictSpread:
      return absl::StrCat(text, ", but not each on a node of its own");
    case Level::Within::kSpreadLabel:
      return absl::StrCat(text, ", but not each in a ", ShortKey(level.level.spread),
                          " of its own");
    default:
      return text;
  }
}

}  // namespace

std::string NeedsText(const RequestSpec& spec) {
  const bool several = spec.is_group() || !spec.strategy.empty();
  std::string text = several ? NeedsOf(spec, 0) : ToText(spec.choices[0].resources);
  if (!spec.affinity.node.empty()) {
    absl::StrAppend(&text, spec.affinity.soft ? ", rather on node " : ", on node ",
                    spec.affinity.node);
  }
  return text;
}

std::string ShapesSummary(const RequestSpec& spec) {
  if (!spec.is_group()) return ToText(spec.strategy);
  return absl::StrJoin(spec.shapes, ", else ", [](std::string* out, const GroupShape& shape) {
    absl::StrAppend(out, shape.strategy.empty() ? "pack" : ToText(shape.strategy));
  });
}

std::string ShapesWhy(const std::vector<ChoiceExplanation>& shapes, absl::Time now) {
  std::string text = shapes[0].why;
  for (size_t i = 1; i < shapes.size(); ++i) {
    absl::StrAppend(&text, "; shape ", i + 1, ": ");
    if (shapes[i].state == ChoiceState::kOpen) {
      absl::StrAppend(&text, shapes[i].why);
    } else if (!shapes[i].opens_at) {
      absl::StrAppend(&text, "opens with ", i);
    } else {
      absl::StrAppend(&text, "opens in ", ShortDuration(*shapes[i].opens_at - now));
    }
  }
  return text;
}

std::vector<ChoiceExplanation> ExplainBroken(const Cluster& cluster, const Request& group,
                                             GroupPlacer& placer) {
  const SchedulingClass& of = *group.of;
  const int shape = group.bundles.empty() ? 0 : group.shape;
  int there = 0;
  for (const Bundle& bundle : group.bundles) {
    if (bundle.state == Bundle::State::kRunning) ++there;
  }
  ChoiceExplanation explanation;
  Strategy strategy;
  for (const LevelPlan& level : of.plan->shapes[shape].levels) strategy.push_back(level.level);
  explanation.selector = ToText(strategy);
  explanation.needs = NeedsOf(of.spec, shape);
  explanation.nodes = static_cast<int>(cluster.nodes().size());
  explanation.matching_nodes = explanation.nodes;
  explanation.why =
      group.closing
          ? "it is placed anew once what runs inside its bundles has ended"
          : absl::StrCat("it holds ", there, " of ", group.bundles.size(),
                         " bundles and waits for room for those it lost; ",
                         ShapeWhy(cluster, of, shape, of.choices(), placer, /*ever=*/false));
  return {explanation};
}

std::string BundlesText(const GroupShape& shape) {
  std::vector<std::pair<Resources, size_t>> counted;
  for (const BundleSpec& bundle : shape.bundles) {
    const Resources& needs = bundle.choices[0].resources;
    const auto same = std::find_if(counted.begin(), counted.end(),
                                   [&](const auto& each) { return each.first == needs; });
    if (same == counted.end()) {
      counted.emplace_back(needs, 1);
    } else {
      ++same->second;
    }
  }
  return absl::StrJoin(counted, " + ", [](std::string* out, const auto& each) {
    absl::StrAppend(out, Counted(each.second, each.first));
  });
}

std::string ShapeWhy(const Cluster& cluster, const SchedulingClass& of, int shape, int open,
                     GroupPlacer& placer, bool ever) {
  const ShapePlan& plan = of.plan->shapes[shape];
  const int choices = of.plan->choices_open ? open : kChoicesMax;
  std::vector<std::string> levels;
  for (const LevelPlan& level : plan.levels) {
    levels.push_back(LevelWhy(cluster, of, plan, level, choices, placer, ever));
  }
  return absl::StrJoin(levels, "; ");
}

std::string GroupInfeasibleReason(const Cluster& cluster, const SchedulingClass& of,
                                  GroupPlacer& placer) {
  std::vector<std::string> wanted;
  for (int s = 0; s < static_cast<int>(of.plan->shapes.size()); ++s) {
    wanted.push_back(absl::StrCat(NeedsOf(of.spec, s), " by ",
                                  ShapeWhy(cluster, of, s, of.choices(), placer, /*ever=*/true)));
  }
  return absl::StrCat("needs ", absl::StrJoin(wanted, ", or "));
}

std::string InsideInfeasibleReason(const SchedulingClass& of, const Request& group) {
  const int bundles = static_cast<int>(group.bundles.size());
  const std::string needs =
      absl::StrCat("needs ", ToText(of.spec.choices[0].resources), " inside ");
  if (of.spec.inside->bundle >= bundles) {
    return absl::StrCat(needs, "bundle ", of.spec.inside->bundle,
                        " of its placement group, which has ", bundles);
  }
  if (of.spec.inside->bundle >= 0) {
    return absl::StrCat(needs, "bundle ", of.spec.inside->bundle, " of its placement group: ",
                        ToText(group.bundles[of.spec.inside->bundle].placement.resources));
  }
  return absl::StrCat(needs, "one of the ", bundles, " bundles of its placement group, ",
                      "each of which is too small or on other nodes");
}

std::vector<ChoiceExplanation> ExplainShapes(const Cluster& cluster, const Request& request,
                                             GroupPlacer& placer) {
  const SchedulingClass& of = *request.of;
  std::vector<ChoiceExplanation> explanations;
  absl::Time last = request.opened_at;
  for (int s = 0; s < static_cast<int>(of.plan->shapes.size()); ++s) {
    const ShapePlan& plan = of.plan->shapes[s];
    ChoiceExplanation explanation;
    Strategy strategy;
    for (const LevelPlan& level : plan.levels) strategy.push_back(level.level);
    explanation.selector = ToText(strategy);
    explanation.needs = NeedsOf(of.spec, s);
    if (s > 0) explanation.own_needs = explanation.needs;
    const bool open = of.plan->choices_open || s < request.open;
    explanation.state = open ? ChoiceState::kOpen : ChoiceState::kOpensLater;
    if (!open && of.spec.choices[s].after > absl::ZeroDuration()) {
      last += of.spec.choices[s].after;
      explanation.opens_at = last;
    }
    for (const Node* node : cluster.nodes()) {
      const bool matches =
          std::any_of(plan.kinds.begin(), plan.kinds.end(), [&](const BundleKind& kind) {
            return std::any_of(kind.selectors.begin(), kind.selectors.end(), [&](int selector) {
              return SelectorIndex::Selected(*node, selector);
            });
          });
      if (matches) ++explanation.matching_nodes;
    }
    explanation.nodes = static_cast<int>(cluster.nodes().size());
    explanation.why = ShapeWhy(cluster, of, s, request.open, placer, /*ever=*/false);
    explanations.push_back(std::move(explanation));
  }
  return explanations;
}

std::string InsideWhy(const Cluster& cluster, const SchedulingClass& of, const Request& group) {
  const std::string which = of.spec.inside->bundle < 0
                                ? "all its bundles"
                                : absl::StrCat("bundle ", of.spec.inside->bundle);
  if (!group.granted()) return "its placement group waits for room";
  if (group.broken || group.closing) return "its placement group lost a node and is placed anew";
  if (of.spec.inside->bundle >= 0 &&
      of.spec.inside->bundle < static_cast<int>(group.bundles.size())) {
    const NodeId id = group.bundles[of.spec.inside->bundle].placement.node;
    if (const Node* const node = cluster.FindNode(id)) {
      return absl::StrCat(which, " on ", node->name, " is in use");
    }
  }
  return absl::StrCat(which, " are in use, or do not match");
}

}  // namespace muster::sched
