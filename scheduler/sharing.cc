#include "scheduler/sharing.h"

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"

namespace muster::sched {
namespace {

constexpr std::array<std::pair<Ordering, absl::string_view>, 2> kOrderings = {
    {{Ordering::kFair, "fair"}, {Ordering::kFifo, "fifo"}}};
constexpr std::array<std::pair<Backfill, absl::string_view>, 4> kBackfills = {
    {{Backfill::kGreedy, "greedy"},
     {Backfill::kNone, "none"},
     {Backfill::kEasy, "easy"},
     {Backfill::kConservative, "conservative"}}};
constexpr absl::string_view kCustomPrefix = "resource.";
constexpr int kLimitsMax = 64;

template <typename Known>
auto ParseWord(absl::string_view what, const Known& known, absl::string_view text)
    -> absl::StatusOr<decltype(known[0].first)> {
  for (const auto& [value, name] : known) {
    if (text == name) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      what, ": \"", absl::Utf8SafeCHexEscape(text.substr(0, 80)), "\" is unknown; allowed: ",
      absl::StrJoin(known, ", ", [](std::string* out, const auto& entry) {
        absl::StrAppend(out, entry.second);
      })));
}

template <typename Known, typename Value>
std::string WordOf(const Known& known, Value wanted) {
  for (const auto& [value, name] : known) {
    if (value == wanted) return std::string(name);
  }
  return "";
}

// At commas outside parentheses.
std::vector<std::string> Pieces(absl::string_view text) {
  std::vector<std::string> pieces(1);
  int depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (c == ')') --depth;
    if (c == ',' && depth == 0) {
      pieces.emplace_back();
    } else {
      pieces.back() += c;
    }
  }
  return pieces;
}

bool IsLimit(absl::string_view key) {
  return key == "cpus" || key == "gpus" || key == "memory" || absl::StartsWith(key, kCustomPrefix);
}

absl::Status SetLimit(const std::string& key, const std::string& value, Quota& quota) {
  if (key == "memory") {
    MUSTER_ASSIGN_OR_RETURN(quota.limits[key], ParseMemory(value));
    return absl::OkStatus();
  }
  const bool custom = absl::StartsWith(key, kCustomPrefix);
  const std::string name = custom ? key.substr(kCustomPrefix.size()) : key;
  if (custom) MUSTER_RETURN_IF_ERROR(ValidateResourceName(name));
  MUSTER_ASSIGN_OR_RETURN(quota.limits[name], ParseAmount(key, value));
  return absl::OkStatus();
}

absl::Status In(absl::string_view where, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(where, status.message()));
}

}  // namespace

absl::StatusOr<Ordering> ParseOrdering(absl::string_view text) {
  return ParseWord("ordering", kOrderings, text);
}
absl::StatusOr<Backfill> ParseBackfill(absl::string_view text) {
  return ParseWord("backfill", kBackfills, text);
}
std::string ToString(Ordering ordering) { return WordOf(kOrderings, ordering); }
std::string ToString(Backfill backfill) { return WordOf(kBackfills, backfill); }

absl::StatusOr<int64_t> ParseWeight(absl::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t amount, ParseAmount("weight", text));
  constexpr int64_t kStep = Amount::kUnit / kWeightUnit;
  if (amount < kStep || amount % kStep != 0 || amount / kStep > kWeightMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight=", text, ": allowed: 0.001 to 1000000, in steps of 0.001"));
  }
  return amount / kStep;
}

std::string WeightToText(int64_t weight_milli) {
  return AmountToText(weight_milli * (Amount::kUnit / kWeightUnit));
}

absl::Status Validate(const Quota& quota) {
  if (quota.name.empty()) return absl::InvalidArgumentError("a quota needs a name");
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("quota", quota.name));
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("tenant", quota.tenant));
  MUSTER_RETURN_IF_ERROR(ValidateTenantName("job", quota.job));
  const std::string where = absl::StrCat("quota ", quota.name, ": ");
  if (!quota.tenant.empty() && !quota.job.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, "give a tenant or a job, not both"));
  }
  if (quota.limits.empty() || quota.limits.size() > kLimitsMax) {
    return absl::InvalidArgumentError(absl::StrCat(where, quota.limits.size(),
                                                   " limits; allowed: 1 to ", kLimitsMax,
                                                   " of cpus, gpus, memory, resource.NAME"));
  }
  for (const auto& [name, limit] : quota.limits) {
    if (limit < 0) {
      return absl::InvalidArgumentError(absl::StrCat(where, name, " must not be negative"));
    }
  }
  return absl::OkStatus();
}

std::string ToText(const Quota& quota) {
  std::string text = absl::StrCat("name=", quota.name);
  if (!quota.tenant.empty()) absl::StrAppend(&text, " tenant=", quota.tenant);
  if (!quota.job.empty()) absl::StrAppend(&text, " job=", quota.job);
  for (const auto& [name, limit] : quota.limits) {
    absl::StrAppend(&text, " ", name, "=",
                    name == "memory" ? absl::StrCat(limit) : AmountToText(limit));
  }
  if (!quota.selector.empty())
    absl::StrAppend(&text, " selector={", quota.selector.ToString(), "}");
  return text;
}

absl::StatusOr<Quota> ParseQuota(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  Quota quota{.name = std::string(parts.first)};
  std::map<std::string, std::string> selector;
  std::string* last = nullptr;
  const std::string where = absl::StrCat("quota \"", absl::Utf8SafeCHexEscape(parts.first), "\": ");
  for (const std::string& piece : Pieces(parts.second)) {
    if (!absl::StrContains(piece, '=')) {
      if (last != nullptr && !piece.empty()) {  // One more clause: "zone=!a,!b".
        absl::StrAppend(last, ",", piece);
        continue;
      }
      return absl::InvalidArgumentError(
          absl::StrCat(where, "\"", absl::Utf8SafeCHexEscape(piece),
                       "\" is not KEY=VALUE; an example: h100:tenant=research,gpus=8,"
                       "ray.io/accelerator-type=H100"));
    }
    const std::pair<std::string, std::string> entry =
        absl::StrSplit(piece, absl::MaxSplits('=', 1));
    const auto& [key, value] = entry;
    if (key == "tenant") {
      quota.tenant = value;
    } else if (key == "job") {
      quota.job = value;
    } else if (IsLimit(key)) {
      MUSTER_RETURN_IF_ERROR(In(where, SetLimit(key, value, quota)));
    } else {
      const auto [at, added] = selector.emplace(key, value);
      if (!added) absl::StrAppend(&at->second, ",", value);
      last = &at->second;
    }
  }
  absl::StatusOr<LabelSelector> parsed = LabelSelector::Parse(selector);
  MUSTER_RETURN_IF_ERROR(In(where, parsed.status()));
  quota.selector = *std::move(parsed);
  MUSTER_RETURN_IF_ERROR(Validate(quota));
  return quota;
}

int64_t AmountOf(const Resources& resources, absl::string_view name) {
  if (name == "cpus") return resources.cpus;
  if (name == "gpus") return resources.gpus;
  if (name == "memory") return resources.memory_bytes;
  const auto found = resources.custom.find(name);
  return found == resources.custom.end() ? 0 : found->second;
}

std::string LimitText(absl::string_view name, int64_t amount) {
  if (name == "memory") return absl::StrCat(MemoryToText(amount), " memory");
  const bool one = amount == Amount::kUnit;
  if (name == "cpus") return absl::StrCat(AmountToText(amount), one ? " CPU" : " CPUs");
  if (name == "gpus") return absl::StrCat(AmountToText(amount), one ? " GPU" : " GPUs");
  return absl::StrCat(AmountToText(amount), " ", name);
}

}  // namespace muster::sched
