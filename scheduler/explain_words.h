// The words of explanations: what a node lacks, and which labels nobody has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/cluster.h"
#include "scheduler/label_selector.h"
#include "scheduler/node.h"
#include "scheduler/resources.h"

namespace muster::sched {

inline constexpr size_t kListedMax = 5;  // Of a list in a sentence.

std::string Plural(int64_t count, absl::string_view one, absl::string_view many);  // "2 nodes"

struct Lack {
  std::string kind;  // "GPUs"
  std::string text;  // "1 GPU (0 of 1 free)"
};

// What `capacity` lacks of `needs`.
std::vector<Lack> Lacks(const Resources& needs, const Capacity& capacity,
                        const NodeResources& total);
std::string LackText(const std::vector<Lack>& lacks);  // Joined by "and".

// What a node is asked for, without the CPU that goes with a GPU.
std::string ShortNeeds(const Resources& needs);
// What is different from `primary`; empty: nothing.
std::string OwnNeeds(const Resources& needs, const Resources& primary);

// "L4, T4": the values that nodes have for a key, and how many; empty if none has it.
std::string ValuesThere(const Cluster& cluster, const std::string& key, size_t& distinct);

// The first requirement that every node of `excluded` fails; null if there is none.
const LabelRequirement* CommonObstacle(const LabelSelector& selector,
                                       const std::vector<const Node*>& excluded);

// "no node has H100 (there is L4, T4)". REQUIRES: no node matches.
std::string WhyNoneMatches(const Cluster& cluster, const LabelSelector& selector);

}  // namespace muster::sched
