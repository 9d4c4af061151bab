#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/cli/address.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/output.h"
#include "runtime/cli/whatif_answer.h"
#include "runtime/cli/whatif_question.h"
#include "runtime/snapshot/recording.h"
#include "runtime/wire/head_link.h"

namespace muster::cli {
namespace {

struct Options {
  std::string address{};
  std::string snapshot{};
  std::string replay{};
  std::string task{};
  bool asks = false;  // --request or one of those that go with it.
  RequestTexts request{};
  std::vector<std::string> add{};
  std::vector<std::string> remove{};
  std::string policy{};
  std::string config{};
  bool json = false;
};

void Print(const std::string& text) { printf("%s", Printable(text).c_str()); }

// The configuration that is asked about, over what `config` has.
absl::Status Configure(const Options& options, sched::SchedulerConfig& config) {
  if (!options.policy.empty()) {
    const absl::StatusOr<sched::PlacementPolicy> policy =
        sched::ParsePlacementPolicy(options.policy);
    if (!policy.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--policy: ", policy.status().message()));
    }
    config.placement = *policy;
  }
  if (options.config.empty()) return absl::OkStatus();
  const absl::Status status = snapshot::Merge(options.config, config);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat("--config: ", status.message()));
}

int Replay(const Arguments& arguments, const Options& options) {
  const absl::StatusOr<sched::Recording> recording = snapshot::ReadRecording(options.replay);
  if (!recording.ok()) return arguments.Wrong(recording.status().message());
  sched::SchedulerConfig config = recording->start.config;
  if (absl::Status status = Configure(options, config); !status.ok()) {
    return arguments.Wrong(status.message());
  }
  absl::StatusOr<sched::ReplayResult> recorded = sched::ReplayAsRecorded(*recording);
  if (!recorded.ok()) return arguments.Wrong(recorded.status().message());
  absl::StatusOr<sched::ReplayResult> played = sched::ReplayUnder(*recording, config);
  if (!played.ok()) return arguments.Wrong(played.status().message());
  ReplayAnswer answer{.events = recording->events.size(),
                      .recorded = *std::move(recorded),
                      .played = *std::move(played)};
  std::vector<std::string> what;
  if (!options.policy.empty()) what.push_back(absl::StrCat("policy=", options.policy));
  if (!options.config.empty()) what.push_back(options.config);
  answer.what = absl::StrJoin(what, ", ");
  answer.moves = sched::CompareGrants(answer.recorded, answer.played);
  if (options.json) {
    printf("%s", ReplayJson(answer).c_str());
  } else {
    Print(ReplayText(answer));
  }
  return kDone;
}

// Where it comes from decides the exit code of what is wrong with it.
absl::StatusOr<std::string> SnapshotText(const Options& options) {
  if (!options.snapshot.empty()) return snapshot::ReadWholeFile(options.snapshot);
  const absl::StatusOr<HostPort> address = HeadAddress(options.address);
  if (!address.ok()) return address.status();
  return HeadClient(ToText(*address)).GetSnapshot(kTryFor);
}

// The scheduler's request of a task: the head asks the drivers; a snapshot names some.
absl::StatusOr<RequestId> RequestOfTask(const Options& options,
                                        const snapshot::SnapshotFile& file) {
  if (options.snapshot.empty()) {
    const absl::StatusOr<HostPort> address = HeadAddress(options.address);
    if (!address.ok()) return address.status();
    const absl::StatusOr<v1::ExplainReply> reply =
        HeadClient(ToText(*address)).Explain(options.task, kTryFor);
    if (reply.ok() && reply->found() == v1::ExplainReply::FOUND_ONE && reply->request() != 0) {
      const RequestId request{reply->request()};
      for (const sched::SnapshotRequest& known : file.snapshot.requests) {
        if (known.request == request) return request;
      }
    }
  }
  return FindRequest(options.task, file);
}

int Ask(const Arguments& arguments, const Options& options) {
  const absl::StatusOr<std::string> text = SnapshotText(options);
  if (!text.ok()) {
    return options.snapshot.empty() ? NoAnswer(text.status())
                                    : arguments.Wrong(text.status().message());
  }
  absl::StatusOr<snapshot::SnapshotFile> file = snapshot::ParseSnapshot(*text);
  if (!file.ok()) {
    return arguments.Wrong(
        absl::StrCat(options.snapshot.empty() ? "the head's snapshot" : options.snapshot, ": ",
                     file.status().message()));
  }
  sched::Snapshot& state = file->snapshot;
  if (absl::Status status = Configure(options, state.config); !status.ok()) {
    return arguments.Wrong(status.message());
  }
  WhatIfChange change;
  absl::StatusOr<std::vector<sched::NodeJoined>> add = NodesToAdd(options.add, state);
  if (!add.ok()) return arguments.Wrong(add.status().message());
  change.add = *std::move(add);
  absl::StatusOr<std::vector<NodeId>> remove = NodesToRemove(options.remove, state);
  if (!remove.ok()) return Failed(remove.status());
  change.remove = *std::move(remove);

  if (!options.asks && options.task.empty()) {
    const absl::StatusOr<WhatIfTable> table = AnswerAll(state, change);
    if (!table.ok()) return arguments.Wrong(table.status().message());
    if (options.json) {
      printf("%s", TableJson(*table).c_str());
    } else {
      Print(TableText(*table));
    }
    return kDone;
  }
  std::optional<sched::RequestSpec> spec;
  RequestId request{1};
  if (options.asks) {
    absl::StatusOr<sched::RequestSpec> made = MakeSpec(options.request);
    if (!made.ok()) return arguments.Wrong(made.status().message());
    spec = *std::move(made);
  } else {
    const absl::StatusOr<RequestId> found = RequestOfTask(options, *file);
    if (!found.ok()) return Failed(found.status());
    request = *found;
  }
  const absl::StatusOr<WhatIfAnswer> answer = Answer(state, spec, request, change);
  if (!answer.ok()) return arguments.Wrong(answer.status().message());
  if (options.json) {
    printf("%s", AnswerJson(*answer).c_str());
  } else {
    Print(AnswerText(*answer));
  }
  const sched::StartEstimate::When when = answer->last().estimate.when;
  const bool never =
      when == sched::StartEstimate::When::kInfeasible || when == sched::StartEstimate::When::kGone;
  return never ? kFailed : kDone;
}

}  // namespace

int RunWhatIf(const std::vector<std::string>& given) {
  Arguments arguments(
      "whatif",
      "Says where a request would go and when it could start, as the cluster is and with nodes "
      "added\nor removed; what that would change for all that waits; or replays recorded events "
      "under another\nconfiguration. Asked of a running head or a snapshot (muster status "
      "--snapshot); changes nothing.\nAn estimate assumes that each lease lasts as expected, or as "
      "the last of its class did.",
      {"muster whatif --request gpus=1,cpus=2 --label-selector ray.io/accelerator-type=L4 "
       "--fallback any",
       "muster whatif --task 4f2a --add-node count=2,gpus=8,ray.io/accelerator-type=H100",
       "muster whatif --snapshot FILE --remove-node 6f1c2a",
       "muster whatif --replay events.jsonl --policy spread"});
  Options options;
  std::string request = "?";
  options.request.resources = "";
  AddAddress(arguments, &options.address);
  arguments.Text("--snapshot", "FILE", "asks a snapshot, not a head; - is standard input",
                 &options.snapshot);
  arguments.Text("--request", "NEEDS",
                 "cpus=, gpus=, memory=, resource.NAME=, by commas; cpus=1 where left out",
                 &request);
  arguments.Text("--label-selector", "SELECTOR", "the first choice's", &options.request.selector);
  arguments.Texts("--fallback", "CHOICE",
                  "the next choice: SELECTOR or any, then cpus=, gpus=, ... of its own, after=, "
                  "advance_on=, by blanks",
                  &options.request.fallbacks);
  arguments.Whole("--bundles", "N", "so many equal parts, all or none (default 1)",
                  {1, sched::kBundlesMax}, &options.request.bundles);
  arguments.Whole("--priority", "N", "higher comes first (default 0)", {0, 1'000'000},
                  &options.request.priority);
  arguments.Text("--placement", "POLICY",
                 "which of the nodes with room: pack, best-fit or spread (default: the cluster's)",
                 &options.request.placement);
  arguments.Text("--node", "NODE", "on that node or nowhere, by its name", &options.request.node);
  arguments.Flag("--soft", "with --node: there if it has room, else elsewhere",
                 &options.request.soft);
  arguments.Text("--spec", "JSON", "other members of the request, as in a snapshot",
                 &options.request.spec);
  arguments.Text("--task", "ID", "asks about a task that waits, not a new request", &options.task);
  arguments.Texts("--add-node", "SPEC",
                  "what if this node were there: as muster up --node takes it", &options.add);
  arguments.Texts("--remove-node", "NODE", "what if this node went, with all that runs there",
                  &options.remove);
  arguments.Text("--replay", "FILE", "replays what muster head --record-events wrote",
                 &options.replay);
  arguments.Text("--policy", "NAME",
                 "what if the cluster placed by this policy: pack, best-fit or spread",
                 &options.policy);
  arguments.Text("--config", "JSON", "what if the scheduler's configuration had these members",
                 &options.config);
  AddJson(arguments, &options.json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;

  const RequestTexts& texts = options.request;
  const bool with_request = !texts.selector.empty() || !texts.fallbacks.empty() ||
                            texts.bundles != 1 || texts.priority != 0 || !texts.spec.empty() ||
                            !texts.placement.empty() || !texts.node.empty() || texts.soft;
  options.asks = request != "?" || with_request;
  if (request != "?") options.request.resources = request;
  if (options.asks && !options.task.empty()) {
    return arguments.Wrong("--task asks about a request that is there, --request about a new one");
  }
  if (!options.replay.empty()) {
    if (options.asks || !options.task.empty() || !options.snapshot.empty() ||
        !options.add.empty() || !options.remove.empty()) {
      return arguments.Wrong("--replay goes with --policy, --config and --json only");
    }
    return Replay(arguments, options);
  }
  return Ask(arguments, options);
}

}  // namespace muster::cli
