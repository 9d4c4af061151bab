// From what was detected of a machine to what its worker tells the head.
#pragma once

#include "runtime/worker/detect/detect_node.h"
#include "runtime/worker/worker.h"

namespace muster::cluster {

worker::WorkerOptions DescribeWorker(const worker::DetectedNode& node);

}  // namespace muster::cluster
