#include "tests/sim/sim_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/choice.h"

namespace muster::sim {
namespace {

constexpr int64_t kUnit = 10000;
constexpr int64_t kGiB = int64_t{1} << 30;

v1::NodeResources MakeWorker(int64_t cpus, int64_t gpus, int64_t licenses) {
  v1::NodeResources total;
  total.set_cpus(cpus * kUnit);
  total.set_memory_bytes(16 * kGiB);
  for (int64_t i = 0; i < gpus; ++i) total.add_gpus()->set_id(absl::StrCat("GPU-", i));
  if (licenses > 0) {
    v1::NamedAmount& custom = *total.add_custom();
    custom.set_name("license");
    custom.set_amount(licenses * kUnit);
  }
  return total;
}

void AddLabel(google::protobuf::RepeatedPtrField<v1::Entry>& entries, const std::string& key,
              const std::string& value) {
  v1::Entry& entry = *entries.Add();
  entry.set_key(key);
  entry.set_value(value);
}

std::vector<v1::Entry> MakeLabels(const std::string& accelerator, const std::string& market) {
  google::protobuf::RepeatedPtrField<v1::Entry> entries;
  AddLabel(entries, "ray.io/accelerator-type", accelerator);
  AddLabel(entries, "ray.io/market-type", market);
  return {entries.begin(), entries.end()};
}

v1::Choice MakeChoice(int64_t cpus, int64_t gpus, int64_t memory = 0, int64_t licenses = 0) {
  v1::Choice choice;
  v1::Resources& resources = *choice.mutable_resources();
  resources.set_cpus(cpus);
  resources.set_gpus(gpus);
  resources.set_memory_bytes(memory);
  if (licenses > 0) {
    v1::NamedAmount& custom = *resources.add_custom();
    custom.set_name("license");
    custom.set_amount(licenses);
  }
  choice.set_advance_on(sched::kDefaultAdvanceOn);
  return choice;
}

v1::Choice On(v1::Choice choice, const std::string& key, const std::string& value) {
  AddLabel(*choice.mutable_selector(), key, value);
  return choice;
}

}  // namespace

SimPlan DrawPlan(Prng& prng) {
  SimPlan plan;
  const int64_t workers = prng.Between(1, 5);
  for (int64_t i = 0; i < workers; ++i) {
    plan.workers.push_back(MakeWorker(prng.Between(1, 6), prng.Percent(50) ? prng.Between(1, 4) : 0,
                                      prng.Between(0, 2)));
    plan.labels.push_back(
        MakeLabels(prng.Percent(50) ? "H100" : "L4", prng.Percent(50) ? "spot" : "on-demand"));
  }
  plan.small = prng.Percent(20);
  plan.burst = prng.Percent(20);
  plan.drivers = static_cast<int>(prng.Between(1, 3));
  plan.tasks_per_driver = static_cast<int>(prng.Between(10, plan.burst ? 200 : 100));
  plan.load_time = prng.Between(absl::Seconds(2), absl::Seconds(30));
  plan.delay_max = prng.Between(absl::Microseconds(20), absl::Milliseconds(20));
  plan.node_timeout = prng.Between(absl::Seconds(2), absl::Seconds(10));
  plan.idle_lease = prng.Between(absl::ZeroDuration(), absl::Seconds(1));
  plan.reconnect_timeout =
      prng.Percent(20) ? prng.Between(absl::Seconds(1), absl::Seconds(5)) : absl::Seconds(60);
  if (prng.Percent(50)) plan.requests_max = static_cast<size_t>(prng.Between(1, 4));
  if (prng.Percent(50)) plan.tasks_per_push_max = static_cast<size_t>(prng.Between(1, 4));
  if (prng.Percent(10)) plan.queued_tasks_max = static_cast<size_t>(prng.Between(1, 20));
  plan.idle_executors_max = static_cast<int>(prng.Between(0, 4));
  plan.sharing.preemption = prng.Percent(50);
  plan.placement = static_cast<sched::PlacementPolicy>(prng.Below(3));
  plan.sharing.preemption_grace = prng.Between(absl::ZeroDuration(), absl::Seconds(2));
  plan.sharing.ordering = prng.Percent(70) ? sched::Ordering::kFair : sched::Ordering::kFifo;
  if (prng.Percent(50)) plan.sharing.backfill = static_cast<sched::Backfill>(prng.Below(4));
  plan.sharing.duration_default = prng.Between(absl::Milliseconds(10), absl::Seconds(10));
  if (prng.Percent(30)) {
    plan.sharing.time_slice = prng.Between(absl::Milliseconds(100), absl::Seconds(3));
    if (prng.Percent(50)) {
      plan.sharing.recall_grace = prng.Between(absl::ZeroDuration(), absl::Seconds(2));
    }
  }
  plan.placement_groups = !plan.small && prng.Percent(50);
  plan.overtaken_max = static_cast<int>(prng.Between(0, 20));
  plan.reservation_after = prng.Between(absl::Milliseconds(100), absl::Seconds(10));
  if (!plan.small && prng.Percent(30)) {
    // Wide enough for whatever is asked for by itself, and narrow enough to be reached.
    plan.quotas.push_back("gpus:tenant=t1,gpus=4,ray.io/accelerator-type=H100");
    if (prng.Percent(50)) plan.quotas.push_back("cpus:cpus=12");
  }
  if (prng.Percent(10)) return plan;  // Without any fault everything must end well.
  plan.link_loss = prng.Percent(60);
  plan.delay_spikes = prng.Percent(40);
  plan.data_loss = prng.Percent(40);
  plan.driver_crash = prng.Percent(40);
  plan.worker_crash = prng.Percent(50);
  plan.worker_freeze = prng.Percent(50);
  plan.worker_drain = prng.Percent(30);
  plan.operators = prng.Percent(30);
  plan.gpu_failure = prng.Percent(30);
  plan.sharing_changes = !plan.small && prng.Percent(40);
  plan.executor_crash = prng.Percent(60);
  plan.head_crash = prng.Percent(50);
  plan.start_failure = prng.Percent(30);
  plan.fault_interval = prng.Between(absl::Milliseconds(100), absl::Seconds(4));
  return plan;
}

std::string SimPlan::ToString() const {
  std::string text = absl::StrCat(
      workers.size(), " workers, ", drivers, " drivers, ", tasks_per_driver, " tasks each, load ",
      absl::FormatDuration(load_time), ", delay up to ", absl::FormatDuration(delay_max),
      ", requests_max ", requests_max, ", tasks_per_push_max ", tasks_per_push_max,
      ", queued_tasks_max ", queued_tasks_max, ", ", sched::ToString(sharing.ordering), ", ",
      sched::ToString(sharing.backfill), ", ", sched::ToString(placement),
      sharing.preemption ? ", preemption" : "",
      sharing.time_slice != absl::InfiniteDuration() ? ", time slices" : "",
      placement_groups ? ", placement groups" : "", quotas.empty() ? "" : ", quotas", "; faults:");
  const std::pair<bool, const char*> faults[] = {{link_loss, "link_loss"},
                                                 {delay_spikes, "delay_spikes"},
                                                 {data_loss, "data_loss"},
                                                 {driver_crash, "driver_crash"},
                                                 {worker_crash, "worker_crash"},
                                                 {worker_freeze, "worker_freeze"},
                                                 {worker_drain, "worker_drain"},
                                                 {operators, "operators"},
                                                 {gpu_failure, "gpu_failure"},
                                                 {executor_crash, "executor_crash"},
                                                 {head_crash, "head_crash"},
                                                 {start_failure, "start_failure"},
                                                 {sharing_changes, "sharing_changes"}};
  for (const auto& [on, name] : faults) {
    if (on) absl::StrAppend(&text, " ", name);
  }
  if (!any_fault()) absl::StrAppend(&text, " none");
  return text;
}

v1::NodeResources BigWorker() { return MakeWorker(8, 4, 4); }
std::vector<v1::Entry> BigLabels() { return MakeLabels("H100", "on-demand"); }

DrawnSpec DrawReturning(Prng& prng) {
  DrawnSpec drawn;
  v1::RequestSpec& spec = drawn.spec;
  if (prng.Percent(50)) {
    *spec.add_choices() =
        On(MakeChoice(kUnit, 0), "ray.io/market-type", prng.Percent(50) ? "spot" : "on-demand");
  } else {
    *spec.add_choices() = MakeChoice(2 * kUnit, 0);
  }
  *spec.add_choices() = MakeChoice(kUnit, 0);
  v1::ReturnToPreferred& back = *spec.mutable_return_to_preferred();
  back.set_moves(static_cast<uint32_t>(prng.Between(1, 3)));
  back.set_after_ns(
      absl::ToInt64Nanoseconds(prng.Between(absl::ZeroDuration(), absl::Milliseconds(500))));
  if (prng.Percent(80)) {
    back.set_grace_ns(
        absl::ToInt64Nanoseconds(prng.Between(absl::Milliseconds(1), absl::Seconds(3))));
  }
  return drawn;
}

DrawnSpec DrawSpec(Prng& prng, bool small) {
  DrawnSpec drawn;
  v1::RequestSpec& spec = drawn.spec;
  spec.set_bundles(1);
  switch (small ? prng.Below(3) : prng.Below(12)) {
    case 0:
    case 1:
      *spec.add_choices() = MakeChoice(kUnit, 0);
      break;
    case 2:
      *spec.add_choices() = MakeChoice(kUnit / 2, 0);
      break;
    case 3:
      *spec.add_choices() = MakeChoice(2 * kUnit, 0, 4 * kGiB);
      break;
    case 4:
      *spec.add_choices() = MakeChoice(kUnit, kUnit);
      break;
    case 5:
      *spec.add_choices() = MakeChoice(0, 3000);
      break;
    case 6:
      *spec.add_choices() = MakeChoice(kUnit, 2 * kUnit);
      break;
    case 7:
      *spec.add_choices() = MakeChoice(kUnit, 0, 0, kUnit);
      break;
    case 8: {
      *spec.add_choices() = On(MakeChoice(kUnit, 0), "ray.io/market-type", "spot");
      *spec.add_choices() = On(MakeChoice(kUnit, 0), "ray.io/market-type", "on-demand");
      break;
    }
    case 9: {
      *spec.add_choices() = On(MakeChoice(kUnit, 2 * kUnit), "ray.io/accelerator-type", "L4");
      v1::Choice second = On(MakeChoice(kUnit, kUnit), "ray.io/accelerator-type", "H100");
      second.set_after_ns(
          absl::ToInt64Nanoseconds(prng.Between(absl::ZeroDuration(), absl::Seconds(3))));
      if (prng.Percent(50)) second.set_advance_on(15);
      *spec.add_choices() = std::move(second);
      break;
    }
    case 10:
      *spec.add_choices() = On(MakeChoice(kUnit, 0), "ray.io/market-type", "nowhere");
      drawn.nowhere = true;
      break;
    default:
      *spec.add_choices() = MakeChoice(0, 0);
      break;
  }
  spec.set_priority(prng.Percent(20) ? 1 : 0);
  spec.set_fail_if_infeasible(prng.Percent(20));
  spec.set_not_preemptible(prng.Percent(20));
  if (prng.Percent(30)) {
    spec.set_placement(std::vector<std::string>{"pack", "best-fit", "spread"}[prng.Below(3)]);
  }
  if (prng.Percent(30)) {
    spec.set_expected_duration_ns(
        absl::ToInt64Nanoseconds(prng.Between(absl::Milliseconds(1), absl::Seconds(5))));
  }
  return drawn;
}

v1::RequestSpec DrawPlacementGroup(Prng& prng) {
  const std::vector<std::vector<std::string>> strategies = {
      {},
      {"strict_pack"},
      {"spread"},
      {"strict_spread", "pack"},
      {"spread(ray.io/market-type)", "pack"},
      {"same(ray.io/accelerator-type)+spread", "pack"}};
  v1::RequestSpec spec;
  spec.set_bundles(1);
  spec.set_name("bundles");
  for (int64_t shapes = prng.Between(1, 2); shapes > 0; --shapes) {
    v1::GroupShape& shape = *spec.add_shapes();
    if (spec.shapes_size() > 1) {
      shape.set_after_ns(
          absl::ToInt64Nanoseconds(prng.Between(absl::ZeroDuration(), absl::Seconds(2))));
    }
    shape.set_advance_on(prng.Percent(50) ? 15 : sched::kDefaultAdvanceOn);
    for (const std::string& level : strategies[prng.Below(strategies.size())]) {
      shape.add_strategy(level);
    }
    int64_t gpus = 4;  // Of the big worker, as its 8 CPUs are.
    for (int64_t kinds = prng.Between(1, 2); kinds > 0; --kinds) {
      v1::BundleSpec& bundle = *shape.add_bundles();
      bundle.set_count(static_cast<uint32_t>(prng.Between(1, 2)));
      const bool gpu = prng.Percent(30) && gpus >= bundle.count();
      if (gpu) gpus -= bundle.count();
      if (prng.Percent(30)) {  // Falls back to any node.
        *bundle.add_choices() =
            On(MakeChoice(kUnit, gpu ? kUnit : 0), "ray.io/market-type", "spot");
      }
      *bundle.add_choices() = MakeChoice(kUnit, gpu ? kUnit : 0);
    }
  }
  // None preempts: seed 7 with priorities has a preempted task that pays with an attempt.
  spec.set_priority(prng.Percent(30) ? -1 : 0);
  spec.set_not_preemptible(prng.Percent(30));
  if (prng.Percent(30)) {
    spec.set_expected_duration_ns(
        absl::ToInt64Nanoseconds(prng.Between(absl::Milliseconds(1), absl::Seconds(5))));
  }
  return spec;
}

v1::RequestSpec InsideSpec(uint64_t group, int bundle) {
  v1::RequestSpec spec;
  spec.set_bundles(1);
  spec.set_name("inside");
  *spec.add_choices() = MakeChoice(kUnit / 2, 0);
  spec.mutable_inside()->set_request(group);
  spec.mutable_inside()->set_bundle(bundle);
  return spec;
}

}  // namespace muster::sim
