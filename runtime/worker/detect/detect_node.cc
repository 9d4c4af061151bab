#include "runtime/worker/detect/detect_node.h"

#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/worker/detect/machine.h"
#include "runtime/worker/detect/visible_devices.h"
#include "scheduler/base/status_macros.h"

namespace muster::worker {
namespace {

std::vector<GpuDevice> Pretended(int count) {
  std::vector<GpuDevice> devices(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    devices[static_cast<size_t>(i)].id = devices[static_cast<size_t>(i)].gpu_id = absl::StrCat(i);
    devices[static_cast<size_t>(i)].index = i;
    devices[static_cast<size_t>(i)].pretended = true;
  }
  return devices;
}

absl::StatusOr<Gpus> ChooseGpus(const DetectOptions& options) {
  if (options.gpus && (*options.gpus < 0 || *options.gpus > sched::kGpuDevicesMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("gpus=", *options.gpus, ": must be from 0 to ", sched::kGpuDevicesMax));
  }
  // A node that wants none need not ask the driver, which can take seconds.
  if (options.gpus == 0) return Gpus{};
  if (options.pretend_gpus) return Gpus{.devices = Pretended(options.gpus.value_or(0))};

  const auto variable = [&](const char* name) {
    return options.environment ? options.environment(name) : std::nullopt;
  };
  const std::optional<std::string> cuda = variable("CUDA_VISIBLE_DEVICES");
  Gpus gpus = Restrict(DetectGpus(options.nvml_library),
                       {.cuda = cuda, .nvidia = variable("NVIDIA_VISIBLE_DEVICES")});
  const int real = static_cast<int>(gpus.devices.size());
  if (!options.gpus || *options.gpus == real) return gpus;
  if (*options.gpus < real) {
    gpus.devices.resize(static_cast<size_t>(*options.gpus));
    return gpus;
  }
  if (cuda && real > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gpus=", *options.gpus, ": CUDA_VISIBLE_DEVICES=", *cuda, " leaves only ", real));
  }
  gpus.notes.push_back(absl::StrCat("offers ", *options.gpus, " pretended GPUs: ", real, " here"));
  gpus.devices = Pretended(*options.gpus);
  return gpus;
}

// Ray's rule: the first device speaks for all.
std::string TypeOf(const std::vector<GpuDevice>& gpus, std::vector<std::string>& notes) {
  std::set<std::string> types;
  for (const GpuDevice& gpu : gpus) types.insert(AcceleratorType(gpu.model));
  if (types.size() > 1) {
    notes.push_back(absl::StrCat("GPUs of several types (", absl::StrJoin(types, ", "),
                                 "): ", kAcceleratorTypeLabel, " names the first only"));
  }
  return gpus.empty() ? "" : AcceleratorType(gpus.front().model);
}

void Append(std::vector<std::string> more, std::vector<std::string>& notes) {
  for (std::string& note : more) notes.push_back(std::move(note));
}

}  // namespace

absl::StatusOr<DetectedNode> DetectNode(const DetectOptions& options) {
  MUSTER_ASSIGN_OR_RETURN(Machine machine, DetectMachine({.root = options.root,
                                                          .affinity_cpus = options.affinity_cpus}));
  MUSTER_ASSIGN_OR_RETURN(Gpus gpus, ChooseGpus(options));
  DetectedNode node;
  Append(std::move(machine.notes), node.notes);
  Append(std::move(gpus.notes), node.notes);
  node.gpus = std::move(gpus.devices);

  LabelSources sources{.environment = options.environment,
                       .labels_file = options.labels_file,
                       .labels = options.labels};
  if (const std::string type = TypeOf(node.gpus, node.notes); !type.empty()) {
    sources.detected[kAcceleratorTypeLabel] = type;
  }
  MUSTER_ASSIGN_OR_RETURN(node.labels, GatherLabels(sources));

  node.resources.cpus = options.cpus.value_or(machine.cpus * sched::Amount::kUnit);
  node.resources.gpu_devices = static_cast<int>(node.gpus.size());
  node.resources.memory_bytes = options.memory_bytes.value_or(machine.memory_bytes);
  node.resources.custom = options.custom;
  MUSTER_RETURN_IF_ERROR(sched::Validate(node.resources));
  return node;
}

}  // namespace muster::worker
