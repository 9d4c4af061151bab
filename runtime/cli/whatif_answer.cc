#include "runtime/cli/whatif_answer.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/cli/output.h"
#include "runtime/cli/whatif_question.h"
#include "scheduler/base/status_macros.h"

namespace muster::cli {
namespace {

using Json = nlohmann::ordered_json;
using sched::StartEstimate;
using When = StartEstimate::When;

std::string Dump(const Json& json) {
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

double Seconds(absl::Duration duration) {
  return static_cast<double>(absl::ToInt64Milliseconds(duration)) / 1000.0;
}

std::string ChangeText(const sched::Snapshot& snapshot, const WhatIfChange& change) {
  std::vector<std::string> parts;
  if (!change.add.empty()) parts.push_back(absl::StrCat("with ", ToText(change.add)));
  for (const NodeId id : change.remove) {
    for (const sched::SnapshotNode& node : snapshot.nodes) {
      if (node.node == id) parts.push_back(absl::StrCat("without ", node.name));
    }
  }
  return absl::StrJoin(parts, "; ");
}

absl::StatusOr<std::unique_ptr<sched::Forecast>> MakeForecast(const sched::Snapshot& snapshot,
                                                              const WhatIfChange* change) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<sched::Forecast> forecast,
                          sched::Forecast::Make(snapshot));
  if (change == nullptr) return forecast;
  for (const NodeId id : change->remove) forecast->Apply(sched::NodeLost{.node = id});
  for (const sched::NodeJoined& node : change->add) forecast->Apply(node);
  return forecast;
}

absl::StatusOr<WhatIfOutcome> Find(const sched::Snapshot& snapshot,
                                   const std::optional<sched::RequestSpec>& spec, RequestId request,
                                   const WhatIfChange* change) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<sched::Forecast> forecast,
                          MakeForecast(snapshot, change));
  if (spec) forecast->Apply(sched::Requested{.request = request, .spec = *spec});
  WhatIfOutcome outcome;
  const auto state = forecast->scheduler().Explain(request, snapshot.now);
  if (state && !state->granted) outcome.waits = state;
  outcome.decision = forecast->scheduler().LatestDecision(request);
  outcome.leases_lost = forecast->leases_lost();
  outcome.estimate = forecast->Run({request}).front();
  return outcome;
}

std::string AsksText(const sched::RequestSpec& spec) {
  std::vector<std::string> choices;
  for (const sched::Choice& choice : spec.choices) {
    std::string text = sched::ToText(choice.selector);
    if (choice.resources != spec.choices[0].resources) {
      absl::StrAppend(&text, " with ", sched::ToText(choice.resources));
    }
    if (choice.after > absl::ZeroDuration()) {
      absl::StrAppend(&text, " after ", sched::ShortDuration(choice.after));
    }
    choices.push_back(std::move(text));
  }
  const std::string bundles = spec.bundles == 1 ? "" : absl::StrCat(spec.bundles, " bundles of ");
  const std::string node = spec.affinity.node.empty() ? ""
                           : spec.affinity.soft
                               ? absl::StrCat(", rather ", spec.affinity.node)
                               : absl::StrCat(", no other than ", spec.affinity.node);
  return absl::StrCat(bundles, sched::ToText(spec.choices[0].resources), " on ",
                      absl::StrJoin(choices, ", else "), node);
}

// --- One request ---

std::string WhyText(const WhatIfOutcome& outcome, absl::Time now) {
  std::string text;
  if (outcome.estimate.when == When::kKnown && outcome.estimate.at <= now) {
    if (!outcome.decision || !outcome.decision->surveyed) return "";
    for (const sched::DecisionView::Loser& loser : outcome.decision->losers) {
      absl::StrAppend(&text, "    ", loser.node, " lost: ", loser.by, "\n");
    }
    return text;
  }
  if (!outcome.waits) return "";
  int number = 0;
  for (const sched::ChoiceExplanation& choice : outcome.waits->choices) {
    absl::StrAppend(&text, "    ", ++number, ". ", choice.selector, ": ", choice.why, "\n");
  }
  return text;
}

Json PlacementsJson(const std::vector<sched::Placement>& placements,
                    const std::vector<std::string>& where) {
  Json list = Json::array();
  for (size_t i = 0; i < placements.size(); ++i) {
    Json gpus = Json::array();
    for (const sched::GpuShare share : placements[i].devices) gpus.push_back(share.device);
    list.push_back({{"node_number", placements[i].node.value},
                    {"choice", placements[i].choice},
                    {"gpus", gpus},
                    {"text", i < where.size() ? where[i] : ""}});
  }
  return list;
}

Json OutcomeJson(const WhatIfOutcome& outcome, absl::Time now) {
  static constexpr const char* kWhen[] = {"known", "unknown", "infeasible", "too far", "gone"};
  const StartEstimate& estimate = outcome.estimate;
  Json json = {{"when", kWhen[static_cast<size_t>(estimate.when)]}};
  const bool known = estimate.when == When::kKnown;
  json["in_s"] = known ? Json(Seconds(std::max(estimate.at - now, absl::ZeroDuration()))) : nullptr;
  json["placements"] = PlacementsJson(estimate.placements, estimate.where);
  json["because"] = estimate.because;
  json["ends_guessed"] = estimate.guessed;
  json["leases_of_unknown_length"] = estimate.unknown;
  json["leases_lost"] = outcome.leases_lost;
  json["text"] = sched::ToText(estimate, now);
  Json choices = Json::array();
  if (outcome.waits) {
    for (const sched::ChoiceExplanation& choice : outcome.waits->choices) {
      choices.push_back(
          {{"selector", choice.selector},
           {"state", choice.state == sched::ChoiceState::kOpen ? "open" : "opens_later"},
           {"matching_nodes", choice.matching_nodes},
           {"nodes", choice.nodes},
           {"why", choice.why}});
    }
  }
  json["choices"] = choices;
  Json lost = Json::array();
  if (outcome.decision && known && estimate.at <= now) {
    for (const sched::DecisionView::Loser& loser : outcome.decision->losers) {
      lost.push_back({{"node", loser.node}, {"by", loser.by}});
    }
  }
  json["lost"] = lost;
  return json;
}

// --- All that waits ---

struct Class {
  sched::SpecHandle spec{};
  std::vector<RequestId> requests{};
};

std::vector<Class> WaitingClasses(const sched::Snapshot& snapshot) {
  std::map<uint64_t, Class> classes;
  for (const sched::SnapshotRequest& request : snapshot.requests) {
    if (!request.granted()) classes[request.of].requests.push_back(request.request);
  }
  std::vector<Class> waiting;
  for (const sched::SnapshotClass& of : snapshot.classes) {
    const auto found = classes.find(of.id);
    if (found == classes.end()) continue;
    found->second.spec = of.spec;
    waiting.push_back(std::move(found->second));
  }
  return waiting;
}

absl::StatusOr<std::vector<WhatIfRow::Starts>> FindAll(const sched::Snapshot& snapshot,
                                                       const std::vector<Class>& classes,
                                                       const WhatIfChange* change,
                                                       int64_t* leases_lost) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<sched::Forecast> forecast,
                          MakeForecast(snapshot, change));
  *leases_lost = forecast->leases_lost();
  std::vector<RequestId> all;
  for (const Class& of : classes) all.insert(all.end(), of.requests.begin(), of.requests.end());
  const std::vector<StartEstimate> estimates = forecast->Run(all);
  std::vector<WhatIfRow::Starts> rows;
  size_t next = 0;
  for (const Class& of : classes) {
    WhatIfRow::Starts& starts = rows.emplace_back();
    for (size_t i = 0; i < of.requests.size(); ++i) {
      const StartEstimate& estimate = estimates[next++];
      if (estimate.when == When::kInfeasible || estimate.when == When::kGone) {
        ++starts.never;
      } else if (estimate.when != When::kKnown) {
        ++starts.unknown;
      } else if (estimate.at <= snapshot.now) {
        ++starts.now;
      } else {
        ++starts.later;
        starts.last = std::max(starts.last, estimate.at - snapshot.now);
      }
    }
  }
  return rows;
}

std::string StartsText(const WhatIfRow::Starts& starts) {
  std::vector<std::string> parts;
  const auto part = [&](int64_t count, const std::string& what) {
    if (count > 0) parts.push_back(absl::StrCat(count, " ", what));
  };
  part(starts.now, "now");
  part(starts.later, absl::StrCat("within ", sched::ShortDuration(starts.last)));
  part(starts.unknown, "unknown");
  part(starts.never, "never");
  return absl::StrJoin(parts, ", ");
}

Json StartsJson(const WhatIfRow::Starts& starts) {
  return {{"now", starts.now},
          {"later", starts.later},
          {"unknown", starts.unknown},
          {"never", starts.never},
          {"last_in_s", Seconds(starts.last)}};
}

std::string LostText(int64_t leases_lost) {
  if (leases_lost == 0) return "";
  return absl::StrCat("The change would end ", leases_lost,
                      leases_lost == 1 ? " lease that runs.\n" : " leases that run.\n");
}

}  // namespace

absl::StatusOr<WhatIfAnswer> Answer(const sched::Snapshot& given,
                                    const std::optional<sched::RequestSpec>& spec,
                                    RequestId request, const WhatIfChange& change) {
  sched::Snapshot snapshot = given;
  snapshot.config.decisions_kept = 64;
  snapshot.config.decision_detail = sched::DecisionDetail::kAll;
  snapshot.config.waiting_requests_max =  // The question itself is not refused.
      std::max(snapshot.config.waiting_requests_max, int64_t{1} << 40);
  WhatIfAnswer answer{.now = snapshot.now, .change = ChangeText(snapshot, change)};
  if (spec) {
    for (const sched::SnapshotRequest& known : snapshot.requests) {
      request = std::max(request, RequestId{known.request.value + 1});
    }
    answer.asks = AsksText(*spec);
  } else {
    for (const sched::SnapshotRequest& known : snapshot.requests) {
      if (known.request != request) continue;
      for (const sched::SnapshotClass& of : snapshot.classes) {
        if (of.id != known.of) continue;
        answer.asks = AsksText(*of.spec);
        answer.name =
            of.spec->name.empty() ? absl::StrCat("request ", request.value) : of.spec->name;
      }
    }
  }
  MUSTER_ASSIGN_OR_RETURN(answer.as_it_is, Find(snapshot, spec, request, nullptr));
  if (change.empty()) return answer;
  MUSTER_ASSIGN_OR_RETURN(answer.changed, Find(snapshot, spec, request, &change));
  return answer;
}

std::string AnswerText(const WhatIfAnswer& answer) {
  std::string text =
      answer.name.empty() ? std::string("A request for ") : absl::StrCat(answer.name, ", for ");
  absl::StrAppend(&text, answer.asks, ", could start\n");
  const auto say = [&](absl::string_view title, const WhatIfOutcome& outcome) {
    absl::StrAppend(&text, "  ", title, ": ", sched::ToText(outcome.estimate, answer.now), "\n",
                    WhyText(outcome, answer.now));
  };
  say("as it is", answer.as_it_is);
  if (!answer.changed) return text;
  say(answer.change, *answer.changed);
  absl::StrAppend(&text, LostText(answer.changed->leases_lost));
  return text;
}

std::string AnswerJson(const WhatIfAnswer& answer) {
  Json json = {{"asks", answer.asks},
               {"name", answer.name},
               {"change", answer.change},
               {"as_it_is", OutcomeJson(answer.as_it_is, answer.now)}};
  json["changed"] = answer.changed ? OutcomeJson(*answer.changed, answer.now) : Json(nullptr);
  return Dump(json);
}

absl::StatusOr<WhatIfTable> AnswerAll(const sched::Snapshot& snapshot, const WhatIfChange& change) {
  WhatIfTable table{.change = ChangeText(snapshot, change)};
  const std::vector<Class> classes = WaitingClasses(snapshot);
  int64_t none = 0;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<WhatIfRow::Starts> as_it_is,
                          FindAll(snapshot, classes, nullptr, &none));
  std::vector<WhatIfRow::Starts> changed;
  if (!change.empty()) {
    MUSTER_ASSIGN_OR_RETURN(changed, FindAll(snapshot, classes, &change, &table.leases_lost));
  }
  for (size_t i = 0; i < classes.size(); ++i) {
    const sched::RequestSpec& spec = *classes[i].spec;
    WhatIfRow row{.name = spec.name,
                  .needs = sched::ToText(spec.choices[0].resources),
                  .choices = sched::ChoicesSummary(spec),
                  .count = static_cast<int64_t>(classes[i].requests.size()),
                  .as_it_is = as_it_is[i]};
    if (!change.empty()) row.changed = changed[i];
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string TableText(const WhatIfTable& table) {
  if (table.rows.empty()) return "Nothing waits.\n";
  std::string text;
  if (!table.change.empty()) absl::StrAppend(&text, "What if: ", table.change, "\n");
  std::vector<std::string> header = {"WAITING", "WHAT", "NEEDS", "CHOICES", "COULD START"};
  if (!table.change.empty()) header.push_back("WITH THE CHANGE");
  Table shown(header);
  for (const WhatIfRow& row : table.rows) {
    std::vector<std::string> cells = {absl::StrCat(row.count), row.name, row.needs, row.choices,
                                      StartsText(row.as_it_is)};
    if (row.changed) cells.push_back(StartsText(*row.changed));
    shown.Add(std::move(cells));
  }
  absl::StrAppend(&text, shown.ToText(Style{}), LostText(table.leases_lost));
  return text;
}

std::string TableJson(const WhatIfTable& table) {
  Json rows = Json::array();
  for (const WhatIfRow& row : table.rows) {
    rows.push_back({{"class", row.name},
                    {"needs", row.needs},
                    {"choices", row.choices},
                    {"count", row.count},
                    {"as_it_is", StartsJson(row.as_it_is)},
                    {"changed", row.changed ? StartsJson(*row.changed) : Json(nullptr)}});
  }
  return Dump({{"change", table.change}, {"leases_lost", table.leases_lost}, {"waiting", rows}});
}

// --- Replays ---

namespace {

std::string DelayText(const sched::ReplayResult& result, double percent) {
  const std::optional<absl::Duration> delay = result.Delay(percent);
  return delay ? sched::ShortDuration(*delay) : "-";
}

Json ReplayOf(const sched::ReplayResult& result) {
  Json delays = Json::object();
  for (const int percent : {50, 95, 99}) {
    const std::optional<absl::Duration> delay = result.Delay(percent);
    delays[absl::StrCat("p", percent, "_s")] =
        delay ? Json(absl::ToDoubleSeconds(*delay)) : nullptr;
  }
  return {{"requests", result.requests},
          {"granted", result.granted},
          {"waiting", result.waiting},
          {"refused", result.refused},
          {"gave_up", result.gave_up},
          {"revoked", result.revoked},
          {"lost", result.lost},
          {"queueing_delay", delays},
          {"by_choice", result.by_choice},
          {"gpu_utilisation", result.gpu_utilisation},
          {"cpu_utilisation", result.cpu_utilisation}};
}

}  // namespace

std::string ReplayText(const ReplayAnswer& answer) {
  std::string text = absl::StrCat("Replayed ", answer.events, " events of ",
                                  sched::ShortDuration(answer.recorded.lasted), ", ",
                                  answer.recorded.requests, " requests; what if ",
                                  answer.what.empty() ? "nothing changed" : answer.what, ".\n");
  Table table({"", "RECORDED", "WHAT IF"});
  const auto row = [&](const std::string& name, const std::string& recorded,
                       const std::string& played) {
    table.Add({name, recorded, played});
  };
  const auto count = [&](const std::string& name, int64_t sched::ReplayResult::*member) {
    row(name, absl::StrCat(answer.recorded.*member), absl::StrCat(answer.played.*member));
  };
  count("granted", &sched::ReplayResult::granted);
  count("still waiting", &sched::ReplayResult::waiting);
  count("refused", &sched::ReplayResult::refused);
  count("gave up", &sched::ReplayResult::gave_up);
  for (const int percent : {50, 95, 99}) {
    row(absl::StrCat("queueing delay p", percent), DelayText(answer.recorded, percent),
        DelayText(answer.played, percent));
  }
  const auto share = [](double value) { return absl::StrFormat("%.1f %%", 100 * value); };
  row("GPUs in use", share(answer.recorded.gpu_utilisation), share(answer.played.gpu_utilisation));
  row("CPUs in use", share(answer.recorded.cpu_utilisation), share(answer.played.cpu_utilisation));
  const size_t choices = std::max(answer.recorded.by_choice.size(), answer.played.by_choice.size());
  for (size_t i = 0; i < choices; ++i) {
    const auto of = [&](const sched::ReplayResult& result) {
      return absl::StrCat(i < result.by_choice.size() ? result.by_choice[i] : 0);
    };
    row(absl::StrCat("by choice ", i + 1), of(answer.recorded), of(answer.played));
  }
  count("leases revoked", &sched::ReplayResult::revoked);
  count("leases lost", &sched::ReplayResult::lost);
  absl::StrAppend(&text, table.ToText(Style{}));
  const sched::ReplayMoves& moves = answer.moves;
  absl::StrAppend(&text, "Of ", moves.both, " granted in both, ", moves.elsewhere,
                  " got another node or choice, ", moves.earlier, " came earlier, ", moves.later,
                  " later; ", moves.only_first, " were granted in the recording only, ",
                  moves.only_second, " only here.\n");
  return text;
}

std::string ReplayJson(const ReplayAnswer& answer) {
  const sched::ReplayMoves& moves = answer.moves;
  return Dump({{"what", answer.what},
               {"events", answer.events},
               {"lasted_s", Seconds(answer.recorded.lasted)},
               {"recorded", ReplayOf(answer.recorded)},
               {"what_if", ReplayOf(answer.played)},
               {"moved",
                {{"granted_in_both", moves.both},
                 {"elsewhere", moves.elsewhere},
                 {"earlier", moves.earlier},
                 {"later", moves.later},
                 {"only_recorded", moves.only_first},
                 {"only_what_if", moves.only_second}}}});
}

}  // namespace muster::cli
