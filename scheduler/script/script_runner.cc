#include <memory>
#include <type_traits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "scheduler/forecast.h"
#include "scheduler/script/script.h"

namespace muster::sched {
namespace {

class ScriptRunner {
 public:
  ScriptRunner(const SchedulerConfig& config, const ThroughSnapshot& through)
      : scheduler_(std::make_unique<Scheduler>(config)), through_(through) {}

  std::vector<std::string> Run(const ScriptStatement& statement) {
    printed_.clear();
    std::visit([this](const auto& what) { Do(what); }, statement.what);
    if (through_) Reload();
    return printed_;
  }

 private:
  void Step(decltype(Event::what) what) {
    std::vector<Action> actions;
    scheduler_->Step({.at = now_, .what = std::move(what)}, actions);
    scheduler_->CheckInvariants();
    for (const Action& action : actions) Print(ToString(action));
  }

  void Reload() {
    std::vector<Action> actions;
    absl::StatusOr<std::unique_ptr<Scheduler>> loaded =
        Scheduler::Load(through_(scheduler_->TakeSnapshot()), actions);
    if (!loaded.ok()) {
      Print(absl::StrCat("cannot be loaded: ", loaded.status().message()));
      return;
    }
    scheduler_ = *std::move(loaded);
    scheduler_->CheckInvariants();
    for (const Action& action : actions) Print(absl::StrCat("loaded: ", ToString(action)));
  }

  void Print(absl::string_view text) {
    for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      printed_.push_back(std::string(absl::StripTrailingAsciiWhitespace(line)));
    }
  }

  void Do(const decltype(Event::what)& what) { Step(what); }

  void Do(const ScriptAt& at) {
    const absl::Time until = ScriptStart() + at.since_start;
    while (scheduler_->NextTick() <= until) {
      now_ = scheduler_->NextTick();
      Step(Tick{});
    }
    now_ = until;
    Step(Tick{});
  }

  void Do(const ScriptDrain& drain) {
    NodeDraining event{.node = drain.node, .reason = drain.reason};
    if (drain.deadline) event.deadline = now_ + *drain.deadline;
    Step(event);
  }

  void Do(const ScriptExplain& explain) {
    const std::optional<Explanation> explanation = scheduler_->Explain(explain.request, now_);
    const std::string name = absl::StrCat("request ", explain.request.ToString());
    Print(explanation ? ToText(*explanation, name, now_) : absl::StrCat(name, " is not known"));
  }

  void Do(const ScriptEstimate& estimate) {
    const absl::StatusOr<std::unique_ptr<Forecast>> forecast =
        Forecast::Make(scheduler_->TakeSnapshot());
    if (!forecast.ok()) return Print(forecast.status().message());
    if (estimate.node) (*forecast)->Apply(*estimate.node);
    Print(ToText((*forecast)->Run({estimate.request})[0], now_));
  }

  void Do(const ScriptDecision& decision) {
    const std::optional<DecisionView> view = scheduler_->LatestDecision(decision.request);
    Print(view ? ToText(*view, now_) : "nothing is known");
  }

  // "; until 1m0s: kernel update; empty; GPU 0 in quarantine: xid 79"
  std::string ConditionText(const NodeView& node) const {
    std::string text;
    if (node.state == NodeState::kDraining) {
      if (node.deadline)
        absl::StrAppend(&text, "; ", ShortDuration(*node.deadline - now_), " left");
      if (!node.drain_reason.empty()) absl::StrAppend(&text, "; ", node.drain_reason);
      if (node.empty) absl::StrAppend(&text, "; empty");
    }
    for (const QuarantineView& out : node.quarantined) {
      absl::StrAppend(&text, "; GPU ", out.device, " in quarantine", out.reason.empty() ? "" : ": ",
                      out.reason);
    }
    return text;
  }

  void Do(const ScriptStatus&) {
    for (const NodeView& node : scheduler_->Nodes()) {
      Print(absl::StrCat("node ", node.name, " ", ToString(node.state), ": uses ",
                         ToText(node.used), " of ", ToText(node.total), ConditionText(node)));
    }
    const std::vector<TenantView> tenants = scheduler_->TenantViews();
    for (const TenantView& tenant : tenants) {
      if (tenants.size() == 1 && tenant.name.empty()) break;
      Print(absl::StrCat("tenant ", tenant.name.empty() ? "(default)" : tenant.name, " weight ",
                         WeightToText(tenant.weight_milli), ": share ", tenant.share / 10'000'000,
                         ".", tenant.share / 1'000'000 % 10, "%, uses ", ToText(tenant.used), "; ",
                         tenant.waiting, " waiting"));
    }
    for (const QuotaView& view : scheduler_->QuotaViews()) {
      for (const auto& [limit, used] : view.used) {
        Print(absl::StrCat("quota ", view.quota.name, ": ", LimitText(limit, used), " of ",
                           LimitText(limit, view.quota.limits.at(limit))));
      }
    }
    for (const WaitingClass& row : scheduler_->Waiting(now_)) {
      Print(absl::StrCat("waiting ", row.requests.size(), ": ", row.needs, "; ",
                         row.choices_summary, "; ", ShortDuration(row.since), "; ", row.why));
    }
  }

  std::unique_ptr<Scheduler> scheduler_;
  const ThroughSnapshot& through_;
  absl::Time now_ = ScriptStart();
  std::vector<std::string> printed_;
};

// "..." in quotation marks stands for any text.
bool Agrees(absl::string_view expected, absl::string_view printed) {
  constexpr absl::string_view kAny = "\"...\"";
  const size_t any = expected.find(kAny);
  if (any == absl::string_view::npos) return expected == printed;
  const absl::string_view before = expected.substr(0, any + 1);
  const absl::string_view after = expected.substr(any + kAny.size() - 1);
  return printed.size() >= before.size() + after.size() && absl::StartsWith(printed, before) &&
         absl::EndsWith(printed, after);
}

bool Agrees(const std::vector<std::string>& expected, const std::vector<std::string>& printed) {
  if (expected.size() != printed.size()) return false;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!Agrees(expected[i], printed[i])) return false;
  }
  return true;
}

bool IsExpectation(absl::string_view line) {
  return absl::StartsWith(absl::StripLeadingAsciiWhitespace(line), ">");
}

}  // namespace

std::vector<std::vector<std::string>> RunScript(const Script& script,
                                                const ThroughSnapshot& through) {
  ScriptRunner runner(script.config, through);
  std::vector<std::vector<std::string>> printed;
  printed.reserve(script.statements.size());
  for (const ScriptStatement& statement : script.statements) {
    printed.push_back(runner.Run(statement));
  }
  return printed;
}

std::string DiffScript(const Script& script, const std::vector<std::vector<std::string>>& printed) {
  std::string diff;
  for (size_t i = 0; i < script.statements.size(); ++i) {
    const ScriptStatement& statement = script.statements[i];
    if (Agrees(statement.expected, printed[i])) continue;
    absl::StrAppend(&diff, "line ", statement.line, ": ", statement.text, "\n");
    for (const std::string& line : statement.expected) absl::StrAppend(&diff, "- > ", line, "\n");
    for (const std::string& line : printed[i]) absl::StrAppend(&diff, "+ > ", line, "\n");
  }
  return diff;
}

std::string RewriteScript(const Script& script,
                          const std::vector<std::vector<std::string>>& printed) {
  std::string text;
  size_t next = 0;
  for (size_t i = 0; i < script.lines.size(); ++i) {
    if (IsExpectation(script.lines[i])) continue;
    absl::StrAppend(&text, script.lines[i], "\n");
    if (next == script.statements.size()) continue;
    const ScriptStatement& statement = script.statements[next];
    if (statement.line != static_cast<int>(i) + 1) continue;
    const bool keep = Agrees(statement.expected, printed[next]);
    for (const std::string& line : keep ? statement.expected : printed[next]) {
      absl::StrAppend(&text, "> ", line, "\n");
    }
    ++next;
  }
  return text;
}

}  // namespace muster::sched
