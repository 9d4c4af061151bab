#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/group_plan.h"
#include "scheduler/script/script.h"
#include "scheduler/script/script_fields.h"
#include "scheduler/script/script_values.h"

namespace muster::sched {
namespace {

constexpr char kVerbs[] =
    "at, join, change, unreachable, reachable, drain, undrain, unhealthy, healthy, lost, request, "
    "finish, block, unblock, "
    "cancel, explain, estimate, whatif, decision, status, config, held, tenant, quota, "
    "quota_removed";

absl::StatusOr<HeldLease> ParseHeld(const ScriptFields& fields) {
  MUSTER_RETURN_IF_ERROR(
      fields.Allow(ScriptSpecFieldsAnd({"bundle", "choice", "devices", "shape", "level"})));
  HeldLease held;
  MUSTER_ASSIGN_OR_RETURN(held.request.value, fields.Id("id"));
  MUSTER_ASSIGN_OR_RETURN(held.spec, ParseScriptSpec(fields));
  const int shapes = std::max(static_cast<int>(held.spec->shapes.size()), 1);
  MUSTER_ASSIGN_OR_RETURN(held.shape, fields.Int("shape", 0, 0, shapes - 1));
  MUSTER_ASSIGN_OR_RETURN(held.level, fields.Int("level", 0, 0, kLevelsMax - 1));
  MUSTER_ASSIGN_OR_RETURN(held.bundle,
                          fields.Int("bundle", 0, 0, BundlesOf(*held.spec, held.shape) - 1));
  const int choices = static_cast<int>(
      held.spec->is_group() ? held.spec->shapes[held.shape].bundles[held.bundle].choices.size()
                            : held.spec->choices.size());
  MUSTER_ASSIGN_OR_RETURN(held.placement.choice, fields.Int("choice", 0, 0, choices - 1));
  held.placement.resources =
      ChoiceOf(*held.spec, held.shape, held.bundle, held.placement.choice).resources;
  if (!fields.Has("devices")) return held;
  MUSTER_ASSIGN_OR_RETURN(const absl::string_view inside, Inside(fields.Text("devices"), '[', ']'));
  for (const absl::string_view text : absl::StrSplit(inside, ',')) {
    GpuShare share{.amount = std::min(held.placement.resources.gpus, Amount::kUnit)};
    if (!absl::SimpleAtoi(text, &share.device)) {
      return absl::InvalidArgumentError("devices: allowed: [0,1]");
    }
    held.placement.devices.push_back(share);
  }
  return held;
}

absl::StatusOr<NodeJoined> ParseJoin(const ScriptFields& fields,
                                     const std::vector<absl::string_view>& more = {}) {
  std::vector<absl::string_view> allowed = {"node",   "name",       "cpus",  "gpus",
                                            "memory", "resource.*", "labels"};
  allowed.insert(allowed.end(), more.begin(), more.end());
  MUSTER_RETURN_IF_ERROR(fields.Allow(allowed));
  NodeJoined join;
  MUSTER_ASSIGN_OR_RETURN(join.node.value, fields.Id("node"));
  join.name = fields.Has("name") ? std::string(fields.Text("name"))
                                 : absl::StrCat("node-", join.node.ToString());
  Resources total{.cpus = Amount::kUnit};
  MUSTER_RETURN_IF_ERROR(ParseScriptResources(fields, /*with_gpus=*/false, total));
  MUSTER_ASSIGN_OR_RETURN(join.total.gpu_devices, fields.Int("gpus", 0, 0, kGpuDevicesMax));
  join.total.cpus = total.cpus;
  join.total.memory_bytes = total.memory_bytes;
  join.total.custom = total.custom;
  if (fields.Has("labels")) {
    MUSTER_ASSIGN_OR_RETURN(join.labels, ParseScriptLabels(fields.Text("labels")));
  }
  return join;
}

class ScriptParser {
 public:
  absl::StatusOr<Script> Parse(absl::string_view text) {
    script_.config.start = ScriptStart();
    int number = 0;
    for (const absl::string_view line : absl::StrSplit(absl::StripSuffix(text, "\n"), '\n')) {
      ++number;
      script_.lines.push_back(std::string(absl::StripSuffix(line, "\r")));
      if (absl::Status status = ParseLine(number, absl::StripSuffix(line, "\r")); !status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(number, ": ", status.message()));
      }
    }
    if (!held_.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(number, ": held without a join after it"));
    }
    return std::move(script_);
  }

 private:
  absl::Status ParseLine(int number, absl::string_view line) {
    absl::string_view text = absl::StripAsciiWhitespace(WithoutComment(line));
    if (absl::ConsumePrefix(&text, ">")) {
      if (script_.statements.empty()) {
        return absl::InvalidArgumentError("a \">\" line stands below the statement it belongs to");
      }
      absl::ConsumePrefix(&text, " ");
      script_.statements.back().expected.push_back(std::string(text));
      return absl::OkStatus();
    }
    if (text.empty()) return absl::OkStatus();
    MUSTER_ASSIGN_OR_RETURN(std::vector<absl::string_view> words, SplitOutsideBrackets(text, ' '));
    const absl::string_view verb = words[0];
    words.erase(words.begin());
    ScriptStatement statement{.line = number, .text = std::string(text)};
    if (verb == "at") {
      MUSTER_ASSIGN_OR_RETURN(statement.what, ParseAt(words));
      script_.statements.push_back(std::move(statement));
      return absl::OkStatus();
    }
    MUSTER_ASSIGN_OR_RETURN(const ScriptFields fields, ScriptFields::Parse(words));
    if (verb == "config") return ParseConfig(fields);
    if (verb == "held") {
      MUSTER_ASSIGN_OR_RETURN(HeldLease held, ParseHeld(fields));
      held_.push_back(std::move(held));
      return absl::OkStatus();
    }
    MUSTER_RETURN_IF_ERROR(ParseStatement(verb, fields, statement));
    script_.statements.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::StatusOr<ScriptAt> ParseAt(const std::vector<absl::string_view>& words) {
    if (words.size() != 1) return absl::InvalidArgumentError("at: allowed: at 5s");
    MUSTER_ASSIGN_OR_RETURN(const absl::Duration at, ParseScriptDuration(words[0]));
    if (at < at_) return absl::InvalidArgumentError("at: the clock does not go back");
    if (at > kEnd) return absl::InvalidArgumentError("at: beyond 100000 hours");
    at_ = at;
    return ScriptAt{.since_start = at};
  }

  absl::Status ParseConfig(const ScriptFields& fields) {
    if (!script_.statements.empty()) {
      return absl::InvalidArgumentError("config stands before all other statements");
    }
    MUSTER_RETURN_IF_ERROR(fields.Allow(
        {"grace", "adoption_timeout", "waiting_max", "waiting_per_tenant_max", "avoid_for",
         "decision_detail", "ordering", "backfill", "reservations_max", "duration_default",
         "preemption", "preemption_grace", "time_slice", "recall_grace", "overtaken_max",
         "reservation_after", "quarantine_grace", "placement", "return_patience"}));
    SchedulerConfig& config = script_.config;
    if (fields.Has("decision_detail")) {
      MUSTER_ASSIGN_OR_RETURN(config.decision_detail,
                              ParseDecisionDetail(fields.Text("decision_detail")));
    }
    if (fields.Has("placement")) {
      MUSTER_ASSIGN_OR_RETURN(config.placement, ParsePlacementPolicy(fields.Text("placement")));
    }
    MUSTER_RETURN_IF_ERROR(ParseSharing(fields, config.sharing));
    MUSTER_ASSIGN_OR_RETURN(config.infeasible_grace,
                            fields.Duration("grace", config.infeasible_grace));
    MUSTER_ASSIGN_OR_RETURN(config.adoption_timeout,
                            fields.Duration("adoption_timeout", config.adoption_timeout));
    MUSTER_ASSIGN_OR_RETURN(config.quarantine_grace,
                            fields.Duration("quarantine_grace", config.quarantine_grace));
    MUSTER_ASSIGN_OR_RETURN(config.return_patience,
                            fields.Duration("return_patience", config.return_patience));
    MUSTER_ASSIGN_OR_RETURN(config.avoid_for, fields.Duration("avoid_for", config.avoid_for));
    MUSTER_ASSIGN_OR_RETURN(config.waiting_requests_max,
                            fields.Int("waiting_max", 2'000'000, 0, 2'000'000));
    MUSTER_ASSIGN_OR_RETURN(config.waiting_per_tenant_max,
                            fields.Int("waiting_per_tenant_max", 1'000'000, 0, 2'000'000));
    MUSTER_ASSIGN_OR_RETURN(config.overtaken_max, fields.Int("overtaken_max", 64, 0, 1'000'000));
    MUSTER_ASSIGN_OR_RETURN(config.reservation_after,
                            fields.Duration("reservation_after", config.reservation_after));
    return absl::OkStatus();
  }

  static absl::Status ParseSharing(const ScriptFields& fields, SharingConfig& sharing) {
    if (fields.Has("ordering")) {
      MUSTER_ASSIGN_OR_RETURN(sharing.ordering, ParseOrdering(fields.Text("ordering")));
    }
    if (fields.Has("backfill")) {
      MUSTER_ASSIGN_OR_RETURN(sharing.backfill, ParseBackfill(fields.Text("backfill")));
    }
    MUSTER_ASSIGN_OR_RETURN(sharing.reservations_max,
                            fields.Int("reservations_max", sharing.reservations_max, 1, 10'000));
    MUSTER_ASSIGN_OR_RETURN(sharing.duration_default,
                            fields.Duration("duration_default", sharing.duration_default));
    MUSTER_ASSIGN_OR_RETURN(sharing.preemption, fields.YesNo("preemption", false));
    MUSTER_ASSIGN_OR_RETURN(sharing.preemption_grace,
                            fields.Duration("preemption_grace", sharing.preemption_grace));
    MUSTER_ASSIGN_OR_RETURN(sharing.time_slice, fields.Duration("time_slice", sharing.time_slice));
    MUSTER_ASSIGN_OR_RETURN(sharing.recall_grace,
                            fields.Duration("recall_grace", sharing.recall_grace));
    return absl::OkStatus();
  }

  absl::Status ParseStatement(absl::string_view verb, const ScriptFields& fields,
                              ScriptStatement& statement) {
    if (verb == "request") {
      MUSTER_RETURN_IF_ERROR(fields.Allow(ScriptSpecFieldsAnd({"placed_shape", "instead_of"})));
      Requested requested;
      MUSTER_ASSIGN_OR_RETURN(requested.request.value, fields.Id("id"));
      MUSTER_ASSIGN_OR_RETURN(requested.spec, ParseScriptSpec(fields));
      MUSTER_ASSIGN_OR_RETURN(requested.placed_shape,
                              fields.Int("placed_shape", -1, -1, kChoicesMax - 1));
      if (fields.Has("instead_of")) {
        MUSTER_ASSIGN_OR_RETURN(requested.instead_of.value, fields.Id("instead_of"));
      }
      statement.what = std::move(requested);
      return absl::OkStatus();
    }
    if (verb == "finish" || verb == "block" || verb == "unblock") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"id", "bundle"}));
      RequestId request;
      MUSTER_ASSIGN_OR_RETURN(request.value, fields.Id("id"));
      MUSTER_ASSIGN_OR_RETURN(const int bundle, fields.Int("bundle", 0, 0, kBundlesMax));
      if (verb == "finish") {
        statement.what = LeaseFinished{.request = request, .bundle = bundle};
      } else {
        statement.what =
            LeaseBlocked{.request = request, .bundle = bundle, .blocked = verb == "block"};
      }
      return absl::OkStatus();
    }
    if (verb == "whatif") return ParseWhatIf(fields, statement);
    if (verb == "cancel" || verb == "explain" || verb == "estimate" || verb == "decision") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"id"}));
      RequestId request;
      MUSTER_ASSIGN_OR_RETURN(request.value, fields.Id("id"));
      if (verb == "estimate") {
        statement.what = ScriptEstimate{.request = request};
      } else if (verb == "decision") {
        statement.what = ScriptDecision{.request = request};
      } else if (verb == "cancel") {
        statement.what = RequestCancelled{.request = request};
      } else {
        statement.what = ScriptExplain{.request = request};
      }
      return absl::OkStatus();
    }
    if (verb == "tenant") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"name", "weight"}));
      TenantSet tenant{.tenant = std::string(fields.Text("name"))};
      if (fields.Has("weight")) {
        MUSTER_ASSIGN_OR_RETURN(tenant.weight_milli, ParseWeight(fields.Text("weight")));
      }
      statement.what = std::move(tenant);
      return absl::OkStatus();
    }
    if (verb == "quota" || verb == "quota_removed") {
      return ParseQuotaStatement(verb, fields, statement);
    }
    if (verb == "status") {
      statement.what = ScriptStatus{};
      return fields.Allow({});
    }
    return ParseNodeStatement(verb, fields, statement);
  }

  absl::Status ParseWhatIf(const ScriptFields& fields, ScriptStatement& statement) {
    ScriptEstimate estimate;
    MUSTER_ASSIGN_OR_RETURN(estimate.node, ParseJoin(fields, {"id"}));
    MUSTER_ASSIGN_OR_RETURN(estimate.request.value, fields.Id("id"));
    statement.what = std::move(estimate);
    return absl::OkStatus();
  }

  static absl::Status ParseQuotaStatement(absl::string_view verb, const ScriptFields& fields,
                                          ScriptStatement& statement) {
    if (verb == "quota_removed") {
      statement.what = QuotaRemoved{.name = std::string(fields.Text("name"))};
      return fields.Allow({"name"});
    }
    MUSTER_RETURN_IF_ERROR(fields.Allow(
        {"name", "tenant", "job", "selector", "cpus", "gpus", "memory", "resource.*"}));
    Quota quota{.name = std::string(fields.Text("name")),
                .tenant = std::string(fields.Text("tenant")),
                .job = std::string(fields.Text("job"))};
    if (fields.Has("selector")) {
      MUSTER_ASSIGN_OR_RETURN(quota.selector, ParseScriptSelector(fields.Text("selector")));
    }
    for (const auto& [key, value] : fields.values()) {
      if (key == "cpus" || key == "gpus") {
        MUSTER_ASSIGN_OR_RETURN(quota.limits[key], ParseAmount(key, value));
      } else if (key == "memory") {
        MUSTER_ASSIGN_OR_RETURN(quota.limits[key], ParseMemory(value));
      } else if (absl::StartsWith(key, kScriptResourcePrefix)) {
        MUSTER_ASSIGN_OR_RETURN(quota.limits[key.substr(kScriptResourcePrefix.size())],
                                ParseAmount(key, value));
      }
    }
    MUSTER_RETURN_IF_ERROR(Validate(quota));
    statement.what = QuotaSet{.quota = std::move(quota)};
    return absl::OkStatus();
  }

  absl::Status ParseNodeStatement(absl::string_view verb, const ScriptFields& fields,
                                  ScriptStatement& statement) {
    if (verb == "join") {
      MUSTER_ASSIGN_OR_RETURN(NodeJoined join, ParseJoin(fields, {"drain", "unhealthy"}));
      MUSTER_RETURN_IF_ERROR(ParseCondition(fields, join));
      for (HeldLease& held : held_) held.placement.node = join.node;
      join.held = std::exchange(held_, {});
      statement.what = std::move(join);
      return absl::OkStatus();
    }
    NodeId node;
    if (verb == "change") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"node", "labels"}));
      MUSTER_ASSIGN_OR_RETURN(node.value, fields.Id("node"));
      MUSTER_ASSIGN_OR_RETURN(Labels labels, ParseScriptLabels(fields.Text("labels")));
      statement.what = NodeChanged{.node = node, .labels = std::move(labels)};
      return absl::OkStatus();
    }
    if (verb == "drain") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"node", "deadline", "reason"}));
      MUSTER_ASSIGN_OR_RETURN(node.value, fields.Id("node"));
      ScriptDrain drain{.node = node, .reason = std::string(fields.Text("reason"))};
      if (fields.Has("deadline")) {
        MUSTER_ASSIGN_OR_RETURN(drain.deadline, fields.Duration("deadline", {}));
      }
      statement.what = drain;
      return absl::OkStatus();
    }
    if (verb == "healthy" || verb == "unhealthy") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"node", "gpu", "reason"}));
      MUSTER_ASSIGN_OR_RETURN(node.value, fields.Id("node"));
      DeviceHealth health{
          .node = node, .healthy = verb == "healthy", .reason = std::string(fields.Text("reason"))};
      MUSTER_ASSIGN_OR_RETURN(health.device, fields.Int("gpu", 0, 0, kGpuDevicesMax - 1));
      statement.what = std::move(health);
      return absl::OkStatus();
    }
    if (verb == "undrain") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"node"}));
      MUSTER_ASSIGN_OR_RETURN(node.value, fields.Id("node"));
      statement.what = NodeDraining{.node = node, .draining = false};
      return absl::OkStatus();
    }
    if (verb == "lost" || verb == "reachable" || verb == "unreachable") {
      MUSTER_RETURN_IF_ERROR(fields.Allow({"node"}));
      MUSTER_ASSIGN_OR_RETURN(node.value, fields.Id("node"));
      if (verb == "lost") {
        statement.what = NodeLost{.node = node};
      } else {
        statement.what = NodeReachable{.node = node, .reachable = verb == "reachable"};
      }
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::Utf8SafeCHexEscape(verb.substr(0, 80)), "\" is unknown; allowed: ", kVerbs));
  }

  // Of a node that joins: drain=yes or drain=30s, unhealthy=[0,1].
  absl::Status ParseCondition(const ScriptFields& fields, NodeJoined& join) const {
    if (fields.Has("drain")) {
      join.drain = NodeDraining{.node = join.node};
      if (fields.Text("drain") != "yes") {
        MUSTER_ASSIGN_OR_RETURN(const absl::Duration left, fields.Duration("drain", {}));
        join.drain->deadline = ScriptStart() + at_ + left;
      }
    }
    if (!fields.Has("unhealthy")) return absl::OkStatus();
    MUSTER_ASSIGN_OR_RETURN(const absl::string_view inside,
                            Inside(fields.Text("unhealthy"), '[', ']'));
    for (const absl::string_view text : absl::StrSplit(inside, ',')) {
      DeviceHealth health{.node = join.node, .healthy = false};
      if (!absl::SimpleAtoi(text, &health.device)) {
        return absl::InvalidArgumentError("unhealthy: allowed: [0,1]");
      }
      join.unhealthy.push_back(health);
    }
    return absl::OkStatus();
  }

  static constexpr absl::Duration kEnd = absl::Hours(100'000);

  Script script_;
  absl::Duration at_;
  std::vector<HeldLease> held_;
};

}  // namespace

absl::Time ScriptStart() { return absl::UnixEpoch(); }

absl::StatusOr<Script> ParseScript(absl::string_view text) { return ScriptParser().Parse(text); }

}  // namespace muster::sched
