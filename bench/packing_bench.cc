// How much of a cluster's GPUs a placement policy fills: replays lists of pods, as in the traces of
// Alibaba's "openb" cluster, through the real scheduler.
//
//   packing_bench [--data DIR] [--workload NAME] [--policy NAME|all] [--seeds 10]
//                 [--first-seed 1] [--made-up 1]
//
// DIR has one CSV file with "node_list" in its name (sn,cpu_milli,memory_mib,gpu,model) and some
// with "pod_list_" in theirs (name,cpu_milli,memory_mib,num_gpu,gpu_milli and perhaps gpu_spec);
// NAME is what follows "pod_list_". Without --data a cluster and pods are made up; --made-up says
// which. One line of JSON for each workload and policy.
//
// A run: the pods in shuffled order, and more of them, drawn with replacement, until they ask for
// 130 % of all GPUs. Nothing ends. A pod that fits nowhere is counted and forgotten. The model is a
// node's label ray.io/accelerator-type, gpu_spec an in(...) over it, a share of a GPU a fraction.
//
// Reported: the part of all GPUs that is allocated once pods have asked for 50, 51, ... 130 %, in
// percent, the mean over the seeds; the time of a decision, the Step() of one pod: the median over
// all of a run's and the median of the runs, and the mean likewise.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/chance.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

constexpr int kDemandFirst = 50;  // Percent.
constexpr int kDemandLast = 130;
constexpr int64_t kMib = int64_t{1} << 20;
constexpr uint64_t kSeedsApart = 0xD1342543DE82EF95u;  // Seeds are small numbers.

struct Workload {
  std::string name{};
  std::vector<NodeJoined> nodes{};
  std::vector<SpecHandle> specs{};
  std::vector<int> pods{};  // Of specs.
  int64_t gpus = 0;         // 1/10000, of all nodes.
};

// --- Reading ---

struct Table {
  std::map<std::string, size_t> column{};
  std::vector<std::vector<std::string>> rows{};
  const std::string& At(size_t row, const char* name) const {
    static const std::string empty;
    const auto found = column.find(name);
    return found == column.end() || found->second >= rows[row].size() ? empty
                                                                      : rows[row][found->second];
  }
  int64_t Int(size_t row, const char* name) const {
    int64_t value = 0;
    if (!absl::SimpleAtoi(At(row, name), &value) || value < 0) {
      std::cerr << "packing_bench: row " << row + 2 << ": " << name << " is \"" << At(row, name)
                << "\", not a number\n";
      std::exit(1);
    }
    return value;
  }
};

Table ReadTable(const std::filesystem::path& path, const std::vector<const char*>& columns) {
  Table table;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  for (const absl::string_view name : absl::StrSplit(line, ',')) {
    table.column.emplace(std::string(absl::StripAsciiWhitespace(name)), table.column.size());
  }
  for (const char* name : columns) {
    if (table.column.count(name) > 0) continue;
    std::cerr << "packing_bench: " << path << " has no column " << name << "\n";
    std::exit(1);
  }
  while (std::getline(file, line)) {
    std::vector<std::string> row;
    for (const absl::string_view field : absl::StrSplit(line, ',')) {
      row.emplace_back(absl::StripAsciiWhitespace(field));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

NodeJoined NodeOf(uint64_t id, int64_t cpu_milli, int64_t memory_mib, int gpus,
                  const std::string& model) {
  NodeJoined node{.node = {id}, .name = absl::StrCat("n", id)};
  node.labels = {{"ray.io/accelerator-type", model}};
  node.total.cpus = cpu_milli * Amount::kUnit / 1000;
  node.total.memory_bytes = memory_mib * kMib;
  node.total.gpu_devices = gpus;
  return node;
}

struct Pod {
  int64_t cpu_milli = 0;
  int64_t memory_mib = 0;
  int64_t num_gpu = 0;
  int64_t gpu_milli = 0;
  std::string models{};  // "T4|P100"; empty: any.
  friend bool operator<(const Pod& a, const Pod& b) {
    return std::tie(a.cpu_milli, a.memory_mib, a.num_gpu, a.gpu_milli, a.models) <
           std::tie(b.cpu_milli, b.memory_mib, b.num_gpu, b.gpu_milli, b.models);
  }
};

SpecHandle SpecOf(const Pod& pod) {
  Choice choice;
  if (!pod.models.empty()) {
    const std::vector<std::string> models = absl::StrSplit(pod.models, '|');
    choice.selector = *LabelSelector::Parse(
        {{"ray.io/accelerator-type", absl::StrCat("in(", absl::StrJoin(models, ","), ")")}});
  }
  choice.resources.cpus = pod.cpu_milli * Amount::kUnit / 1000;
  choice.resources.memory_bytes = pod.memory_mib * kMib;
  choice.resources.gpus = pod.num_gpu == 1 && pod.gpu_milli < 1000
                              ? pod.gpu_milli * Amount::kUnit / 1000
                              : pod.num_gpu * Amount::kUnit;
  RequestSpec spec;
  spec.choices = {std::move(choice)};
  return spec;
}

// Pods that are alike are one class, as tasks of one function are.
void AddPods(const std::vector<Pod>& pods, Workload& workload) {
  std::map<Pod, int> numbers;
  for (const Pod& pod : pods) {
    const auto [found, added] = numbers.emplace(pod, static_cast<int>(workload.specs.size()));
    if (added) workload.specs.push_back(SpecOf(pod));
    workload.pods.push_back(found->second);
  }
  for (const NodeJoined& node : workload.nodes) {
    workload.gpus += node.total.gpu_devices * Amount::kUnit;
  }
}

std::vector<Workload> ReadFolder(const std::string& folder, const std::string& wanted) {
  std::vector<std::filesystem::path> node_lists, pod_lists;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!absl::EndsWith(name, ".csv")) continue;
    if (absl::StrContains(name, "node_list")) node_lists.push_back(entry.path());
    if (absl::StrContains(name, "pod_list_")) pod_lists.push_back(entry.path());
  }
  std::sort(pod_lists.begin(), pod_lists.end());
  if (node_lists.size() != 1 || pod_lists.empty()) {
    std::cerr << "packing_bench: " << folder << " has " << node_lists.size()
              << " files *node_list*.csv, not one, and " << pod_lists.size()
              << " *pod_list_*.csv\n";
    std::exit(1);
  }
  std::vector<NodeJoined> nodes;
  const Table table = ReadTable(node_lists[0], {"cpu_milli", "memory_mib", "gpu", "model"});
  for (size_t row = 0; row < table.rows.size(); ++row) {
    nodes.push_back(NodeOf(row + 1, table.Int(row, "cpu_milli"), table.Int(row, "memory_mib"),
                           static_cast<int>(table.Int(row, "gpu")), table.At(row, "model")));
  }
  std::vector<Workload> workloads;
  for (const std::filesystem::path& path : pod_lists) {
    const std::string stem = path.stem().string();
    Workload workload{.name = stem.substr(stem.find("pod_list_") + 9), .nodes = nodes};
    if (!wanted.empty() && workload.name != wanted) continue;
    const Table list = ReadTable(path, {"cpu_milli", "memory_mib", "num_gpu", "gpu_milli"});
    std::vector<Pod> pods;
    for (size_t row = 0; row < list.rows.size(); ++row) {
      pods.push_back({.cpu_milli = list.Int(row, "cpu_milli"),
                      .memory_mib = list.Int(row, "memory_mib"),
                      .num_gpu = list.Int(row, "num_gpu"),
                      .gpu_milli = list.Int(row, "gpu_milli"),
                      .models = list.At(row, "gpu_spec")});
    }
    AddPods(pods, workload);
    workloads.push_back(std::move(workload));
  }
  return workloads;
}

// A cluster of 2 to 5 models and 200 nodes, and 2,000 pods of 16 to 55 shapes, a few of them
// frequent: shares, one GPU, or several; up to 40 % of the shapes name one or two models.
Workload MakeUp(int variant) {
  Chance chance((static_cast<uint64_t>(variant) + 1000) * kSeedsApart);
  Workload workload{.name = absl::StrCat("made-up-", variant)};
  const int models = 2 + chance.Below(4);
  std::vector<Pod> kinds;
  for (int model = 0; model < models; ++model) {
    const int gpus = 1 << (1 + chance.Below(3));
    kinds.push_back({.cpu_milli = gpus * (6000 + 2000 * chance.Below(8)),
                     .memory_mib = gpus * (int64_t{16} << (10 + chance.Below(3))),
                     .num_gpu = gpus,
                     .models = absl::StrCat("model-", model)});
  }
  for (uint64_t id = 1; id <= 200; ++id) {
    const int draw = chance.Below(models * models);
    const Pod& kind = kinds[static_cast<size_t>(draw % models * (draw / models) / models)];
    workload.nodes.push_back(
        NodeOf(id, kind.cpu_milli, kind.memory_mib, static_cast<int>(kind.num_gpu), kind.models));
  }
  const int constrained = chance.Below(41);
  const int shared = chance.Below(101);
  std::vector<Pod> shapes;
  for (int count = 16 + chance.Below(40); count > 0; --count) {
    const bool share = chance.Below(100) < shared;
    const int gpus = share || chance.Below(2) == 0 ? 1 : 1 << chance.Below(4);
    Pod shape{.cpu_milli = gpus * (1000 + 1000 * chance.Below(14)),
              .memory_mib = gpus * (int64_t{2} << (10 + chance.Below(4))),
              .num_gpu = gpus,
              .gpu_milli = share ? 50 * (1 + chance.Below(19)) : 1000};
    if (chance.Below(100) < constrained) {
      shape.models = absl::StrCat("model-", chance.Below(models));
      if (chance.Below(3) == 0) absl::StrAppend(&shape.models, "|model-", chance.Below(models));
    }
    shapes.push_back(std::move(shape));
  }
  std::vector<Pod> pods;
  for (int i = 0; i < 2000; ++i) {
    const int of = chance.Below(static_cast<int>(shapes.size()));
    pods.push_back(shapes[static_cast<size_t>(chance.Below(of + 1))]);
  }
  AddPods(pods, workload);
  return workload;
}

// --- Replaying ---

// The peer in the tree: the first node, in order of id, that has room.
class FirstFit {
 public:
  explicit FirstFit(const Workload& workload) {
    for (const NodeJoined& node : workload.nodes) {
      nodes_.push_back({.labels = node.labels, .free = Capacity(node.total)});
    }
  }
  bool Place(const RequestSpec& spec) {
    const Choice& choice = spec.choices[0];
    for (Entry& node : nodes_) {
      if (!node.free.Fits(choice.resources) || !choice.selector.Matches(node.labels)) continue;
      node.free.Take(choice.resources);
      return true;
    }
    return false;
  }

 private:
  struct Entry {
    Labels labels{};
    Capacity free;
  };
  std::vector<Entry> nodes_;
};

class RealScheduler {
 public:
  RealScheduler(const Workload& workload, PlacementPolicy policy)
      : scheduler_({.placement = policy, .idle_classes_kept = 8192, .decisions_kept = 0}) {
    for (const NodeJoined& node : workload.nodes) Step(node);
  }
  bool Place(const SpecHandle& spec) {
    const RequestId id{++last_};
    Step(Requested{.request = id, .spec = spec});
    if (!actions_.empty() && std::holds_alternative<Grant>(actions_[0])) return true;
    waits_ = id;
    return false;
  }
  void Forget() { Step(RequestCancelled{.request = waits_}); }

 private:
  template <typename What>
  void Step(What what) {
    actions_.clear();
    event_.what = std::move(what);
    scheduler_.Step(event_, actions_);
  }
  Scheduler scheduler_;
  Event event_{.at = absl::UnixEpoch(), .what = Tick{}};
  std::vector<Action> actions_;
  RequestId waits_{};
  uint64_t last_ = 0;
};

struct Result {
  std::vector<double> allocated{};  // By demand.
  double median_ns = 0;
  double mean_ns = 0;
};

Result Replay(const Workload& workload, const std::string& policy, uint64_t seed) {
  Chance chance(seed * kSeedsApart);
  std::vector<int> pods = workload.pods;
  for (size_t i = pods.size(); i > 1; --i) {
    std::swap(pods[i - 1], pods[static_cast<size_t>(chance.Below(static_cast<int>(i)))]);
  }
  const bool real = policy != "first-fit";
  FirstFit first_fit(workload);
  RealScheduler scheduler(workload, real ? *ParsePlacementPolicy(policy) : PlacementPolicy::kPack);
  Result result;
  std::vector<double> times;
  int64_t asked = 0;
  int64_t allocated = 0;
  int next = kDemandFirst;
  for (size_t i = 0; next <= kDemandLast; ++i) {
    const int pod =
        i < pods.size()
            ? pods[i]
            : workload
                  .pods[static_cast<size_t>(chance.Below(static_cast<int>(workload.pods.size())))];
    const SpecHandle& spec = workload.specs[static_cast<size_t>(pod)];
    const auto start = std::chrono::steady_clock::now();
    const bool placed = real ? scheduler.Place(spec) : first_fit.Place(*spec);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count());
    if (real && !placed) scheduler.Forget();
    asked += spec->choices[0].resources.gpus;
    if (placed) allocated += spec->choices[0].resources.gpus;
    for (; next <= kDemandLast && asked * 100 >= workload.gpus * next; ++next) {
      result.allocated.push_back(100.0 * static_cast<double>(allocated) /
                                 static_cast<double>(workload.gpus));
    }
  }
  for (const double time : times) result.mean_ns += time / static_cast<double>(times.size());
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2),
                   times.end());
  result.median_ns = times[times.size() / 2];
  return result;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Report(const Workload& workload, const std::string& policy, int first_seed, int seeds) {
  std::vector<double> allocated(kDemandLast - kDemandFirst + 1);
  std::vector<double> medians, means;
  for (int seed = first_seed; seed < first_seed + seeds; ++seed) {
    const Result result = Replay(workload, policy, static_cast<uint64_t>(seed));
    for (size_t i = 0; i < allocated.size(); ++i) allocated[i] += result.allocated[i] / seeds;
    medians.push_back(result.median_ns);
    means.push_back(result.mean_ns);
  }
  std::cout << absl::StrCat("{\"workload\": \"", workload.name, "\", \"policy\": \"", policy,
                            "\", \"seeds\": ", seeds, ", \"first_seed\": ", first_seed,
                            ", \"nodes\": ", workload.nodes.size(),
                            ", \"gpus\": ", workload.gpus / Amount::kUnit,
                            ", \"classes\": ", workload.specs.size(),
                            ", \"median_ns\": ", absl::StrFormat("%.0f", Median(medians)),
                            ", \"mean_ns\": ", absl::StrFormat("%.0f", Median(means)),
                            ", \"demand_first\": ", kDemandFirst, ", \"allocated\": [",
                            absl::StrJoin(allocated, ", ",
                                          [](std::string* out, double value) {
                                            absl::StrAppendFormat(out, "%.3f", value);
                                          }),
                            "]}")
            << std::endl;
}

int Main(int argc, char** argv) {
  std::string data, wanted, policy = "all";
  int seeds = 10;
  int first_seed = 1;
  int variant = 1;
  bool good = argc % 2 == 1;
  for (int i = 1; good && i < argc; i += 2) {
    const std::string flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--data") {
      data = value;
    } else if (flag == "--workload") {
      wanted = value;
    } else if (flag == "--policy") {
      policy = value;
    } else if (flag == "--seeds") {
      good = absl::SimpleAtoi(value, &seeds) && seeds > 0;
    } else if (flag == "--first-seed") {
      good = absl::SimpleAtoi(value, &first_seed) && first_seed >= 0;
    } else if (flag == "--made-up") {
      good = absl::SimpleAtoi(value, &variant) && variant >= 0;
    } else {
      good = false;
    }
  }
  const std::vector<std::string> policies = {"pack", "best-fit", "spread", "first-fit"};
  if (policy != "all" && std::find(policies.begin(), policies.end(), policy) == policies.end()) {
    good = false;
  }
  if (!good) {
    std::cerr << "packing_bench [--data DIR] [--workload NAME] [--policy NAME|all] [--seeds 10] "
                 "[--first-seed 1] [--made-up 1]\n";
    return 2;
  }
  std::vector<Workload> workloads;
  if (data.empty()) {
    workloads.push_back(MakeUp(variant));
  } else {
    workloads = ReadFolder(data, wanted);
  }
  if (workloads.empty()) {
    std::cerr << "packing_bench: there is no workload " << wanted << " in " << data << "\n";
    return 1;
  }
  for (const Workload& workload : workloads) {
    for (const std::string& one : policies) {
      if (policy == "all" || policy == one) Report(workload, one, first_seed, seeds);
    }
  }
  return 0;
}

}  // namespace
}  // namespace muster::sched

int main(int argc, char** argv) { return muster::sched::Main(argc, argv); }
