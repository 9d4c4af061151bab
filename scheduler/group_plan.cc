#include "scheduler/group_plan.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

namespace muster::sched {
namespace {

auto SizeOf(const BundleKind& kind) {
  const Resources& needs = kind.choices->front().resources;
  return std::make_tuple(needs.gpus, needs.memory_bytes, needs.cpus, needs.custom.size());
}

ShapePlan PlanOf(const std::vector<const std::vector<Choice>*>& bundles, const Strategy& strategy,
                 SelectorIndex& index, Topology& topology) {
  ShapePlan shape;
  shape.bundles = static_cast<int>(bundles.size());
  for (int i = 0; i < shape.bundles; ++i) {
    const auto same =
        std::find_if(shape.kinds.begin(), shape.kinds.end(), [&](const BundleKind& kind) {
          return kind.choices == bundles[i] || *kind.choices == *bundles[i];
        });
    if (same != shape.kinds.end()) {
      same->bundles.push_back(i);
      continue;
    }
    BundleKind kind{.choices = bundles[i], .bundles = {i}};
    for (const Choice& choice : *kind.choices) {
      kind.selectors.push_back(index.Acquire(choice.selector));
      kind.needs_gpus = kind.needs_gpus || choice.resources.gpus > 0;
    }
    shape.needs_gpus = shape.needs_gpus || kind.needs_gpus;
    shape.kinds.push_back(std::move(kind));
  }
  std::stable_sort(shape.kinds.begin(), shape.kinds.end(),
                   [](const BundleKind& a, const BundleKind& b) { return SizeOf(b) < SizeOf(a); });
  for (const Level& level : strategy.empty() ? Strategy{Level{}} : strategy) {
    LevelPlan plan{.level = level};
    if (!level.same.empty()) plan.same_key = topology.Acquire(level.same);
    if (!level.spread.empty()) plan.spread_key = topology.Acquire(level.spread);
    shape.levels.push_back(std::move(plan));
  }
  return shape;
}

}  // namespace

std::unique_ptr<GroupPlan> MakeGroupPlan(const RequestSpec& spec, SelectorIndex& index,
                                         Topology& topology) {
  auto plan = std::make_unique<GroupPlan>();
  plan->cluster_key = topology.Acquire("");
  plan->choices_open = !spec.is_group();
  plan->anywhere = !spec.is_group() && spec.strategy.empty();
  if (plan->choices_open) {
    const std::vector<const std::vector<Choice>*> equal(static_cast<size_t>(spec.bundles),
                                                        &spec.choices);
    plan->shapes.push_back(PlanOf(equal, spec.strategy, index, topology));
    return plan;
  }
  for (const GroupShape& shape : spec.shapes) {
    std::vector<const std::vector<Choice>*> bundles;
    for (const BundleSpec& bundle : shape.bundles) bundles.push_back(&bundle.choices);
    plan->shapes.push_back(PlanOf(bundles, shape.strategy, index, topology));
  }
  return plan;
}

void ReleaseGroupPlan(const GroupPlan& plan, SelectorIndex& index, Topology& topology) {
  topology.Release(plan.cluster_key);
  for (const ShapePlan& shape : plan.shapes) {
    for (const BundleKind& kind : shape.kinds) {
      for (const int selector : kind.selectors) index.Release(selector);
    }
    for (const LevelPlan& level : shape.levels) {
      if (level.same_key >= 0) topology.Release(level.same_key);
      if (level.spread_key >= 0) topology.Release(level.spread_key);
    }
  }
}

Resources LeastOf(const GroupPlan& plan, int open) {
  const auto lower = [](Resources& least, const Resources& other) {
    least.cpus = std::min(least.cpus, other.cpus);
    least.gpus = std::min(least.gpus, other.gpus);
    least.memory_bytes = std::min(least.memory_bytes, other.memory_bytes);
  };
  std::optional<Resources> least;
  const size_t shapes = plan.choices_open ? 1 : static_cast<size_t>(open);
  for (size_t i = 0; i < shapes; ++i) {
    Resources all;
    for (const BundleKind& kind : plan.shapes[i].kinds) {
      const size_t choices = plan.choices_open ? static_cast<size_t>(open) : kind.choices->size();
      Resources one = kind.choices->front().resources;
      for (size_t j = 1; j < choices; ++j) lower(one, (*kind.choices)[j].resources);
      const int64_t bundles = static_cast<int64_t>(kind.bundles.size());
      all.cpus += one.cpus * bundles;
      all.gpus += one.gpus * bundles;
      all.memory_bytes += one.memory_bytes * bundles;
    }
    if (!least) least = all;
    lower(*least, all);
  }
  return least.value_or(Resources{});
}

const Choice& ChoiceOf(const RequestSpec& spec, int shape, int bundle, int choice) {
  return spec.is_group() ? spec.shapes[shape].bundles[bundle].choices[choice]
                         : spec.choices[choice];
}

int BundlesOf(const RequestSpec& spec, int shape) {
  return spec.is_group() ? static_cast<int>(spec.shapes[shape].bundles.size()) : spec.bundles;
}

}  // namespace muster::sched
