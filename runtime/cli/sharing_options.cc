#include "runtime/cli/sharing_options.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"

namespace muster::cli {
namespace {

constexpr int kReservationsMax = 10'000;

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

absl::Status AddTenant(const std::string& text, std::vector<sched::TenantSet>& tenants) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
  sched::TenantSet tenant{.tenant = parts.first};
  MUSTER_RETURN_IF_ERROR(sched::ValidateTenantName("--fair-share", tenant.tenant));
  absl::StatusOr<int64_t> weight = sched::ParseWeight(parts.second);
  if (parts.first.empty() || !weight.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--fair-share=", text,
                     ": must be TENANT=WEIGHT, such as research=2, with a "
                     "weight from 0.001 to 1000000"));
  }
  tenant.weight_milli = *weight;
  tenants.push_back(std::move(tenant));
  return absl::OkStatus();
}

void Add(std::vector<std::string>& arguments, absl::string_view name, const std::string& value) {
  if (!value.empty()) arguments.push_back(absl::StrCat(name, "=", value));
}

}  // namespace

void AddSharingOptions(Arguments& arguments, SharingOptions* given) {
  arguments.Text("--ordering", "ORDER",
                 "whose turn it is at equal priority: fair (default: the tenant with the least "
                 "share by its weight) or fifo",
                 &given->ordering);
  arguments.Texts("--fair-share", "TENANT=WEIGHT",
                  "a tenant's weight, such as research=2 (default 1); may be given several times",
                  &given->fair_share);
  arguments.Texts("--quota", "QUOTA",
                  "what a tenant or job may hold at most of the nodes with some labels, such as "
                  "h100:tenant=research,gpus=8,ray.io/accelerator-type=H100; may be given several "
                  "times",
                  &given->quotas);
  arguments.Text("--backfill", "MODE",
                 "who may pass a request that has no room: greedy (default: whoever has room), "
                 "none, easy or conservative (whoever puts no reservation off)",
                 &given->backfill);
  arguments.Text("--reservations", "N", "of conservative backfill, at most (default 64)",
                 &given->reservations);
  arguments.Text("--expected-duration", "TIME",
                 "what backfill reckons with for work that gives no expected_duration "
                 "(default 1h)",
                 &given->expected_duration);
  arguments.Text("--preemption", "on|off",
                 "work of higher priority may end preemptible work of lower (default on)",
                 &given->preemption);
  arguments.Text("--preemption-grace", "TIME",
                 "from the notice to the end of preempted work (default 30s)",
                 &given->preemption_grace);
  arguments.Text("--time-slice", "TIME",
                 "a lease held that long is asked back while others wait (default off)",
                 &given->time_slice);
  arguments.Text("--recall-grace", "TIME",
                 "from that notice to the end of the lease (default off: with its running task)",
                 &given->recall_grace);
}

absl::Status Apply(const SharingOptions& given, head::HeadOptions& options) {
  sched::SharingConfig& sharing = options.sharing;
  if (!given.ordering.empty()) {
    MUSTER_ASSIGN_OR_RETURN(sharing.ordering, sched::ParseOrdering(given.ordering));
  }
  if (!given.backfill.empty()) {
    MUSTER_ASSIGN_OR_RETURN(sharing.backfill, sched::ParseBackfill(given.backfill));
  }
  if (!given.reservations.empty() &&
      (!absl::SimpleAtoi(given.reservations, &sharing.reservations_max) ||
       sharing.reservations_max < 1 || sharing.reservations_max > kReservationsMax)) {
    return absl::InvalidArgumentError(absl::StrCat("--reservations=", given.reservations,
                                                   ": must be a whole number from 1 to ",
                                                   kReservationsMax));
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
  for (const std::string& text : given.fair_share) {
    MUSTER_RETURN_IF_ERROR(AddTenant(text, options.tenants));
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
  Add(arguments, "--ordering", given.ordering);
  Add(arguments, "--backfill", given.backfill);
  Add(arguments, "--reservations", given.reservations);
  Add(arguments, "--expected-duration", given.expected_duration);
  Add(arguments, "--preemption", given.preemption);
  Add(arguments, "--preemption-grace", given.preemption_grace);
  Add(arguments, "--time-slice", given.time_slice);
  Add(arguments, "--recall-grace", given.recall_grace);
  for (const std::string& text : given.fair_share) Add(arguments, "--fair-share", text);
  for (const std::string& text : given.quotas) Add(arguments, "--quota", text);
  return arguments;
}

}  // namespace muster::cli
