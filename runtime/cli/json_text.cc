#include "runtime/cli/json_text.h"

#include "nlohmann/json.hpp"
#include "scheduler/resources.h"

namespace muster::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

// Whole numbers without a point.
Json Amount(int64_t amount) {
  if (amount % sched::Amount::kUnit == 0) return amount / sched::Amount::kUnit;
  return static_cast<double>(amount) / static_cast<double>(sched::Amount::kUnit);
}

Json Seconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds / 1'000'000) / 1000.0; }

Json UsedAndTotal(Json used, Json total) {
  return {{"used", std::move(used)}, {"total", std::move(total)}};
}

Json ResourcesOf(const v1::NodeStatus& node) {
  Json resources = Json::object();
  resources["cpus"] = UsedAndTotal(Amount(node.used().cpus()), Amount(node.total().cpus()));
  resources["gpus"] = UsedAndTotal(Amount(node.used().gpus()), node.total().gpus_size());
  resources["memory_bytes"] = UsedAndTotal(node.used().memory_bytes(), node.total().memory_bytes());
  for (const v1::NamedAmount& total : node.total().custom()) {
    if (resources.contains(total.name())) continue;
    int64_t used = 0;
    for (const v1::NamedAmount& one : node.used().custom()) {
      if (one.name() == total.name()) used = one.amount();
    }
    resources[total.name()] = UsedAndTotal(Amount(used), Amount(total.amount()));
  }
  return resources;
}

Json UsedOf(const v1::Resources& used) {
  Json json = {{"cpus", Amount(used.cpus())},
               {"gpus", Amount(used.gpus())},
               {"memory_bytes", used.memory_bytes()}};
  for (const v1::NamedAmount& custom : used.custom()) {
    if (!json.contains(custom.name())) json[custom.name()] = Amount(custom.amount());
  }
  return json;
}

Json NodeOf(const v1::NodeStatus& node) {
  Json labels = Json::object();
  for (const v1::Entry& label : node.labels()) labels[label.key()] = label.value();
  Json devices = Json::array();
  for (const v1::GpuDevice& gpu : node.total().gpus()) {
    devices.push_back(
        {{"id", gpu.id()}, {"model", gpu.model()}, {"memory_bytes", gpu.memory_bytes()}});
  }
  Json quarantine = Json::array();
  for (const v1::GpuHealth& health : node.unhealthy()) {
    quarantine.push_back({{"gpu", health.gpu()}, {"reason", health.reason()}});
  }
  Json json = {
      {"id", node.id()},         {"state", node.state()},          {"pid", node.pid()},
      {"labels", labels},        {"resources", ResourcesOf(node)}, {"gpu_devices", devices},
      {"quarantine", quarantine}};
  if (node.state() == "draining") {
    json["drain"] = {
        {"deadline_s", nullptr}, {"reason", node.drain_reason()}, {"empty", node.empty()}};
    if (node.has_deadline_in_ns()) {
      json["drain"]["deadline_s"] = static_cast<double>(node.deadline_in_ns()) / 1e9;
    }
  }
  return json;
}

Json TenantOf(const v1::TenantStatus& tenant) {
  return {{"tenant", tenant.name()},
          {"weight", static_cast<double>(tenant.weight_milli()) / 1000},
          {"share", static_cast<double>(tenant.share_billionths()) / 1e9},
          {"leases", tenant.leases()},
          {"waiting", tenant.waiting()},
          {"used", UsedOf(tenant.used())}};
}

Json QuotaOf(const v1::QuotaStatus& quota) {
  Json limits = Json::object();
  for (const v1::QuotaStatus::Limit& limit : quota.limits()) {
    const bool memory = limit.resource() == "memory";
    limits[limit.resource()] = {{"used", memory ? Json(limit.used()) : Amount(limit.used())},
                                {"limit", memory ? Json(limit.limit()) : Amount(limit.limit())}};
  }
  return {{"quota", quota.name()}, {"tenant", quota.tenant()},
          {"job", quota.job()},    {"selector", quota.selector()},
          {"limits", limits},      {"set_at_run_time", quota.set_at_run_time()}};
}

template <typename Rows, typename Of>
Json ListOf(const Rows& rows, Of of) {
  Json list = Json::array();
  for (const auto& row : rows) list.push_back(of(row));
  return list;
}

template <typename Nodes>
Json NodesOf(const Nodes& nodes) {
  Json list = Json::array();
  for (const v1::NodeStatus& node : nodes) list.push_back(NodeOf(node));
  return list;
}

template <typename Choices>
Json ChoicesOf(const Choices& choices) {
  Json list = Json::array();
  for (const v1::ChoiceStatus& choice : choices) {
    list.push_back({{"selector", choice.selector()},
                    {"state", choice.state()},
                    {"why", choice.why()},
                    {"needs", choice.needs()},
                    {"matching_nodes", choice.matching_nodes()},
                    {"nodes", choice.nodes()}});
  }
  return list;
}

}  // namespace

std::string StatusJson(const v1::StatusReply& reply) {
  Json waiting = Json::array();
  for (const v1::WaitingStatus& row : reply.waiting()) {
    waiting.push_back(
        {{"class", row.class_name()},
         {"count", row.count()},
         {"needs", row.needs()},
         {"since_s", Seconds(row.since_ns())},
         {"requests", std::vector<std::string>(row.requests().begin(), row.requests().end())},
         {"choices", ChoicesOf(row.choices())},
         {"why", row.why()}});
  }
  Json groups = Json::array();
  for (const v1::PlacementGroupStatus& group : reply.placement_groups()) {
    Json bundles = Json::array();
    for (const v1::PlacementGroupStatus::Bundle& bundle : group.bundles()) {
      bundles.push_back(
          {{"node", bundle.node()},
           {"gpus", std::vector<std::string>(bundle.gpu_ids().begin(), bundle.gpu_ids().end())}});
    }
    groups.push_back({{"id", group.id()},
                      {"name", group.name()},
                      {"state", group.state()},
                      {"strategy", group.strategy()},
                      {"needs", group.needs()},
                      {"bundles", bundles},
                      {"why", group.why()},
                      {"since_s", Seconds(group.since_ns())}});
  }
  return Dump({{"head",
                {{"address", reply.address()},
                 {"version", reply.version()},
                 {"uptime_s", Seconds(reply.uptime_ns())},
                 {"pid", reply.pid()}}},
               {"nodes", NodesOf(reply.nodes())},
               {"waiting", waiting},
               {"placement_groups", groups},
               {"sharing",
                {{"policy", reply.sharing()},
                 {"tenants", ListOf(reply.tenants(), TenantOf)},
                 {"quotas", ListOf(reply.quotas(), QuotaOf)}}}});
}

std::string QuotaJson(const v1::QuotaStatus& quota) { return Dump(QuotaOf(quota)); }
std::string QuotasJson(const v1::StatusReply& reply) {
  return Dump(ListOf(reply.quotas(), QuotaOf));
}
std::string RemovedJson(const std::string& quota) { return Dump({{"removed", quota}}); }
std::string TenantJson(const v1::TenantStatus& tenant) { return Dump(TenantOf(tenant)); }
std::string TenantsJson(const v1::StatusReply& reply) {
  return Dump(ListOf(reply.tenants(), TenantOf));
}

std::string NodesJson(const v1::StatusReply& reply) { return Dump(NodesOf(reply.nodes())); }

std::string NodeJson(const v1::NodeStatus& node) { return Dump(NodeOf(node)); }

std::string ExplainJson(const v1::ExplainReply& reply) {
  Json json = Json::object();
  json["found"] = reply.found() == v1::ExplainReply::FOUND_ONE       ? "one"
                  : reply.found() == v1::ExplainReply::FOUND_SEVERAL ? "several"
                                                                     : "none";
  if (reply.found() == v1::ExplainReply::FOUND_SEVERAL) {
    json["candidates"] =
        std::vector<std::string>(reply.candidates().begin(), reply.candidates().end());
  }
  if (reply.found() != v1::ExplainReply::FOUND_ONE) return Dump(json);
  const v1::FoundTask& task = reply.task();
  json["task"] = {{"id", task.task_id()}, {"name", task.name()}, {"state", task.state()}};
  json["text"] = reply.text();
  if (reply.request() != 0) json["request"] = reply.request();
  if (task.state() == "waiting") {
    json["waited_s"] = Seconds(task.waited_ns());
    json["before_in_class"] = task.before_in_class();
    json["needs"] = reply.needs();
    json["choices"] = ChoicesOf(reply.choices());
    json["what_would_help"] = reply.what_would_help();
    json["starts"] = reply.starts();
    json["starts_in_s"] = reply.starts_in_ns() < 0 || reply.starts().empty()
                              ? Json(nullptr)
                              : Seconds(reply.starts_in_ns());
  }
  if (!reply.node().empty()) {
    json["node"] = reply.node();
    json["choice"] = reply.choice();
  }
  return Dump(json);
}

std::string DecisionsJson(const v1::DecisionsReply& reply) {
  Json list = Json::array();
  for (const v1::Decision& decision : reply.decisions()) {
    Json tried = Json::array();
    for (const v1::Decision::Tried& one : decision.tried()) {
      tried.push_back(
          {{"choice", one.choice()}, {"selector", one.selector()}, {"found", one.found()}});
    }
    Json lost = Json::array();
    for (const v1::Decision::Loser& one : decision.losers()) {
      lost.push_back({{"node", one.node()}, {"by", one.by()}});
    }
    list.push_back({{"number", decision.number()},
                    {"ago_s", Seconds(decision.ago_ns())},
                    {"kind", decision.kind()},
                    {"request", decision.request()},
                    {"class", decision.name()},
                    {"task", decision.task_id()},
                    {"needs", decision.needs()},
                    {"node", decision.node()},
                    {"choice", decision.choice()},
                    {"choices", decision.choices()},
                    {"selector", decision.selector()},
                    {"waited_s", Seconds(decision.waited_ns())},
                    {"bundles", decision.bundles()},
                    {"why", decision.why()},
                    {"surveyed", decision.surveyed()},
                    {"tried", tried},
                    {"lost", lost},
                    {"candidates", decision.candidates()},
                    {"text", decision.text()}});
  }
  return Dump(list);
}

std::string SelectorJson(const SelectorAnswer& answer) {
  if (!answer.error.empty()) return Dump({{"valid", false}, {"error", answer.error}});
  Json json = {{"valid", true}, {"selector", answer.selector.ToMap()}};
  if (!answer.has_labels) return Dump(json);
  json["match"] = answer.match;
  if (!answer.match) {
    json["key"] = answer.mismatch.key;
    json["clause"] = answer.mismatch.clause;
    json["actual"] =
        answer.mismatch.actual.has_value() ? Json(*answer.mismatch.actual) : Json(nullptr);
    json["why"] = answer.mismatch.why;
  }
  return Dump(json);
}

std::string VersionJson(const std::string& version, uint32_t protocol) {
  return Dump({{"version", version}, {"protocol", protocol}});
}

std::string UpJson(const UpAnswer& answer) {
  return Dump(
      {{"head",
        {{"address", answer.address}, {"version", answer.version}, {"pid", answer.head_pid}}},
       {"nodes", NodesOf(answer.nodes)}});
}

}  // namespace muster::cli
