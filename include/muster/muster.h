// muster: run C++ functions on a cluster, each on the kind of node it asks for, with fallbacks.
//
//   double Score(std::string shard, int samples);
//
//   int main(int argc, char** argv) {
//     muster::Init(argc, argv);
//     const muster::TaskOptions on_gpu = {.resources = {.gpus = 1},
//                                         .label_selector = {{"ray.io/accelerator-type", "L4"}}};
//     muster::ObjectRef<double> ref = muster::Task<Score>(on_gpu).Remote("shard-0", 1000);
//     absl::StatusOr<double> score = muster::Get(ref, absl::Minutes(5));
//   }
//
//   init.h           Init, Shutdown
//   options.h        resources, label selectors (label.h), fallback strategy, retries, timeout
//   task.h, group.h  one function call; n ranks at once, all or none
//   get.h            Get, GetOrDie, Wait, Put, Cancel
//   placement_group.h  resources reserved together, by topology, for tasks and groups to run in
//   task_info.h      CurrentTask(): node, labels, GPUs, which choice was granted
//   leaving.h        OnLeaving, LeaveNow: save, and go on elsewhere
//   group.h          CurrentGroup(): rank, size, store, collectives
//   serialization.h  which types can be sent; MUSTER_FIELDS(Point, x, y); for your own
#pragma once

#include "muster/collective.h"
#include "muster/get.h"
#include "muster/group.h"
#include "muster/init.h"
#include "muster/label.h"
#include "muster/leaving.h"
#include "muster/object_ref.h"
#include "muster/options.h"
#include "muster/placement_group.h"
#include "muster/serialization.h"
#include "muster/task.h"
#include "muster/task_info.h"
