// What users type to describe nodes: specs, cluster files, label files, resources, CPU lists. None
// may crash, and what a spec parses to says the same when given to a worker.
#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/cluster/node_spec.h"
#include "runtime/worker/detect/custom_resources.h"
#include "runtime/worker/detect/flat_yaml.h"
#include "runtime/worker/detect/gpus.h"
#include "runtime/worker/detect/machine.h"
#include "scheduler/base/check.h"
#include "scheduler/labels.h"

namespace {

// The worker options of a spec, read as a worker reads them, give the spec's resources and labels.
void CheckRoundTrip(const muster::cluster::NodeSpec& spec) {
  for (const std::string& option : muster::cluster::WorkerOptions(spec)) {
    const size_t equals = option.find('=');
    const std::string value = option.substr(equals + 1);
    if (option.rfind("--resources=", 0) == 0) {
      MUSTER_CHECK(muster::worker::ParseCustomResources(value).value() == spec.custom);
    } else if (option.rfind("--labels=", 0) == 0) {
      MUSTER_CHECK(muster::sched::ParseLabels(value).value() == spec.labels);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 5) {
    case 0:
      if (const auto spec = muster::cluster::ParseNodeSpec(text); spec.ok()) CheckRoundTrip(*spec);
      break;
    case 1:
      if (const auto specs = muster::cluster::ParseClusterYaml(text); specs.ok()) {
        for (const muster::cluster::NodeSpec& spec : *specs) CheckRoundTrip(spec);
      }
      break;
    case 2:
      if (const auto resources = muster::worker::ParseCustomResources(text); resources.ok()) {
        const std::string json = muster::worker::CustomResourcesToJson(*resources);
        MUSTER_CHECK(muster::worker::ParseCustomResources(json).value() == *resources);
      }
      break;
    case 3:
      if (const std::string type = muster::worker::AcceleratorType(text); !type.empty()) {
        MUSTER_CHECK(muster::sched::ValidateLabelValue(type).ok());
      }
      break;
    default:
      muster::worker::CountCpuList(text);
      break;
  }
  return 0;
}
