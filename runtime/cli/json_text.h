// A head's answers as programs read them: `--json`. Member names and units are a contract.
// Thread-safety: free functions.
#pragma once

#include <string>
#include <vector>

#include "muster/v1/cluster.pb.h"
#include "scheduler/label_selector.h"

namespace muster::cli {

// {"head": {"address", "version", "uptime_s", "pid"}, "nodes": [NODE], "waiting": [{"class",
// "count", "needs", "since_s", "requests", "choices": [{"selector", "state", "why"}], "why"}]},
// NODE as below.
std::string StatusJson(const v1::StatusReply& reply);
std::string NodeJson(const v1::NodeStatus& node);
// [{"id", "state", "pid", "labels": {}, "resources": {"cpus": {"used", "total"}, "gpus",
// "memory_bytes", and the custom ones by name}, "gpu_devices": [{"id", "model", "memory_bytes"}]}]
std::string NodesJson(const v1::StatusReply& reply);
// {"quota", "tenant", "job", "selector", "limits": {NAME: {"used", "limit"}}, "set_at_run_time"}:
// memory in bytes; and a list of them.
std::string QuotaJson(const v1::QuotaStatus& quota);
std::string QuotasJson(const v1::StatusReply& reply);
std::string RemovedJson(const std::string& quota);  // {"removed": "h100"}
// {"tenant" ("": the default one), "weight", "share" (of 1), "leases", "waiting", "used": {}}; and
// a list of them, empty where there is only the default one.
std::string TenantJson(const v1::TenantStatus& tenant);
std::string TenantsJson(const v1::StatusReply& reply);
// {"found": "one", "none" or "several", "task": {"id", "name", "state"}, "text", "needs",
// "what_would_help", "choices", "node", "choice", "candidates", "starts", "starts_in_s",
// "request"}: what is known of them.
std::string ExplainJson(const v1::ExplainReply& reply);

// [{"number", "ago_s", "kind", "request", "class", "task", "needs", "node", "choice", "choices",
// "selector", "waited_s", "bundles", "why", "surveyed", "tried": [{"choice", "selector", "found"}],
// "lost": [{"node", "by"}], "candidates", "text"}], newest first.
std::string DecisionsJson(const v1::DecisionsReply& reply);

// {"valid", "error"} or {"valid", "selector": {}, "match", "key", "clause", "why"}.
struct SelectorAnswer {
  std::string error{};  // Of the selector or the labels.
  sched::LabelSelector selector{};
  bool has_labels = false;
  bool match = false;
  sched::LabelSelector::Mismatch mismatch{};  // Where it does not match.
};
std::string SelectorJson(const SelectorAnswer& answer);

std::string VersionJson(const std::string& version, uint32_t protocol);

struct UpAnswer {
  std::string address{};
  std::string version{};
  int head_pid = 0;
  std::vector<v1::NodeStatus> nodes{};
};
std::string UpJson(const UpAnswer& answer);

}  // namespace muster::cli
