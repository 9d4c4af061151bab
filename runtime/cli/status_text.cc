#include "runtime/cli/status_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"
#include "scheduler/sharing.h"

namespace muster::cli {
namespace {

constexpr char kNodeIdLabel[] = "ray.io/node-id";
constexpr double kGiB = 1024.0 * 1024 * 1024;

std::string OfTotal(int64_t used, int64_t total) {
  return absl::StrCat(sched::AmountToText(used), "/", sched::AmountToText(total));
}

// "0.2/8 GiB"
std::string MemoryOfTotal(int64_t used, int64_t total) {
  std::string of = absl::StrFormat("%.1f", static_cast<double>(total) / kGiB);
  if (absl::EndsWith(of, ".0")) of.resize(of.size() - 2);
  return absl::StrFormat("%.1f/%s GiB", static_cast<double>(used) / kGiB, of);
}

int64_t UsedOf(const v1::NodeStatus& node, const std::string& custom) {
  for (const v1::NamedAmount& used : node.used().custom()) {
    if (used.name() == custom) return used.amount();
  }
  return 0;
}

int64_t GpuTotal(const v1::NodeStatus& node) {
  return node.total().gpus_size() * sched::Amount::kUnit;
}

// What is not told elsewhere: the id stands in a column of its own.
sched::Labels LabelsOf(const v1::NodeStatus& node) {
  sched::Labels labels;
  for (const v1::Entry& label : node.labels()) {
    if (label.key() != kNodeIdLabel && !sched::IsAlias(label.key()))
      labels[label.key()] = label.value();
  }
  return labels;
}

std::string CustomText(const v1::NodeStatus& node) {
  std::vector<std::string> parts;
  for (const v1::NamedAmount& total : node.total().custom()) {
    parts.push_back(
        absl::StrCat(total.name(), " ", OfTotal(UsedOf(node, total.name()), total.amount())));
  }
  return absl::StrJoin(parts, ", ");
}

std::string UsesText(const v1::Resources& used) {
  std::vector<std::string> parts;
  if (used.cpus() != 0) parts.push_back(absl::StrCat(sched::AmountToText(used.cpus()), " CPU"));
  if (used.gpus() != 0) parts.push_back(absl::StrCat(sched::AmountToText(used.gpus()), " GPU"));
  if (used.memory_bytes() != 0) parts.push_back(sched::MemoryToText(used.memory_bytes()));
  for (const v1::NamedAmount& custom : used.custom()) {
    parts.push_back(absl::StrCat(sched::AmountToText(custom.amount()), " ", custom.name()));
  }
  return parts.empty() ? "nothing" : absl::StrJoin(parts, ", ");
}

std::string Heading(const v1::StatusReply& reply, const Style& style) {
  uint64_t alive = 0, draining = 0, lost = 0;
  for (const v1::NodeStatus& node : reply.nodes()) {
    ++(node.state() == "lost" ? lost : node.state() == "draining" ? draining : alive);
  }
  std::string text =
      absl::StrCat("head ", reply.address(), ", up ", Age(absl::Nanoseconds(reply.uptime_ns())),
                   ", ", Count(alive, "node", "nodes"), " alive");
  if (draining > 0) absl::StrAppend(&text, ", ", style.Yellow(absl::StrCat(draining, " draining")));
  if (lost > 0) absl::StrAppend(&text, ", ", style.Red(absl::StrCat(lost, " lost")));
  return absl::StrCat(text, "\n");
}

// Equal devices are counted: "2 x NVIDIA L4 (22.5 GiB)".
std::vector<std::string> DevicesOf(const v1::NodeStatus& node) {
  std::vector<std::pair<std::string, int>> counted;
  for (const v1::GpuDevice& gpu : node.total().gpus()) {
    std::string device = gpu.model().empty() ? "pretended" : gpu.model();
    if (gpu.memory_bytes() > 0)
      absl::StrAppend(&device, " (", sched::MemoryToText(gpu.memory_bytes()), ")");
    const auto same = std::find_if(counted.begin(), counted.end(),
                                   [&](const auto& c) { return c.first == device; });
    if (same == counted.end()) {
      counted.emplace_back(std::move(device), 1);
    } else {
      ++same->second;
    }
  }
  std::vector<std::string> lines;
  for (const auto& [device, count] : counted) {
    lines.push_back(count == 1 ? device : absl::StrCat(count, " x ", device));
  }
  return lines;
}

// What stands between a node and new work, a line each.
std::vector<std::string> ConditionsOf(const v1::NodeStatus& node) {
  std::vector<std::string> lines;
  if (node.state() == "draining") {
    const std::string left =
        node.empty() ? "empty, and may be taken away"
        : node.has_deadline_in_ns()
            ? absl::StrCat("draining, ", Age(absl::Nanoseconds(node.deadline_in_ns())), " left")
            : "draining, without a deadline";
    lines.push_back(
        absl::StrCat(left, node.drain_reason().empty() ? "" : ": ", node.drain_reason()));
  }
  for (const v1::GpuHealth& health : node.unhealthy()) {
    lines.push_back(absl::StrCat("GPU ", health.gpu(), " in quarantine",
                                 health.reason().empty() ? "" : ": ", health.reason()));
  }
  return lines;
}

std::string LimitOf(const v1::QuotaStatus::Limit& limit) {
  const bool memory = limit.resource() == "memory";
  return absl::StrCat(
      memory ? sched::MemoryToText(limit.used()) : sched::AmountToText(limit.used()), "/",
      memory ? sched::MemoryToText(limit.limit()) : sched::AmountToText(limit.limit()), " ",
      limit.resource());
}

// "n1 x2, n2": bundles by node, in order of the first.
std::string BundlesText(const v1::PlacementGroupStatus& group) {
  std::vector<std::pair<std::string, int>> counted;
  for (const v1::PlacementGroupStatus::Bundle& bundle : group.bundles()) {
    const std::string node = bundle.node().empty() ? "(none)" : bundle.node();
    const auto same = std::find_if(counted.begin(), counted.end(),
                                   [&](const auto& each) { return each.first == node; });
    if (same == counted.end()) {
      counted.emplace_back(node, 1);
    } else {
      ++same->second;
    }
  }
  return absl::StrJoin(counted, ", ", [](std::string* out, const auto& each) {
    absl::StrAppend(out, each.first);
    if (each.second > 1) absl::StrAppend(out, " x", each.second);
  });
}

Table GroupsTable(const v1::StatusReply& reply) {
  Table groups({"GROUP", "NAME", "STATE", "STRATEGY", "NEEDS", "BUNDLES", "WHY"});
  for (const v1::PlacementGroupStatus& group : reply.placement_groups()) {
    groups.Add({group.id().substr(0, 6), group.name(), group.state(), group.strategy(),
                group.needs(), BundlesText(group), group.why()});
  }
  return groups;
}

}  // namespace

std::string StatusText(const v1::StatusReply& reply, const Style& style) {
  const bool custom =
      std::any_of(reply.nodes().begin(), reply.nodes().end(),
                  [](const v1::NodeStatus& node) { return node.total().custom_size() > 0; });
  std::vector<std::string> header = {"NODE", "STATE", "CPU", "GPU", "MEMORY"};
  if (custom) header.push_back("OTHER");
  header.push_back("LABELS");
  Table nodes(std::move(header));
  for (const v1::NodeStatus& node : reply.nodes()) {
    std::vector<std::string> row = {
        node.id(), node.state(), OfTotal(node.used().cpus(), node.total().cpus()),
        OfTotal(node.used().gpus(), GpuTotal(node)),
        MemoryOfTotal(node.used().memory_bytes(), node.total().memory_bytes())};
    if (custom) row.push_back(CustomText(node));
    row.push_back(sched::ToText(LabelsOf(node)));
    nodes.Add(std::move(row));
  }
  Table conditions({"NODE", "CONDITION"});
  for (const v1::NodeStatus& node : reply.nodes()) {
    for (const std::string& line : ConditionsOf(node)) conditions.Add({node.id(), line});
  }
  const bool any_condition =
      std::any_of(reply.nodes().begin(), reply.nodes().end(),
                  [](const v1::NodeStatus& node) { return !ConditionsOf(node).empty(); });
  Table waiting({"WAITING", "NEEDS", "CHOICES", "SINCE", "WHY"});
  for (const v1::WaitingStatus& row : reply.waiting()) {
    waiting.Add({absl::StrCat(row.count()), row.needs(), row.choices_summary(),
                 Age(absl::Nanoseconds(row.since_ns())), row.why()});
  }
  std::string text = Heading(reply, style);
  if (reply.nodes_size() > 0) text += nodes.ToText(style);
  if (any_condition) text += conditions.ToText(style);
  if (reply.tenants_size() > 0) text += TenantsText(reply, style);
  if (reply.quotas_size() > 0) text += QuotasText(reply, style);
  if (reply.waiting_size() > 0) text += waiting.ToText(style);
  if (reply.placement_groups_size() > 0) text += GroupsTable(reply).ToText(style);
  return text;
}

std::string TenantsText(const v1::StatusReply& reply, const Style& style) {
  Table tenants({"TENANT", "WEIGHT", "SHARE", "LEASES", "WAITING", "USES"});
  for (const v1::TenantStatus& row : reply.tenants()) {
    tenants.Add({row.name().empty() ? "(default)" : row.name(),
                 sched::WeightToText(row.weight_milli()),
                 absl::StrFormat("%.1f%%", static_cast<double>(row.share_billionths()) / 1e7),
                 absl::StrCat(row.leases()), absl::StrCat(row.waiting()), UsesText(row.used())});
  }
  return tenants.ToText(style);
}

std::string QuotasText(const v1::StatusReply& reply, const Style& style) {
  Table quotas({"QUOTA", "OF", "ON", "USED", "SET"});
  for (const v1::QuotaStatus& row : reply.quotas()) {
    std::vector<std::string> limits;
    for (const v1::QuotaStatus::Limit& limit : row.limits()) limits.push_back(LimitOf(limit));
    quotas.Add({row.name(),
                !row.tenant().empty() ? absl::StrCat("tenant ", row.tenant())
                : !row.job().empty()  ? absl::StrCat("job ", row.job())
                                      : "everyone",
                row.selector(), absl::StrJoin(limits, ", "),
                row.set_at_run_time() ? "at run time" : "by a flag"});
  }
  return quotas.ToText(style);
}

std::string NodesText(const v1::StatusReply& reply, const Style& style) {
  std::string text;
  for (const v1::NodeStatus& node : reply.nodes()) {
    const std::string state = node.state() == "lost"       ? style.Red(node.state())
                              : node.state() == "draining" ? style.Yellow(node.state())
                                                           : node.state();
    absl::StrAppend(&text, style.Bold(node.id()), "  ", state, ", pid ", node.pid(), "\n");
    std::vector<std::pair<std::string, std::string>> lines = {
        {"CPUs", OfTotal(node.used().cpus(), node.total().cpus())},
        {"GPUs", OfTotal(node.used().gpus(), GpuTotal(node))}};
    for (const std::string& devices : DevicesOf(node)) lines.emplace_back("", devices);
    lines.emplace_back("memory",
                       MemoryOfTotal(node.used().memory_bytes(), node.total().memory_bytes()));
    for (const v1::NamedAmount& total : node.total().custom()) {
      lines.emplace_back(total.name(), OfTotal(UsedOf(node, total.name()), total.amount()));
    }
    for (const std::string& line : ConditionsOf(node)) lines.emplace_back("condition", line);
    std::string name = "labels";
    for (const auto& [key, value] : LabelsOf(node)) {
      lines.emplace_back(name, absl::StrCat(key, "=", value));
      name.clear();
    }
    size_t width = 0;
    for (const auto& [line_name, value] : lines) width = std::max(width, line_name.size());
    for (const auto& [line_name, value] : lines) {
      absl::StrAppend(&text, "  ", line_name, std::string(width - line_name.size() + 2, ' '), value,
                      "\n");
    }
  }
  return text.empty() ? "no nodes\n" : text;
}

}  // namespace muster::cli
