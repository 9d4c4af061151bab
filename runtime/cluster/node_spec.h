// A NodeSpec says what one node (or `count` equal ones) of a local cluster has, as `muster up
// --node` and `muster up -f cluster.yaml` take it:
//
//   --node count=2,cpus=2,gpus=1,memory=8GiB,resource.license=2,ray.io/market-type=spot
//
//   nodes:
//   - {count: 2, cpus: 2, gpus: 1, memory: 8GiB, resource.license: 2, ray.io/market-type: spot}
//   head: {backfill: easy}   # Options of `muster head`, if need be.
//
// cpus, gpus, memory, count, name and resource.NAME are resources, all other keys are labels. What
// is left out the worker detects, but for gpus: nodes of one machine would count the same devices
// twice, so none then.
//
// Errors: kInvalidArgument naming the spec, the key and the value; kNotFound where the file cannot
// be read. Thread-safety: free functions and plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/worker/detect/custom_resources.h"
#include "scheduler/labels.h"

namespace muster::cluster {

inline constexpr int kLocalNodesMax = 1000;  // Of one local cluster.

struct NodeSpec {
  int count = 1;
  std::string name{};                          // As labels' values; empty: the worker makes one up.
  std::optional<int64_t> cpus = std::nullopt;  // 1/10000.
  int gpus = 0;                                // Pretended where the machine has none.
  std::optional<int64_t> memory_bytes = std::nullopt;
  worker::CustomResources custom{};
  sched::Labels labels{};  // Aliases added.
};

absl::StatusOr<NodeSpec> ParseNodeSpec(absl::string_view text);
absl::StatusOr<std::vector<NodeSpec>> ParseClusterYaml(const std::string& text);
absl::StatusOr<std::vector<NodeSpec>> ReadClusterFile(const std::string& path);
// Of the file's "head: {backfill: easy, quota: [a, b]}": "--backfill=easy", "--quota=a", ...
absl::StatusOr<std::vector<std::string>> ReadHeadOptions(const std::string& path);

// One spec for each node: `count` is 1 in all, and the nodes of a named spec are NAME-1, NAME-2,
// ... where there are several. Errors: a name that two nodes would bear, more than kLocalNodesMax
// nodes.
absl::StatusOr<std::vector<NodeSpec>> ExpandNodeSpecs(const std::vector<NodeSpec>& specs);

// The options of `muster worker` that say the same; count and name are not among them.
std::vector<std::string> WorkerOptions(const NodeSpec& spec);

}  // namespace muster::cluster
