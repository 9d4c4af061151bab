#include "scheduler/resources.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"

namespace muster::sched {
namespace {

constexpr int kResourceNameBytesMax = 63;
constexpr int kDecimals = 4;

absl::Status Refused(absl::string_view name, absl::string_view value, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, "=", absl::Utf8SafeCHexEscape(value.substr(0, 80)), ": ", what));
}

absl::Status ValidateAmount(absl::string_view name, int64_t amount) {
  if (amount < 0) return Refused(name, AmountToText(amount), "must not be negative");
  if (amount > Amount::kMax) return Refused(name, AmountToText(amount), "is too large");
  return absl::OkStatus();
}

absl::Status ValidateMemory(int64_t bytes) {
  if (bytes < 0) return Refused("memory", absl::StrCat(bytes), "must not be negative");
  if (bytes > kMemoryBytesMax) return Refused("memory", absl::StrCat(bytes), "is too large");
  return absl::OkStatus();
}

absl::Status ValidateCustom(const absl::btree_map<std::string, int64_t>& custom) {
  if (custom.size() > kCustomResourcesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        custom.size(), " custom resources are too many: at most ", kCustomResourcesMax));
  }
  for (const auto& [name, amount] : custom) {
    MUSTER_RETURN_IF_ERROR(ValidateResourceName(name));
    MUSTER_RETURN_IF_ERROR(ValidateAmount(absl::StrCat("resource.", name), amount));
    if (amount == 0) return Refused(absl::StrCat("resource.", name), "0", "leave it out");
  }
  return absl::OkStatus();
}

// The decimal number of units in `text` times `unit`, exact; nullopt if it is none, or finer
// than 1.
std::optional<int64_t> ParseDecimal(absl::string_view text, int64_t unit, int64_t max) {
  const size_t point = text.find('.');
  const absl::string_view whole = text.substr(0, point);
  const absl::string_view part =
      point == absl::string_view::npos ? absl::string_view() : text.substr(point + 1);
  if (whole.empty() || (point != absl::string_view::npos && part.empty())) return std::nullopt;
  const auto all_digits = [](absl::string_view digits) {
    return digits.find_first_not_of("0123456789") == absl::string_view::npos;
  };
  if (!all_digits(whole) || !all_digits(part) || whole.size() > 18 || part.size() > 18) {
    return std::nullopt;
  }
  __extension__ using Wide = __int128;
  Wide value = 0;
  for (const char c : whole) value = value * 10 + (c - '0');
  value *= unit;
  Wide digits = 0;
  Wide scale = 1;
  for (const char c : part) {
    digits = digits * 10 + (c - '0');
    scale *= 10;
  }
  if (digits * unit % scale != 0) return std::nullopt;
  value += digits * unit / scale;
  if (value > max) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::string Counted(int64_t amount, absl::string_view name) {
  return absl::StrCat(AmountToText(amount), " ", name, amount > Amount::kUnit ? "s" : "");
}

std::string Joined(int64_t cpus, int64_t gpus, int64_t memory_bytes,
                   const absl::btree_map<std::string, int64_t>& custom) {
  std::vector<std::string> parts;
  if (cpus != 0) parts.push_back(Counted(cpus, "CPU"));
  if (gpus != 0) parts.push_back(Counted(gpus, "GPU"));
  if (memory_bytes != 0) parts.push_back(absl::StrCat(MemoryToText(memory_bytes), " memory"));
  for (const auto& [name, amount] : custom) {
    parts.push_back(absl::StrCat(AmountToText(amount), " ", name));
  }
  return parts.empty() ? "nothing" : absl::StrJoin(parts, ", ");
}

}  // namespace

absl::StatusOr<int64_t> AmountFromDouble(absl::string_view name, double value) {
  const std::string shown = absl::StrCat(value);
  if (std::isnan(value)) return Refused(name, shown, "is not a number");
  if (value < 0) return Refused(name, shown, "must not be negative");
  if (value > static_cast<double>(Amount::kMax / Amount::kUnit)) {
    return Refused(name, shown, "is too large");
  }
  const double scaled = value * Amount::kUnit;
  const double rounded = std::nearbyint(scaled);
  // 0.1 is not exact in binary: what decimal notation can say with four decimals comes this close.
  if (std::abs(scaled - rounded) > 1e-9 * std::max(1.0, scaled)) {
    return Refused(name, shown, "is finer than 1/10000");
  }
  return static_cast<int64_t>(rounded);
}

absl::StatusOr<int64_t> ParseAmount(absl::string_view name, absl::string_view text) {
  const std::optional<int64_t> amount = ParseDecimal(text, Amount::kUnit, Amount::kMax);
  if (!amount) {
    return Refused(name, text,
                   "must be a number like 2 or 0.5, with at most 4 decimals, from 0 to 1000000000");
  }
  return *amount;
}

std::string AmountToText(int64_t amount) {
  const bool negative = amount < 0;
  const uint64_t size =
      negative ? 0 - static_cast<uint64_t>(amount) : static_cast<uint64_t>(amount);
  std::string text = absl::StrCat(negative ? "-" : "", size / Amount::kUnit);
  if (size % Amount::kUnit != 0) {
    text += absl::StrFormat(".%0*d", kDecimals, size % Amount::kUnit);
    while (text.back() == '0') text.pop_back();
  }
  return text;
}

absl::StatusOr<int64_t> ParseMemory(absl::string_view text) {
  struct Suffix {
    absl::string_view text;
    int64_t unit;
  };
  constexpr Suffix kSuffixes[] = {{"KiB", int64_t{1} << 10},
                                  {"MiB", int64_t{1} << 20},
                                  {"GiB", int64_t{1} << 30},
                                  {"TiB", int64_t{1} << 40}};
  absl::string_view number = text;
  int64_t unit = 1;
  for (const Suffix& suffix : kSuffixes) {
    if (absl::ConsumeSuffix(&number, suffix.text)) {
      unit = suffix.unit;
      break;
    }
  }
  const std::optional<int64_t> bytes = ParseDecimal(number, unit, kMemoryBytesMax);
  if (!bytes) return Refused("memory", text, "must be like 8GiB, 512MiB, 1.5TiB, 64KiB or bytes");
  return *bytes;
}

std::string MemoryToText(int64_t bytes) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  constexpr int64_t kGiB = int64_t{1} << 30;
  if (bytes >= kGiB && bytes % (kGiB / 2) == 0) {
    return absl::StrCat(bytes / kGiB, bytes % kGiB == 0 ? "" : ".5", " GiB");
  }
  if (bytes != 0 && bytes % kMiB == 0) return absl::StrCat(bytes / kMiB, " MiB");
  if (bytes >= kGiB) return absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / kGiB);
  return absl::StrCat(bytes, bytes == 1 ? " byte" : " bytes");
}

absl::StatusOr<Resources> MakeResources(double cpus, double gpus, int64_t memory_bytes,
                                        const std::map<std::string, double>& custom) {
  Resources resources;
  MUSTER_ASSIGN_OR_RETURN(resources.cpus, AmountFromDouble("cpus", cpus));
  MUSTER_ASSIGN_OR_RETURN(resources.gpus, AmountFromDouble("gpus", gpus));
  resources.memory_bytes = memory_bytes;
  for (const auto& [name, value] : custom) {
    MUSTER_RETURN_IF_ERROR(ValidateResourceName(name));
    MUSTER_ASSIGN_OR_RETURN(const int64_t amount,
                            AmountFromDouble(absl::StrCat("resource.", name), value));
    if (amount != 0) resources.custom.emplace(name, amount);
  }
  MUSTER_RETURN_IF_ERROR(Validate(resources));
  return resources;
}

absl::Status Validate(const Resources& resources) {
  MUSTER_RETURN_IF_ERROR(ValidateAmount("cpus", resources.cpus));
  MUSTER_RETURN_IF_ERROR(ValidateAmount("gpus", resources.gpus));
  if (resources.gpus > Amount::kUnit && resources.gpus % Amount::kUnit != 0) {
    return Refused("gpus", AmountToText(resources.gpus),
                   "above 1 must be whole: a fraction is a share of one device");
  }
  MUSTER_RETURN_IF_ERROR(ValidateMemory(resources.memory_bytes));
  return ValidateCustom(resources.custom);
}

absl::Status Validate(const NodeResources& total) {
  MUSTER_RETURN_IF_ERROR(ValidateAmount("cpus", total.cpus));
  if (total.gpu_devices < 0 || total.gpu_devices > kGpuDevicesMax) {
    return Refused("gpus", absl::StrCat(total.gpu_devices),
                   absl::StrCat("must be from 0 to ", kGpuDevicesMax));
  }
  MUSTER_RETURN_IF_ERROR(ValidateMemory(total.memory_bytes));
  return ValidateCustom(total.custom);
}

absl::Status ValidateResourceName(absl::string_view name) {
  bool plain = !name.empty() && name.size() <= kResourceNameBytesMax;
  for (const char c : name) {
    plain = plain &&
            (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':' || c == '/');
  }
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "resource name \"", absl::Utf8SafeCHexEscape(name.substr(0, 80)), "\" must be 1-",
      kResourceNameBytesMax, " letters, digits, \"-\", \"_\", \".\", \":\" or \"/\""));
}

std::string ToText(const Resources& resources) {
  return Joined(resources.cpus, resources.gpus, resources.memory_bytes, resources.custom);
}

std::string ToText(const NodeResources& total) {
  return Joined(total.cpus, total.gpu_devices * Amount::kUnit, total.memory_bytes, total.custom);
}

}  // namespace muster::sched
