// The peer that scheduler_bench measures beside the scheduler: a scan in the shape that schedulers of
// this kind have (Ray's among them). Every node is looked at for every request: its labels are strings
// in a map, what fits is collected with its score and sorted, and the first is taken.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "scheduler/choice.h"
#include "scheduler/labels.h"

namespace muster::bench {

class NaiveScheduler {
 public:
  void Join(const sched::Labels& labels, const sched::NodeResources& total) {
    nodes_.push_back({.labels = labels,
                      .gpus = total.gpu_devices * sched::Amount::kUnit,
                      .cpus = total.cpus,
                      .memory = total.memory_bytes});
  }

  struct Held {
    size_t node = 0;
    int choice = 0;
  };
  std::optional<Held> Place(const sched::RequestSpec& spec) {
    for (size_t c = 0; c < spec.choices.size(); ++c) {
      const sched::Resources& needs = spec.choices[c].resources;
      std::vector<std::tuple<int64_t, int64_t, int64_t, size_t>> fitting;
      for (size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = nodes_[i];
        if (!spec.choices[c].selector.Matches(node.labels)) continue;
        if (node.gpus < needs.gpus || node.cpus < needs.cpus || node.memory < needs.memory_bytes) {
          continue;
        }
        fitting.emplace_back(node.gpus, node.cpus, node.memory, i);
      }
      if (fitting.empty()) continue;
      std::sort(fitting.begin(), fitting.end());
      const Held held{.node = std::get<3>(fitting[0]), .choice = static_cast<int>(c)};
      Change(held, spec, -1);
      return held;
    }
    return std::nullopt;
  }
  void Finish(const Held& held, const sched::RequestSpec& spec) { Change(held, spec, +1); }

 private:
  struct Node {
    sched::Labels labels;
    int64_t gpus = 0;
    int64_t cpus = 0;
    int64_t memory = 0;
  };
  void Change(const Held& held, const sched::RequestSpec& spec, int64_t sign) {
    const sched::Resources& needs = spec.choices[held.choice].resources;
    Node& node = nodes_[held.node];
    node.gpus += sign * needs.gpus;
    node.cpus += sign * needs.cpus;
    node.memory += sign * needs.memory_bytes;
  }

  std::vector<Node> nodes_;
};

}  // namespace muster::bench
