// What a worker tells the head of its node: resources, devices and labels, detected where not
// given.
//
// GPUs: `gpus` of the options takes so many of the real devices. More than there are, or
// `pretend_gpus`, makes
//   all of them pretended (no UUID, no accelerator type but by label), which serves tests and tries
//   on machines without GPUs; a worker whose CUDA_VISIBLE_DEVICES holds fewer is refused, as in
//   Ray.
// Errors: kInvalidArgument for bad options, naming option and value; kNotFound for a missing labels
// file;
//   kUnavailable where the machine cannot be read.
// Thread-safety: call from one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/worker/detect/custom_resources.h"
#include "runtime/worker/detect/gpus.h"
#include "runtime/worker/detect/node_labels.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"

namespace muster::worker {

struct DetectOptions {
  std::optional<int64_t> cpus = std::nullopt;  // 1/10000. Absent, here and below: detected.
  std::optional<int> gpus = std::nullopt;
  bool pretend_gpus = false;  // For `muster up`, whose nodes share one machine.
  std::optional<int64_t> memory_bytes = std::nullopt;
  CustomResources custom{};
  std::string labels{};       // --labels
  std::string labels_file{};  // --labels-file
  Environment environment = ProcessEnvironment();
  // Where to look; tests bring their own.
  std::string root{};
  std::optional<int> affinity_cpus = std::nullopt;
  std::string nvml_library = kNvmlLibrary;
};

struct DetectedNode {
  sched::NodeResources resources{};  // gpu_devices is gpus.size().
  std::vector<GpuDevice> gpus{};     // Device i of the scheduler is gpus[i].
  sched::Labels labels{};            // Without ray.io/node-id.
  std::vector<std::string> notes{};  // For the log, one line each.
};

absl::StatusOr<DetectedNode> DetectNode(const DetectOptions& options);

}  // namespace muster::worker
