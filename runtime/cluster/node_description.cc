#include "runtime/cluster/node_description.h"

namespace muster::cluster {

worker::WorkerOptions DescribeWorker(const worker::DetectedNode& node) {
  worker::WorkerOptions options;
  options.resources.set_cpus(node.resources.cpus);
  options.resources.set_memory_bytes(node.resources.memory_bytes);
  for (const auto& [name, amount] : node.resources.custom) {
    v1::NamedAmount& custom = *options.resources.add_custom();
    custom.set_name(name);
    custom.set_amount(amount);
  }
  for (const worker::GpuDevice& gpu : node.gpus) {
    v1::GpuDevice& device = *options.resources.add_gpus();
    device.set_id(gpu.id);
    device.set_model(gpu.model);
    device.set_memory_bytes(gpu.memory_bytes);
  }
  for (const auto& [key, value] : node.labels) {
    v1::Entry& label = *options.labels.emplace(options.labels.end());
    label.set_key(key);
    label.set_value(value);
  }
  return options;
}

}  // namespace muster::cluster
