#include "scheduler/explain_words.h"

#include <algorithm>
#include <optional>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::sched {

std::string Plural(int64_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(count, " ", count == 1 ? one : many);
}

std::vector<Lack> Lacks(const Resources& needs, const Capacity& capacity,
                        const NodeResources& total) {
  std::vector<Lack> lacks;
  const auto amount = [&](absl::string_view one, absl::string_view many, int64_t need, int64_t free,
                          int64_t of) {
    lacks.push_back(
        {.kind = std::string(many),
         .text = absl::StrCat(AmountToText(need), " ", need > Amount::kUnit ? many : one, " (",
                              AmountToText(std::max(free, int64_t{0})), " of ", AmountToText(of),
                              " free)")});
  };
  if (needs.cpus > 0 && needs.cpus > capacity.cpus()) {
    amount("CPU", "CPUs", needs.cpus, capacity.cpus(), total.cpus);
  }
  if (!capacity.devices().Fits(needs.gpus)) {
    if (needs.gpus >= Amount::kUnit) {
      amount("GPU", "GPUs", needs.gpus, capacity.devices().empty_devices() * Amount::kUnit,
             total.gpu_devices * Amount::kUnit);
    } else {
      lacks.push_back({.kind = "GPUs",
                       .text = absl::StrCat(
                           AmountToText(needs.gpus), " GPU (",
                           total.gpu_devices == 0 ? "it has none)" : "no device has so much)")});
    }
  }
  if (needs.memory_bytes > capacity.memory_bytes()) {
    lacks.push_back({.kind = "memory",
                     .text = absl::StrCat(MemoryToText(needs.memory_bytes), " memory (",
                                          MemoryToText(capacity.memory_bytes()), " of ",
                                          MemoryToText(total.memory_bytes), " free)")});
  }
  for (const auto& [name, need] : needs.custom) {
    if (need <= capacity.custom(name)) continue;
    const auto has = total.custom.find(name);
    amount(name, name, need, capacity.custom(name), has == total.custom.end() ? 0 : has->second);
  }
  return lacks;
}

std::string LackText(const std::vector<Lack>& lacks) {
  return absl::StrJoin(lacks, " and ",
                       [](std::string* out, const Lack& lack) { absl::StrAppend(out, lack.text); });
}

std::string ShortNeeds(const Resources& needs) {
  Resources shown = needs;
  if (shown.gpus > 0 && shown.cpus <= Amount::kUnit) shown.cpus = 0;
  return ToText(shown);
}

std::string OwnNeeds(const Resources& needs, const Resources& primary) {
  if (needs == primary) return "";
  Resources own = needs;
  if (own.cpus == primary.cpus) own.cpus = 0;
  if (own.gpus == primary.gpus) own.gpus = 0;
  if (own.memory_bytes == primary.memory_bytes) own.memory_bytes = 0;
  for (const auto& [name, amount] : primary.custom) {
    const auto same = own.custom.find(name);
    if (same != own.custom.end() && same->second == amount) own.custom.erase(same);
  }
  return own == Resources{} ? absl::StrCat("only ", ToText(needs)) : ToText(own);
}

std::string ValuesThere(const Cluster& cluster, const std::string& key, size_t& distinct) {
  absl::btree_set<std::string> values;
  for (const Node* node : cluster.nodes()) {
    if (const std::string* value = node->labels.Find(key)) {
      values.insert(value->empty() ? "\"\"" : *value);
    }
  }
  distinct = values.size();
  std::vector<std::string> listed(values.begin(), values.end());
  const bool cut = listed.size() > kListedMax;
  if (cut) listed.resize(kListedMax);
  return absl::StrCat(absl::StrJoin(listed, ", "), cut ? ", ..." : "");
}

const LabelRequirement* CommonObstacle(const LabelSelector& selector,
                                       const std::vector<const Node*>& excluded) {
  for (const LabelRequirement& requirement : selector.requirements()) {
    const bool all = std::all_of(excluded.begin(), excluded.end(), [&](const Node* node) {
      return !requirement.Matches(node->labels.Find(requirement.key));
    });
    if (all) return &requirement;
  }
  return nullptr;
}

std::string WhyNoneMatches(const Cluster& cluster, const LabelSelector& selector) {
  if (cluster.nodes().empty()) return "there are no nodes";
  const std::vector<const Node*> all(cluster.nodes().begin(), cluster.nodes().end());
  if (const LabelRequirement* obstacle = CommonObstacle(selector, all)) {
    size_t distinct = 0;
    const std::string there = ValuesThere(cluster, obstacle->key, distinct);
    if (there.empty()) {
      return absl::StrCat("no node has a label ", ShortKey(obstacle->key));
    }
    const std::string wanted =
        obstacle->in.empty()
            ? absl::StrCat("passes ", ShortKey(obstacle->key), "=", obstacle->ToText())
            : absl::StrCat("has ", Alternatives(obstacle->in));
    return absl::StrCat("no node ", wanted, " (there is ", there, ")");
  }
  const Node* nearest = nullptr;
  size_t fewest = 0;
  for (const Node* node : cluster.nodes()) {
    size_t failed = 0;
    for (const LabelRequirement& requirement : selector.requirements()) {
      if (!requirement.Matches(node->labels.Find(requirement.key))) ++failed;
    }
    if (nearest == nullptr || failed < fewest) {
      nearest = node;
      fewest = failed;
    }
  }
  absl::string_view why;
  const std::optional<LabelSelector::Mismatch> mismatch = selector.FirstMismatch(nearest->labels);
  if (mismatch) why = ShortKey(mismatch->why);
  return absl::StrCat("no node has all of this; ", nearest->name, " comes nearest: ", why);
}

}  // namespace muster::sched
