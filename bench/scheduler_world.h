// The cluster and the load that scheduler_bench measures: nodes with 8 GPUs and 8 labels, classes
// of requests with 1 to 8 choices, and a driver that keeps the cluster at a given fullness.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/chance.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::bench {

inline constexpr int kGpusPerNode = 8;

// Accelerator 8 values, market 2, zone 12 in 4 regions, group 8, team 16; racks of 16 nodes and
// NVLink domains of 18. `draw` changes what is not given by where the node stands.
inline sched::Labels LabelsOf(uint64_t node, uint64_t draw = 0) {
  static const char* const kAccelerators[] = {"H200", "H100", "A100", "L40S",
                                              "L4",   "T4",   "V100", "B200"};
  Chance chance(node * 1000 + draw);
  const int zone = static_cast<int>(node / 16 % 12);
  return {{"ray.io/accelerator-type", kAccelerators[chance.Below(8)]},
          {"ray.io/market-type", chance.Percent(50) ? "spot" : "on-demand"},
          {"region", absl::StrCat("region-", zone % 4)},
          {"zone", absl::StrCat("zone-", zone)},
          {"rack", absl::StrCat("rack-", node / 16)},
          {"ray.io/gpu-domain", absl::StrCat("nvlink-", node / 18)},
          {"ray.io/node-group", absl::StrCat("group-", chance.Below(8))},
          {"team", absl::StrCat("team-", chance.Below(16))}};
}

inline sched::NodeResources TotalOf() {
  sched::NodeResources total;
  total.cpus = 64 * sched::Amount::kUnit;
  total.gpu_devices = kGpusPerNode;
  total.memory_bytes = int64_t{512} << 30;
  return total;
}

// "in(zone-3,zone-7)", "!in(...)".
inline std::string SomeOf(Chance& chance, const std::string& prefix, int values, int count,
                          bool negated) {
  std::string text = negated ? "!in(" : "in(";
  for (int i = 0; i < count; ++i) {
    absl::StrAppend(&text, i > 0 ? "," : "", prefix, chance.Below(values));
  }
  return text + ")";
}

// One to three requirements, as people write them: mostly accelerators and market or place, at
// times a team, a group, a rack or an NVLink domain; in, !in and exists.
inline std::string RandomSelector(Chance& chance, int nodes) {
  static const char* const kAccelerators[] = {"H200", "H100", "A100", "L40S",
                                              "L4",   "T4",   "V100", "B200"};
  std::vector<std::string> parts;
  if (chance.Percent(70)) {
    std::string text = absl::StrCat("ray.io/accelerator-type=in(", kAccelerators[chance.Below(8)]);
    if (chance.Percent(50)) absl::StrAppend(&text, ",", kAccelerators[chance.Below(8)]);
    parts.push_back(text + ")");
  } else if (chance.Percent(50)) {
    parts.push_back(absl::StrCat("ray.io/accelerator-type=!", kAccelerators[chance.Below(8)]));
  }
  if (chance.Percent(50)) {
    parts.push_back(chance.Percent(70) ? "ray.io/market-type=spot" : "ray.io/market-type=!spot");
  }
  switch (chance.Below(12)) {
    case 0:
    case 1:
      parts.push_back("zone=" + SomeOf(chance, "zone-", 12, 1 + chance.Below(3), false));
      break;
    case 2:
      parts.push_back("zone=" + SomeOf(chance, "zone-", 12, 1 + chance.Below(3), true));
      break;
    case 3:
    case 4:
      parts.push_back(absl::StrCat("region=region-", chance.Below(4)));
      break;
    case 5:
      parts.push_back("team=" + SomeOf(chance, "team-", 16, 1 + chance.Below(4), false));
      break;
    case 6:
      parts.push_back("team=" + SomeOf(chance, "team-", 16, 1 + chance.Below(2), true));
      break;
    case 7:
      parts.push_back("ray.io/node-group=" +
                      SomeOf(chance, "group-", 8, 1 + chance.Below(2), false));
      break;
    case 8:
      parts.push_back("ray.io/gpu-domain=exists()");
      break;
    case 9:
      parts.push_back("rack=" + SomeOf(chance, "rack-", nodes / 16 + 1, 4, false));
      break;
    default:
      break;
  }
  std::string text;
  for (const std::string& part : parts) absl::StrAppend(&text, text.empty() ? "" : ",", part);
  return text;
}

// The last choice is a broad one, so that the cluster can be filled.
inline sched::RequestSpec RandomSpec(Chance& chance, int number, int choices, int nodes) {
  sched::RequestSpec spec;
  const int draw = chance.Below(100);
  const int gpus = draw < 60 ? 1 : draw < 80 ? 2 : draw < 92 ? 4 : 8;
  for (int i = 0; i < choices; ++i) {
    sched::Choice choice;
    const bool broad = i > 0 && i + 1 == choices;
    choice.selector = *sched::LabelSelector::ParseText(
        broad ? absl::StrCat("team=!team-", chance.Below(16)) : RandomSelector(chance, nodes));
    choice.resources.gpus = gpus * sched::Amount::kUnit;
    choice.resources.cpus = 4 * choice.resources.gpus;
    choice.resources.memory_bytes = gpus * (int64_t{16} << 30);
    spec.choices.push_back(std::move(choice));
  }
  spec.name = absl::StrCat("class-", number);
  return spec;
}

struct WorldOptions {
  int nodes = 100;
  int classes = 64;
  int choices = 0;  // 0: 1 to 8, drawn for each class.
};

class World {
 public:
  explicit World(WorldOptions options)
      : options_(options), chance_(options.nodes + options.classes) {
    for (int i = 0; i < options.classes; ++i) {
      const int choices = options.choices > 0 ? options.choices : 1 + chance_.Below(8);
      specs_.push_back(RandomSpec(chance_, i, choices, options.nodes));
    }
    waits_.resize(specs_.size());
  }

  void Join() {
    for (int i = 0; i < options_.nodes; ++i) JoinOne();
  }
  void JoinOne() {
    const uint64_t id = ++last_node_;
    Do(sched::NodeJoined{
        .node = {id}, .name = absl::StrCat("n", id), .labels = LabelsOf(id), .total = TotalOf()});
    nodes_.push_back(id);
  }

  // Requests of random classes until `percent` of all GPUs are in use; what would wait is
  // withdrawn.
  void FillTo(int percent) {
    target_ = int64_t{options_.nodes} * kGpusPerNode * percent / 100;
    while (used_ < target_) {
      const uint64_t id = Request(chance_.Below(options_.classes));
      if (!running_.empty() && running_.back().id == id) continue;
      Do(sched::RequestCancelled{.request = {id}});
      --waits_[waiting_.at(id)];
      waiting_.erase(id);
    }
  }

  // A lease that runs, drawn at random, ends. True: something that waited was granted.
  bool FinishOne() {
    const size_t which = static_cast<size_t>(chance_.Next() % running_.size());
    const Running ended = running_[which];
    running_[which] = running_.back();
    running_.pop_back();
    used_ -= ended.gpus;
    const size_t before = running_.size();
    Do(sched::LeaseFinished{.request = {ended.id}});
    return running_.size() > before;
  }

  // A request of a class that has none waiting yet, where there is one.
  void RequestOne() {
    int number = chance_.Below(options_.classes);
    for (int tries = 0; tries < 16 && waits_[number] > 0; ++tries) {
      number = chance_.Below(options_.classes);
    }
    Request(number);
  }

  uint64_t Request(int number) {
    const uint64_t id = ++last_request_;
    ++waits_[number];
    waiting_.emplace(id, number);
    Do(sched::Requested{.request = {id}, .spec = specs_[number]});
    return id;
  }

  // A node changes some labels, or leaves with all its leases and another comes.
  void Relabel() {
    const uint64_t id = nodes_[static_cast<size_t>(chance_.Next() % nodes_.size())];
    Do(sched::NodeChanged{.node = {id}, .labels = LabelsOf(id, ++draws_)});
  }
  void Replace() {
    const size_t which = static_cast<size_t>(chance_.Next() % nodes_.size());
    Do(sched::NodeLost{.node = {nodes_[which]}});
    nodes_[which] = nodes_.back();
    nodes_.pop_back();
    JoinOne();
  }

  template <typename What>
  void Do(What what) {
    event_.what = std::move(what);
    actions_.clear();
    before_step_ = Clock();
    scheduler_.Step(event_, actions_);
    after_step_ = Clock();
    for (const sched::Action& action : actions_) {
      if (const auto* grant = std::get_if<sched::Grant>(&action)) {
        const auto waited = waiting_.find(grant->request.value);
        if (waited != waiting_.end()) {
          --waits_[waited->second];
          waiting_.erase(waited);
        }
        const int gpus =
            static_cast<int>(grant->placements[0].resources.gpus / sched::Amount::kUnit);
        running_.push_back({.id = grant->request.value, .gpus = gpus});
        used_ += gpus;
      } else if (const auto* lost = std::get_if<sched::LeaseLost>(&action)) {
        for (size_t i = 0; i < running_.size(); ++i) {
          if (running_[i].id != lost->request.value) continue;
          used_ -= running_[i].gpus;
          running_[i] = running_.back();
          running_.pop_back();
          break;
        }
      }
    }
  }

  using ClockFunction = uint64_t (*)();
  ClockFunction Clock = [] { return uint64_t{0}; };
  uint64_t before_step() const { return before_step_; }
  uint64_t after_step() const { return after_step_; }

  bool full() const { return used_ >= target_; }
  size_t waiting() const { return waiting_.size(); }
  const std::vector<sched::SpecHandle>& specs() const { return specs_; }
  sched::Scheduler& scheduler() { return scheduler_; }

 private:
  struct Running {
    uint64_t id = 0;
    int gpus = 0;
  };

  const WorldOptions options_;
  Chance chance_;
  std::vector<sched::SpecHandle> specs_;
  sched::Scheduler scheduler_{{.idle_classes_kept = 8192}};
  sched::Event event_{.at = absl::UnixEpoch(), .what = sched::Tick{}};
  std::vector<sched::Action> actions_;
  std::vector<uint64_t> nodes_;
  std::vector<Running> running_;
  absl::flat_hash_map<uint64_t, int> waiting_;  // Request to class.
  std::vector<int> waits_;                      // By class: how many of it wait.
  int64_t used_ = 0;
  int64_t target_ = 0;
  uint64_t last_node_ = 0;
  uint64_t last_request_ = 0;
  uint64_t draws_ = 0;
  uint64_t before_step_ = 0;
  uint64_t after_step_ = 0;
};

}  // namespace muster::bench
