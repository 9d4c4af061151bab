#include "runtime/cli/history_options.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace muster::cli {

void AddHistoryOptions(Arguments& arguments, HistoryOptions* options) {
  arguments.Text("--record-events", "FILE",
                 "records what the scheduler is told, for muster whatif --replay",
                 &options->record_events);
  arguments.Whole("--record-events-mib", "N",
                  "of FILE and FILE.1, the half before it, together (default 256)", {1, 1 << 20},
                  &options->record_mib);
  arguments.Whole("--decisions-kept", "N",
                  "for muster explain --decision, the newest (default 4096)", {0, 1'000'000},
                  &options->decisions_kept);
  arguments.Text("--decision-detail", "off|sampled|all",
                 "for how many of them also which nodes lost, and by what (default sampled: as "
                 "many as cost little)",
                 &options->decision_detail);
}

absl::Status Apply(const HistoryOptions& options, head::HeadOptions& head) {
  const absl::StatusOr<sched::DecisionDetail> detail =
      sched::ParseDecisionDetail(options.decision_detail);
  if (!detail.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--decision-detail: ", detail.status().message()));
  }
  head.record_events = options.record_events;
  head.record_bytes_max = int64_t{options.record_mib} << 20;
  head.decisions_kept = options.decisions_kept;
  head.decision_detail = *detail;
  return absl::OkStatus();
}

std::vector<std::string> ForHead(const HistoryOptions& options) {
  std::vector<std::string> arguments = {
      absl::StrCat("--decisions-kept=", options.decisions_kept),
      absl::StrCat("--decision-detail=", options.decision_detail)};
  if (options.record_events.empty()) return arguments;
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(options.record_events, error);
  arguments.push_back(
      absl::StrCat("--record-events=", error ? options.record_events : path.string()));
  arguments.push_back(absl::StrCat("--record-events-mib=", options.record_mib));
  return arguments;
}

}  // namespace muster::cli
