#include "scheduler/decisions.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/explain.h"
#include "scheduler/resources.h"

namespace muster::sched {
namespace {

constexpr const char* kDetails[] = {"off", "sampled", "all"};
constexpr const char* kKinds[] = {"granted",       "infeasible", "rejected",
                                  "told to leave", "revoked",    "lost"};

std::string Ago(absl::Time at, absl::Time now) {
  return absl::StrCat(ShortDuration(std::max(now - at, absl::ZeroDuration())), " ago");
}

std::string LostByFit(const ScoreParts& winner, const ScoreParts& loser) {
  const auto more = [&](size_t part) { return loser[part] - winner[part]; };
  const auto amount = [&](size_t part, absl::string_view what) {
    return absl::StrCat(AmountToText(more(part)), " more ", what,
                        more(part) == Amount::kUnit ? "" : "s", " would stay ");
  };
  if (more(0) != 0) return "it has GPUs, and the work needs none";
  if (more(1) != 0) {
    return absl::StrCat(AmountToText(more(1)), " more of the shared GPU would stay free there");
  }
  if (more(2) != 0) return absl::StrCat(amount(2, "GPU"), "free there");
  if (more(3) != 0) return absl::StrCat(amount(3, "GPU"), "whole there");
  if (more(4) > 0) return absl::StrCat(amount(4, "CPU"), "free there");
  return absl::StrCat(MemoryToText(more(5)), " more memory would stay free there");
}

std::string LostBySpread(const ScoreParts& winner, const ScoreParts& loser) {
  const auto fewer = [&](size_t part) { return winner[part] - loser[part]; };
  if (loser[0] != winner[0]) return "it has GPUs, and the work needs none";
  if (fewer(6) != 0) return absl::StrCat(AmountToText(-fewer(6)), " more GPUs are in use there");
  if (fewer(2) > 0) return absl::StrCat(AmountToText(fewer(2)), " fewer GPUs are free there");
  if (fewer(3) > 0) return absl::StrCat(AmountToText(fewer(3)), " fewer GPUs are whole there");
  if (fewer(4) > 0) return absl::StrCat(AmountToText(fewer(4)), " fewer CPUs are free there");
  if (fewer(5) > 0) return absl::StrCat(MemoryToText(fewer(5)), " less memory is free there");
  return "more of the GPU that the share would go to is in use there";
}

std::string LostByCost(const ScoreParts& winner, const ScoreParts& loser) {
  const int64_t by_score = Packing::kCostUnit * (winner[7] - loser[7]);
  const int64_t by_pressure = Packing::kScarcity * (loser[8] - winner[8]);
  if (by_score >= by_pressure) {
    return absl::StrCat("it would spoil more of what is free there for typical work (score ",
                        loser[7], ", not ", winner[7], ")");
  }
  return absl::StrFormat("its kind of GPU is scarcer (pressure %.2f, not %.2f)",
                         static_cast<double>(loser[8]) / 1000,
                         static_cast<double>(winner[8]) / 1000);
}

std::string Who(const DecisionView& view) {
  const std::string request = absl::StrCat("request ", view.decision.request.ToString());
  return view.name.empty() ? request : absl::StrCat(view.name, " (", request, ")");
}

}  // namespace

absl::StatusOr<DecisionDetail> ParseDecisionDetail(absl::string_view text) {
  for (size_t i = 0; i < std::size(kDetails); ++i) {
    if (text == kDetails[i]) return static_cast<DecisionDetail>(i);
  }
  return absl::InvalidArgumentError("allowed: off, sampled, all");
}

std::string ToString(DecisionDetail detail) { return kDetails[static_cast<size_t>(detail)]; }
std::string ToString(DecisionKind kind) { return kKinds[static_cast<size_t>(kind)]; }

// --- The ring ---

Decisions::Decisions(int kept, DecisionDetail detail)
    : kept_(static_cast<size_t>(std::max(kept, 0))), detail_(detail) {}

void Decisions::SetWhy(uint64_t number, std::string why) {
  while (!whys_.empty() && whys_.begin()->first + kept_ < next_) whys_.erase(whys_.begin());
  whys_.emplace(number, std::move(why));
}

std::string Decisions::WhyOf(uint64_t number) const {
  const auto found = whys_.find(number);
  return found == whys_.end() ? "" : found->second;
}

bool Decisions::WantsSurvey(int64_t nodes) {
  if (!surveys()) return false;
  if (detail_ == DecisionDetail::kAll) return true;
  credit_ = std::min(credit_ + kNodesPerDecision, std::max<int64_t>(nodes, kNodesPerDecision));
  if (credit_ < nodes) return false;
  credit_ -= nodes;
  return true;
}

DecisionSurvey& Decisions::AddSurvey() {
  const size_t at = static_cast<size_t>(surveyed_++ % kSurveysKept);
  if (at == surveys_.size()) surveys_.emplace_back();
  surveys_[at] = DecisionSurvey{.decision = next_};
  return surveys_[at];
}

void Decisions::DropSurvey() {
  for (DecisionSurvey& survey : surveys_) {
    if (survey.decision == next_) survey.decision = 0;
  }
}

std::vector<const Decision*> Decisions::Newest(size_t most) const {
  std::vector<const Decision*> newest;
  const uint64_t known = std::min<uint64_t>(ring_.size(), most);
  for (uint64_t number = next_ - 1; newest.size() < known; --number) {
    newest.push_back(Find(number));
  }
  return newest;
}

const Decision* Decisions::Find(uint64_t number) const {
  if (number == 0 || number >= next_ || number + ring_.size() < next_) return nullptr;
  return &ring_[static_cast<size_t>((number - 1) % kept_)];
}

const Decision* Decisions::Latest(RequestId request) const {
  const Decision* latest = nullptr;
  for (uint64_t number = next_ - 1; const Decision* decision = Find(number); --number) {
    if (decision->request != request) continue;
    if (decision->kind == DecisionKind::kGranted) return decision;
    if (latest == nullptr) latest = decision;
  }
  return latest;
}

const DecisionSurvey* Decisions::SurveyOf(uint64_t number) const {
  for (const DecisionSurvey& survey : surveys_) {
    if (survey.decision == number) return &survey;
  }
  return nullptr;
}

// --- In words ---

std::string LineOf(const DecisionView& view, absl::Time now) {
  const Decision& decision = view.decision;
  std::string text = absl::StrFormat("%6d  %-9s  %-13s  %s", decision.number, Ago(decision.at, now),
                                     ToString(decision.kind), Who(view));
  if (!view.node.empty()) absl::StrAppend(&text, " on ", view.node);
  if (decision.kind == DecisionKind::kGranted) {
    if (view.choices > 1) {
      absl::StrAppend(&text, ", choice ", decision.choice + 1, " of ", view.choices);
    }
    if (decision.bundles > 1) absl::StrAppend(&text, ", ", decision.bundles, " bundles");
    absl::StrAppend(&text, ", after ", ShortDuration(decision.waited));
  } else if (!view.why.empty()) {
    absl::StrAppend(&text, ": ", view.why);
  }
  return text;
}

std::string ToText(const DecisionView& view, absl::Time now) {
  const Decision& decision = view.decision;
  std::string text =
      absl::StrCat("Decision ", decision.number, ", ", Ago(decision.at, now), ": ", Who(view));
  if (decision.kind != DecisionKind::kGranted) {
    absl::StrAppend(&text, decision.bundles > 1 ? absl::StrCat(" bundle ", decision.bundle) : "",
                    " was ", ToString(decision.kind),
                    view.node.empty() ? "" : absl::StrCat(" on ", view.node),
                    view.why.empty() ? "" : ": ", view.why, "\n");
    return text;
  }
  absl::StrAppend(&text, " got ", view.needs.empty() ? "what it needs" : view.needs, " on ",
                  view.node, " by choice ", decision.choice + 1);
  if (!view.choice.empty()) absl::StrAppend(&text, " of ", view.choices, " (", view.choice, ")");
  if (decision.bundles > 1) {
    absl::StrAppend(&text, ", the first of ", decision.bundles, " bundles");
  }
  absl::StrAppend(&text, "; it had waited ", ShortDuration(decision.waited), ", with ",
                  decision.open, decision.open == 1 ? " choice open.\n" : " choices open.\n");
  if (!view.surveyed) {
    absl::StrAppend(
        &text,
        "  Which nodes lost, and by what, was not kept; --decision-detail=all of muster "
        "head keeps it.\n");
    return text;
  }
  absl::StrAppend(&text, "  Policy: ", view.policy, ".\n");
  for (const DecisionView::Tried& tried : view.tried) {
    absl::StrAppend(&text, "  ", tried.choice + 1, ". ", tried.selector, ": ", tried.found, "\n");
  }
  for (const DecisionView::Loser& loser : view.losers) {
    absl::StrAppend(&text, "  ", loser.node, " lost: ", loser.by, ".\n");
  }
  const int more = view.candidates - 1 - static_cast<int>(view.losers.size());
  if (more > 0) absl::StrAppend(&text, "  ", more, " more lost by as much or more.\n");
  if (view.candidates == 1) absl::StrAppend(&text, "  ", view.node, " alone had room.\n");
  return text;
}

std::string LostBy(PlacementPolicy policy, const ScoredNode& winner, const ScoredNode& loser) {
  if (winner.rank == loser.rank) return "as good, but it joined later";
  if (loser.rank < winner.rank) {
    return absl::StrCat("it is as good or better to ", ToString(policy),
                        ", but a strategy, an affinity, a plan or an avoided node decided");
  }
  if (policy == PlacementPolicy::kSpread) return LostBySpread(winner.parts, loser.parts);
  if (policy == PlacementPolicy::kPack && winner.rank.first != loser.rank.first) {
    return LostByCost(winner.parts, loser.parts);
  }
  return LostByFit(winner.parts, loser.parts);
}

}  // namespace muster::sched
