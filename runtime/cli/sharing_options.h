// The options that say how a cluster is shared, and which nodes its work gets, as `muster head` and
// `muster up` take them, and the head's options of a cluster.yaml:
//
//   head:
//     backfill: easy
//     fair-share: [research=2, production=1]
//     quota: ["h100:tenant=research,gpus=8,ray.io/accelerator-type=H100"]
//
// Errors: kInvalidArgument naming the option and what is allowed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/cli/arguments.h"
#include "runtime/head/head.h"

namespace muster::cli {

struct SharingOptions {  // As given.
  std::string ordering{};
  std::string backfill{};
  std::string reservations{};
  std::string expected_duration{};
  std::vector<std::string> fair_share{};
  std::vector<std::string> quotas{};
  std::string preemption{};
  std::string preemption_grace{};
  std::string time_slice{};
  std::string recall_grace{};
  std::string placement{};
  std::string topology{};
  std::string overtaken_max{};
  std::string reservation_after{};
};

// "research=2". Errors: kInvalidArgument naming the text and what is allowed.
absl::StatusOr<sched::TenantSet> ParseTenantWeight(absl::string_view text);

void AddSharingOptions(Arguments& arguments, SharingOptions* given);

// Into what the head is started with; what was not given stays.
absl::Status Apply(const SharingOptions& given, head::HeadOptions& options);

// As arguments of `muster head`.
std::vector<std::string> ToArguments(const SharingOptions& given);

}  // namespace muster::cli
