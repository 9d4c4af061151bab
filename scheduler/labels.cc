#include "scheduler/labels.h"

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/json_map.h"

namespace muster::sched {
namespace {

constexpr int kNameBytesMax = 63;
constexpr int kPrefixBytesMax = 253;

struct Alias {
  absl::string_view alias;
  absl::string_view key;
};
constexpr std::array<Alias, 3> kAliases = {{
    {"ray.io/accelerator", "ray.io/accelerator-type"},
    {"ray.io/zone", "ray.io/availability-zone"},
    {"ray.io/region", "ray.io/availability-region"},
}};

bool IsName(absl::string_view text) {
  if (text.empty() || text.size() > kNameBytesMax) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.') return false;
  }
  return absl::ascii_isalnum(text.front()) && absl::ascii_isalnum(text.back());
}

bool IsDnsPrefix(absl::string_view text) {
  if (text.size() > kPrefixBytesMax) return false;
  for (const absl::string_view part : absl::StrSplit(text, '.')) {
    if (part.empty() || part.front() == '-' || part.back() == '-') return false;
    for (const char c : part) {
      if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '-') return false;
    }
  }
  return true;
}

std::string Shown(absl::string_view text) {
  constexpr int kShownMax = 80;
  const bool cut = text.size() > kShownMax;
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, kShownMax)), cut ? "..." : "",
                      "\"");
}

}  // namespace

absl::Status ValidateLabelKey(absl::string_view key) {
  const size_t slash = key.find('/');
  const bool prefixed = slash != absl::string_view::npos;
  if (prefixed && !IsDnsPrefix(key.substr(0, slash))) {
    return absl::InvalidArgumentError(
        absl::StrCat("label key ", Shown(key),
                     ": what stands before \"/\" must be a DNS name in lower case, at most ",
                     kPrefixBytesMax, " characters"));
  }
  if (!IsName(prefixed ? key.substr(slash + 1) : key)) {
    return absl::InvalidArgumentError(
        absl::StrCat("label key ", Shown(key), ": the name must be 1-", kNameBytesMax,
                     " letters, digits, \"-\", \"_\" or \".\", and begin and end with a letter or "
                     "digit"));
  }
  return absl::OkStatus();
}

absl::Status ValidateLabelValue(absl::string_view value) {
  if (value.empty() || IsName(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Shown(value), " is not a label value: at most ", kNameBytesMax,
                   " letters, digits, \"-\", \"_\" or \".\", beginning and ending with a letter or "
                   "digit"));
}

absl::Status ValidateLabels(const Labels& labels) {
  if (labels.size() > kLabelsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(labels.size(), " labels are too many: at most ", kLabelsMax));
  }
  for (const auto& [key, value] : labels) {
    MUSTER_RETURN_IF_ERROR(ValidateLabelKey(key));
    if (absl::Status status = ValidateLabelValue(value); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("label \"", key, "\": ", status.message()));
    }
  }
  for (const Alias& alias : kAliases) {
    const auto one = labels.find(alias.alias);
    const auto other = labels.find(alias.key);
    if (one != labels.end() && other != labels.end() && one->second != other->second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "labels \"", alias.alias, "\" (\"", one->second, "\") and \"", alias.key, "\" (\"",
          other->second, "\") mean the same and must not differ: give one of them"));
    }
  }
  return absl::OkStatus();
}

Labels WithAliases(Labels labels) {
  for (const Alias& alias : kAliases) {
    const auto one = labels.find(alias.alias);
    const auto other = labels.find(alias.key);
    if (one == labels.end() && other != labels.end()) {
      std::string value = other->second;  // The insertion may move what `other` points to.
      labels.emplace(std::string(alias.alias), std::move(value));
    } else if (one != labels.end() && other == labels.end()) {
      std::string value = one->second;
      labels.emplace(std::string(alias.key), std::move(value));
    }
  }
  return labels;
}

bool IsAlias(absl::string_view key) {
  for (const Alias& alias : kAliases) {
    if (alias.alias == key) return true;
  }
  return false;
}

absl::StatusOr<Labels> ParseLabels(absl::string_view text) {
  if (text.size() > kLabelsTextBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "labels: ", text.size(), " characters are too many: at most ", kLabelsTextBytesMax));
  }
  Labels labels;
  if (LooksLikeJsonMap(text)) {
    absl::StatusOr<std::map<std::string, std::string>> map = ParseJsonMap(text);
    if (!map.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("labels: ", map.status().message()));
    }
    for (auto& [key, value] : *map) labels.emplace(key, std::move(value));
  } else if (!text.empty()) {
    for (const absl::string_view piece : absl::StrSplit(text, ',')) {
      const size_t equals = piece.find('=');
      if (equals == absl::string_view::npos) {
        return absl::InvalidArgumentError(absl::StrCat(
            "labels: ", Shown(piece), " is not key=value; allowed: k=v,k2=v2 or {\"k\": \"v\"}"));
      }
      const bool is_new =
          labels
              .emplace(std::string(piece.substr(0, equals)), std::string(piece.substr(equals + 1)))
              .second;
      if (!is_new) {
        return absl::InvalidArgumentError(
            absl::StrCat("labels: ", Shown(piece.substr(0, equals)), " is given twice"));
      }
    }
  }
  MUSTER_RETURN_IF_ERROR(ValidateLabels(labels));
  return WithAliases(std::move(labels));
}

absl::string_view ShortKey(absl::string_view key) {
  absl::ConsumePrefix(&key, "ray.io/");
  return key;
}

std::string ToText(const Labels& labels) {
  std::string text;
  for (const auto& [key, value] : labels) {
    if (IsAlias(key)) continue;
    absl::StrAppend(&text, text.empty() ? "" : " ", ShortKey(key), "=", value);
  }
  return text;
}

}  // namespace muster::sched
