// Says why: the nodes and one class looked at, nothing changed. The values go to explain.h's
// structs.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/cluster.h"
#include "scheduler/explain.h"
#include "scheduler/scheduling_class.h"

namespace muster::sched {

// "needs 1 GPU on accelerator-type=H100; 3 nodes, all L4".
std::string InfeasibleReason(const Cluster& cluster, const SchedulingClass& of);

// Of a request that waits: its choices, and what would help it.
std::vector<ChoiceExplanation> ExplainChoices(const Cluster& cluster, const Request& request);
std::string WhatWouldHelp(const Cluster& cluster, const Request& request, absl::Time now);

// "L4+spot: 1 node, draining; L4: opens in 1m19s; P100|T4: no such node", of the oldest request.
std::string ShortWhy(const Cluster& cluster, const Request& request, absl::Time now);

// "6f1c2a, choice 2 (accelerator-type=L4), GPU 0", choices counted from 1.
std::string WhereText(const Cluster& cluster, const Request& request, int bundle);

}  // namespace muster::sched
