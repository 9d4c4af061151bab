#include "runtime/client/flags.h"

#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/choice.h"

namespace muster::client {
namespace {

constexpr absl::string_view kPrefix = "--muster-";

// What is wrong with a value, or empty.
using Problem = std::string;
using Setter = Problem (*)(absl::string_view value, InitOptions& options);

Problem SetAddress(absl::string_view value, InitOptions& options) {
  const size_t colon = value.rfind(':');
  int port = 0;
  if (colon == value.npos || colon == 0 || !absl::SimpleAtoi(value.substr(colon + 1), &port) ||
      port < 1 || port > 65535) {
    return "wants HOST:PORT, as in 10.0.0.1:6379";
  }
  options.address = std::string(value);
  return "";
}

Problem SetReconnect(absl::string_view value, InitOptions& options) {
  absl::Duration timeout;
  if (!absl::ParseDuration(value, &timeout) || timeout < absl::ZeroDuration()) {
    return "wants a duration with its unit, as in 60s or 5m";
  }
  options.reconnect_timeout = timeout;
  return "";
}

Problem SetNumCpus(absl::string_view value, InitOptions& options) {
  double cpus = 0;
  if (!absl::SimpleAtod(value, &cpus) || !std::isfinite(cpus) || cpus <= 0) {
    return "wants a number above 0, as in 4 or 0.5";
  }
  options.num_cpus = cpus;
  return "";
}

Problem SetNumGpus(absl::string_view value, InitOptions& options) {
  int gpus = 0;
  if (!absl::SimpleAtoi(value, &gpus) || gpus < 0) return "wants a whole number, 0 or more";
  options.num_gpus = gpus;
  return "";
}

Problem SetLabels(absl::string_view value, InitOptions& options) {
  std::map<std::string, std::string> labels;
  for (absl::string_view label : absl::StrSplit(value, ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.first.empty() || label.size() == parts.first.size()) {
      return absl::StrCat("wants KEY=VALUE,KEY=VALUE,... and not \"", label, "\"");
    }
    const bool added = labels.emplace(parts.first, parts.second).second;
    if (!added) return absl::StrCat("has the key \"", parts.first, "\" twice");
  }
  options.labels = std::move(labels);
  return "";
}

Problem SetName(absl::string_view value, std::string& name) {
  const absl::Status status = sched::ValidateTenantName("name", value);
  if (value.empty() || !status.ok()) {
    return "wants a name: printable ASCII without blanks, commas, colons or \"=\"";
  }
  name = std::string(value);
  return "";
}

Problem SetTenant(absl::string_view value, InitOptions& options) {
  return SetName(value, options.tenant);
}

Problem SetJob(absl::string_view value, InitOptions& options) {
  return SetName(value, options.job);
}

struct Flag {
  absl::string_view name;
  Setter set;
};
constexpr Flag kFlags[] = {
    {"--muster-address", &SetAddress},  {"--muster-reconnect", &SetReconnect},
    {"--muster-num-cpus", &SetNumCpus}, {"--muster-num-gpus", &SetNumGpus},
    {"--muster-labels", &SetLabels},    {"--muster-tenant", &SetTenant},
    {"--muster-job", &SetJob}};

absl::Status Unknown(absl::string_view name) {
  std::string known;
  for (const Flag& flag : kFlags) absl::StrAppend(&known, known.empty() ? "" : ", ", flag.name);
  return absl::InvalidArgumentError(absl::StrCat("there is no flag ", name, "; there are ", known));
}

absl::Status Set(absl::string_view name, absl::string_view value, InitOptions& options) {
  for (const Flag& flag : kFlags) {
    if (flag.name != name) continue;
    const Problem problem = flag.set(value, options);
    if (problem.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, "=", value, ": ", name, " ", problem));
  }
  return Unknown(name);
}

bool IsKnown(absl::string_view name) {
  for (const Flag& flag : kFlags) {
    if (flag.name == name) return true;
  }
  return false;
}

}  // namespace

absl::Status TakeFlags(int& argc, char** argv, InitOptions& options) {
  InitOptions result = options;
  std::vector<char*> kept;
  int i = 0;
  for (; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (i > 0 && argument == "--") break;
    if (i == 0 || argument.substr(0, kPrefix.size()) != kPrefix) {
      kept.push_back(argv[i]);
      continue;
    }
    const size_t equals = argument.find('=');
    const absl::string_view name = argument.substr(0, equals);
    if (!IsKnown(name)) return Unknown(name);
    absl::string_view value;
    if (equals != argument.npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < argc && absl::string_view(argv[i + 1]).substr(0, 2) != "--") {
      value = argv[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(name, " wants a value: ", name, "=VALUE"));
    }
    MUSTER_RETURN_IF_ERROR(Set(name, value, result));
  }
  kept.insert(kept.end(), argv + i, argv + argc);
  options = std::move(result);
  argc = static_cast<int>(kept.size());
  for (int k = 0; k < argc; ++k) argv[k] = kept[static_cast<size_t>(k)];
  argv[argc] = nullptr;
  return absl::OkStatus();
}

std::string AddressToUse(const InitOptions& options, const char* muster_address_variable) {
  if (!options.address.empty()) return options.address;
  return muster_address_variable == nullptr ? "" : muster_address_variable;
}

}  // namespace muster::client
