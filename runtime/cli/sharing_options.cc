#include "runtime/cli/sharing_options.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"
#include "scheduler/labels.h"
#include "scheduler/placement_policy.h"

namespace muster::cli {
namespace {

constexpr int kReservationsMax = 10'000;
constexpr int kOvertakenMax = 1'000'000;

absl::Status SetDuration(absl::string_view name, const std::string& text, bool zero_allowed,
                         absl::Duration& to) {
  if (text.empty()) return absl::OkStatus();
  if (text == "off" || text == "none") {
    to = absl::InfiniteDuration();
    return absl::OkStatus();
  }
  const std::optional<absl::Duration> duration = ParseDuration(text);
  if (!duration || (*duration == absl::ZeroDuration() && !zero_allowed)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "=", text, ": must be a duration such as 30s or 10m, or off"));
  }
  to = *duration;
  return absl::OkStatus();
}

// One line for each option that is a text: what is asked for is what is passed on.
struct TextOption {
  absl::string_view name;
  absl::string_view shows;
  absl::string_view help;
  std::string SharingOptions::*value;
};
constexpr TextOption kTexts[] = {
    {"--ordering", "ORDER",
     "whose turn it is at equal priority: fair (default: the tenant with the least share by its "
     "weight) or fifo",
     &SharingOptions::ordering},
    {"--backfill", "MODE",
     "who may pass a request that has no room: greedy (default: whoever has room), none, easy or "
     "conservative (whoever puts no reservation off)",
     &SharingOptions::backfill},
    {"--reservations", "N", "of conservative backfill, at most (default 64)",
     &SharingOptions::reservations},
    {"--expected-duration", "TIME",
     "what backfill reckons with for work that gives no expected_duration (default 1h)",
     &SharingOptions::expected_duration},
    {"--preemption", "on|off",
     "work of higher priority may end preemptible work of lower (default on)",
     &SharingOptions::preemption},
    {"--preemption-grace", "TIME", "from the notice to the end of preempted work (default 30s)",
     &SharingOptions::preemption_grace},
    {"--time-slice", "TIME", "a lease held that long is asked back while others wait (default off)",
     &SharingOptions::time_slice},
    {"--recall-grace", "TIME",
     "from that notice to the end of the lease (default off: with its running task)",
     &SharingOptions::recall_grace},
    {"--placement", "POLICY",
     "which of the nodes with room work gets that names no policy: pack (default), best-fit or "
     "spread",
     &SharingOptions::placement},
    {"--topology", "LABELS",
     "the labels that say where nodes lie, from the coarsest to the finest, by commas (default: "
     "region, zone, rack, NVLink domain): ranks are numbered along them",
     &SharingOptions::topology},
    {"--overtaken-max", "N",
     "how many younger requests may pass the oldest group that has no room, before nodes are set "
     "aside for it (default 64); 0: any number",
     &SharingOptions::overtaken_max},
    {"--reservation-after", "TIME", "or how long it has waited (default 1m; off: for ever)",
     &SharingOptions::reservation_after},
};

absl::Status SetWhole(absl::string_view name, const std::string& text, int min, int max, int& to) {
  if (text.empty()) return absl::OkStatus();
  int value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < min || value > max) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "=", text, ": must be a whole number from ", min, " to ", max));
  }
  to = value;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<sched::TenantSet> ParseTenantWeight(absl::string_view text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
  MUSTER_RETURN_IF_ERROR(sched::ValidateTenantName("tenant", parts.first));
  const absl::StatusOr<int64_t> weight = sched::ParseWeight(parts.second);
  if (parts.first.empty() || !weight.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(text,
                     ": must be TENANT=WEIGHT, such as research=2, with a weight from 0.001 to "
                     "1000000"));
  }
  return sched::TenantSet{.tenant = parts.first, .weight_milli = *weight};
}

void AddSharingOptions(Arguments& arguments, SharingOptions* given) {
  for (const TextOption& option : kTexts) {
    arguments.Text(option.name, option.shows, option.help, &(given->*option.value));
  }
  arguments.Texts("--fair-share", "TENANT=WEIGHT",
                  "a tenant's weight, such as research=2 (default 1), until muster fair-share sets "
                  "another; may be given several times",
                  &given->fair_share);
  arguments.Texts("--quota", "QUOTA",
                  "what a tenant or job may hold at most of the nodes with some labels, such as "
                  "h100:tenant=research,gpus=8,ray.io/accelerator-type=H100, until muster quota "
                  "sets or removes the one of that name; may be given several times",
                  &given->quotas);
}

absl::Status Apply(const SharingOptions& given, head::HeadOptions& options) {
  sched::SharingConfig& sharing = options.sharing;
  if (!given.ordering.empty()) {
    MUSTER_ASSIGN_OR_RETURN(sharing.ordering, sched::ParseOrdering(given.ordering));
  }
  if (!given.backfill.empty()) {
    MUSTER_ASSIGN_OR_RETURN(sharing.backfill, sched::ParseBackfill(given.backfill));
  }
  MUSTER_RETURN_IF_ERROR(SetWhole("--reservations", given.reservations, 1, kReservationsMax,
                                  sharing.reservations_max));
  MUSTER_RETURN_IF_ERROR(
      SetWhole("--overtaken-max", given.overtaken_max, 0, kOvertakenMax, options.overtaken_max));
  MUSTER_RETURN_IF_ERROR(
      SetDuration("--reservation-after", given.reservation_after, true, options.reservation_after));
  for (const absl::string_view label : absl::StrSplit(given.topology, ',', absl::SkipEmpty())) {
    if (const absl::Status status = sched::ValidateLabelKey(label); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--topology: ", status.message()));
    }
    options.hierarchy.emplace_back(label);
  }
  if (!given.preemption.empty()) {
    if (given.preemption != "on" && given.preemption != "off") {
      return absl::InvalidArgumentError(
          absl::StrCat("--preemption=", given.preemption, ": must be on or off"));
    }
    sharing.preemption = given.preemption == "on";
  }
  MUSTER_RETURN_IF_ERROR(
      SetDuration("--expected-duration", given.expected_duration, false, sharing.duration_default));
  if (sharing.duration_default == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError("--expected-duration: must be a duration such as 1h");
  }
  MUSTER_RETURN_IF_ERROR(
      SetDuration("--preemption-grace", given.preemption_grace, true, sharing.preemption_grace));
  MUSTER_RETURN_IF_ERROR(SetDuration("--time-slice", given.time_slice, false, sharing.time_slice));
  MUSTER_RETURN_IF_ERROR(
      SetDuration("--recall-grace", given.recall_grace, true, sharing.recall_grace));
  if (!given.placement.empty()) {
    const absl::StatusOr<sched::PlacementPolicy> policy =
        sched::ParsePlacementPolicy(given.placement);
    if (!policy.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--placement: ", policy.status().message()));
    }
    options.placement = *policy;
  }
  for (const std::string& text : given.fair_share) {
    absl::StatusOr<sched::TenantSet> tenant = ParseTenantWeight(text);
    if (!tenant.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--fair-share=", tenant.status().message()));
    }
    options.tenants.push_back(*std::move(tenant));
  }
  for (const std::string& text : given.quotas) {
    absl::StatusOr<sched::Quota> quota = sched::ParseQuota(text);
    if (!quota.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--quota: ", quota.status().message()));
    }
    options.quotas.push_back(*std::move(quota));
  }
  return absl::OkStatus();
}

std::vector<std::string> ToArguments(const SharingOptions& given) {
  std::vector<std::string> arguments;
  for (const TextOption& option : kTexts) {
    const std::string& value = given.*option.value;
    if (!value.empty()) arguments.push_back(absl::StrCat(option.name, "=", value));
  }
  for (const std::string& text : given.fair_share) {
    arguments.push_back(absl::StrCat("--fair-share=", text));
  }
  for (const std::string& text : given.quotas) arguments.push_back(absl::StrCat("--quota=", text));
  return arguments;
}

}  // namespace muster::cli
