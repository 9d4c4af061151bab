// The faults.

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

void ClusterSim::ScheduleFault() {
  // In this order: a seed's run depends on it.
  struct Fault {
    bool SimPlan::*in_plan;
    void (ClusterSim::*Happen)();
  };
  static constexpr Fault kFaults[] = {
      {&SimPlan::link_loss, &ClusterSim::LoseLink},
      {&SimPlan::delay_spikes, &ClusterSim::DelayAll},
      {&SimPlan::data_loss, &ClusterSim::LoseDataLink},
      {&SimPlan::driver_crash, &ClusterSim::CrashDriver},
      {&SimPlan::worker_crash, &ClusterSim::CrashWorker},
      {&SimPlan::worker_freeze, &ClusterSim::FreezeWorker},
      {&SimPlan::worker_drain, &ClusterSim::DrainWorker},
      {&SimPlan::executor_crash, &ClusterSim::CrashExecutor},
      {&SimPlan::head_crash, &ClusterSim::MaybeCrashHead},
      {&SimPlan::operators, &ClusterSim::OperateNode},
      {&SimPlan::sharing_changes, &ClusterSim::ChangeSharing},
      {&SimPlan::gpu_failure, &ClusterSim::BreakGpu},
  };
  clock_.After(prng_.Between(absl::ZeroDuration(), plan_.fault_interval * 2), [this] {
    if (healed_) return;
    ScheduleFault();
    ++faults_;
    const Fault& fault = kFaults[prng_.Below(std::size(kFaults))];
    if (plan_.*fault.in_plan) (this->*fault.Happen)();
  });
}

void ClusterSim::LoseLink() {
  if (head_ == nullptr || head_->streams.empty()) return;
  const std::shared_ptr<Stream> stream = Pick(head_->streams);
  Note("fault", stream->process, "link lost");
  Break(stream);
}

void ClusterSim::DelayAll() {
  network_.spike = prng_.Between(absl::Milliseconds(10), absl::Seconds(2));
  clock_.After(prng_.Between(absl::Milliseconds(10), absl::Seconds(1)),
               [this] { network_.spike = absl::ZeroDuration(); });
}

void ClusterSim::LoseDataLink() {
  if (data_.empty()) return;
  const std::shared_ptr<DataLink> link = Pick(data_);
  Note("fault", link->id, "data link lost");
  BreakData(link);
}

void ClusterSim::CrashDriver() {
  const DriverPtr driver = Pick(drivers_);
  if (driver->nested) return;
  EndDriver(driver, /*crash=*/true);
  StartDriver(plan_.tasks_per_driver / 4, absl::Seconds(1));
}

void ClusterSim::CrashWorker() {
  if (workers_.empty()) return;
  const WorkerPtr worker = Pick(workers_);
  Note("fault", worker->number, "worker crashes");
  EndWorker(worker, /*crash=*/true);
}

void ClusterSim::FreezeWorker() {
  if (workers_.empty()) return;
  const WorkerPtr worker = Pick(workers_);
  if (worker->frozen) return;
  Note("fault", worker->number, "worker freezes");
  worker->frozen = true;
  clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(20)),
               [this, worker] { Thaw(worker); });
}

void ClusterSim::DrainWorker() {
  if (workers_.empty()) return;
  const WorkerPtr worker = Pick(workers_);
  if (std::exchange(worker->draining, true)) return;
  Reach(worker, [this, worker] { Step(worker, worker::DrainAsked{}, "drain"); });
}

void ClusterSim::CrashExecutor() {
  if (workers_.empty()) return;
  const WorkerPtr worker = Pick(workers_);
  if (worker->executors.empty()) return;
  EndExecutor(Pick(worker->executors), "killed by signal 11 (segmentation fault)");
}

void ClusterSim::MaybeCrashHead() {
  if (head_ != nullptr && prng_.Percent(50)) CrashHead();
}

// An operator drains a node or quarantines a GPU of it, for a while.
void ClusterSim::OperateNode() {
  if (workers_.empty()) return;
  const WorkerPtr worker = Pick(workers_);
  v1::ControlNodeRequest request;
  if (prng_.Percent(50)) {
    request.mutable_drain()->set_draining(true);
    if (prng_.Percent(70)) {
      request.mutable_drain()->set_deadline_in_ns(
          absl::ToInt64Nanoseconds(prng_.Between(absl::ZeroDuration(), absl::Seconds(3))));
    }
  } else {
    request.mutable_health()->set_gpu(static_cast<uint32_t>(prng_.Below(2)));
  }
  Control(worker, request);
  clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(5)),
               [this, worker] { UndoControl(worker); });
}

void ClusterSim::BreakGpu() {
  if (workers_.empty()) return;
  const WorkerPtr worker = Pick(workers_);
  const int gpus = plan_.workers[worker->slot].gpus_size();
  if (gpus == 0) return;
  const auto gpu = static_cast<uint32_t>(prng_.Below(static_cast<uint64_t>(gpus)));
  Reach(worker, [this, worker, gpu] {
    if (worker->dead || !worker->broken_gpus.insert(gpu).second) return;
    Step(worker, worker::GpuFailed{gpu, "it is broken"}, "GPU failed");
  });
}

// Quotas as wide as those of the plan, weights, and a quota that nothing fits under, for a while.
void ClusterSim::ChangeSharing() {
  v1::SetSharingRequest request;
  switch (prng_.Below(6)) {
    case 0:
      request.set_quota(absl::StrCat("gpus:tenant=t1,gpus=", prng_.Between(4, 8),
                                     ",ray.io/accelerator-type=H100"));
      break;
    case 1:
      request.set_quota(absl::StrCat("cpus:cpus=", prng_.Between(12, 20)));
      break;
    case 2:
      request.set_quota_removed(prng_.Percent(50) ? "gpus" : "cpus");
      break;
    case 3:
      request.mutable_weight()->set_tenant(prng_.Percent(50) ? "t1" : "t2");
      request.mutable_weight()->set_weight_milli(prng_.Between(1, 5) * 1000);
      break;
    default:
      request.set_quota(prng_.Percent(50) ? "none:tenant=t1,cpus=0" : "none:cpus=0");
      clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(5)),
                   [this] { OpenQuota(); });
  }
  SetSharing(request);
}

// False: the head is away, or knows better.
bool ClusterSim::SetSharing(const v1::SetSharingRequest& request) {
  if (head_ == nullptr || !head_->core->CheckSharing(request).ok()) return false;
  StepHead(head::SharingControl{request}, "sharing");
  return true;
}

// Again and again while heads may crash: one that did may have told nobody.
void ClusterSim::OpenQuota() {
  v1::SetSharingRequest request;
  request.set_quota("none:cpus=1000");
  if (SetSharing(request) && healed_) return;
  clock_.After(absl::Seconds(1), [this] { OpenQuota(); });
}

// What was set and removed is what a new head says once its workers are back, whatever crashed,
// and in whatever order they come.
void ClusterSim::CheckSharingOutlivesTheHead() {
  const auto sharing = [this] {
    std::string text;
    const v1::StatusReply status = head_->core->Status(clock_.now());
    for (const v1::QuotaStatus& quota : status.quotas()) {
      absl::StrAppend(&text, quota.ShortDebugString(), "; ");
    }
    for (const v1::TenantStatus& tenant : status.tenants()) {
      if (tenant.weight_milli() != sched::kWeightUnit) {
        absl::StrAppend(&text, tenant.name(), " has weight ", tenant.weight_milli(), "; ");
      }
    }
    return text;
  };
  v1::SetSharingRequest last;
  last.set_quota("last:cpus=7");
  if (!SetSharing(last)) checker_.Fail("a quota cannot be set in the end");
  const std::string before = sharing();
  clock_.RunUntil(clock_.now() + absl::Seconds(1), [] { return false; });  // It has been said.
  CrashHead();
  clock_.RunUntil(clock_.now() + absl::Minutes(1), [] { return false; });
  const std::string after = head_ == nullptr ? "no head" : sharing();
  if (before == after) return;
  checker_.Fail(absl::StrCat("a new head says of the sharing: ", after, " where it was ", before));
}

// Whatever the head knows of the node now. False: it does not know it.
bool ClusterSim::Control(const WorkerPtr& worker, v1::ControlNodeRequest request) {
  request.set_node(worker->core->node_name());
  if (head_ == nullptr || !head_->core->CheckControl(request).ok()) return false;
  StepHead(head::NodeControl{request}, "operator");
  return true;
}

// Until all of it is taken back, or the worker is gone for good.
void ClusterSim::UndoControl(const WorkerPtr& worker) {
  if (worker->dead) return;
  v1::ControlNodeRequest undrain;
  undrain.mutable_drain()->set_draining(false);
  const bool done = Control(worker, undrain) || worker->draining;
  for (uint32_t gpu = 0; gpu < 2; ++gpu) {
    if (worker->broken_gpus.contains(gpu)) continue;
    v1::ControlNodeRequest healthy;
    healthy.mutable_health()->set_gpu(gpu);
    healthy.mutable_health()->set_healthy(true);
    Control(worker, healthy);
  }
  if (!done) clock_.After(absl::Seconds(1), [this, worker] { UndoControl(worker); });
}

// A GPU that broke stays out, whatever crashed and whoever was away; no other does.
void ClusterSim::CheckQuarantines() {
  absl::btree_map<std::string, absl::btree_set<uint32_t>> out;  // By node.
  const v1::StatusReply status = head_->core->Status(clock_.now());
  for (const v1::NodeStatus& node : status.nodes()) {
    for (const v1::GpuHealth& gpu : node.unhealthy()) out[node.id()].insert(gpu.gpu());
  }
  for (const auto& [number, worker] : workers_) {
    const absl::btree_set<uint32_t>& known = out[worker->core->node_name()];
    if (known == worker->broken_gpus) continue;
    checker_.Fail(absl::StrCat("worker ", number, " has the broken GPUs [",
                               absl::StrJoin(worker->broken_gpus, ", "), "], and the head knows [",
                               absl::StrJoin(known, ", "), "]"));
  }
}

}  // namespace muster::sim
