#include "scheduler/explain.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::sched {
namespace {

std::string StateText(const Explanation& explanation, size_t i, absl::Time now) {
  const ChoiceExplanation& choice = explanation.choices[i];
  if (choice.state == ChoiceState::kOpen) return "open";
  if (!choice.opens_at) return absl::StrCat("with ", i);
  if (*choice.opens_at == absl::InfiniteFuture()) return "on findings";
  return absl::StrCat("in ", ShortDuration(*choice.opens_at - now));
}

std::string CountText(const ChoiceExplanation& choice, bool first) {
  const absl::string_view verb = choice.matching_nodes == 1 ? " matches" : " match";
  if (!first) return absl::StrCat(choice.matching_nodes, verb);
  return absl::StrCat(choice.matching_nodes, " of ", choice.nodes,
                      choice.nodes == 1 ? " node" : " nodes", verb);
}

std::string Padded(const std::string& text, size_t width) {
  return text + std::string(width - std::min(width, text.size()), ' ');
}

std::string GrantedText(const Explanation& explanation, absl::string_view name) {
  std::string text = absl::StrCat(name, " waited ", ShortDuration(explanation.waited), " for ",
                                  explanation.needs, " and has them on:\n");
  for (const std::string& where : explanation.where) absl::StrAppend(&text, "  ", where, "\n");
  for (const std::string& line : explanation.between_jobs) absl::StrAppend(&text, line, ".\n");
  return text;
}

std::string Values(const LabelRequirement& requirement) {
  if (!requirement.in.empty()) return absl::StrJoin(requirement.in, "|");
  return absl::StrCat(ShortKey(requirement.key), "=", requirement.ToText());
}

}  // namespace

std::string ToString(NodeState state) {
  switch (state) {
    case NodeState::kAlive:
      return "alive";
    case NodeState::kUnreachable:
      return "unreachable";
    case NodeState::kDraining:
      return "draining";
    case NodeState::kLost:
      return "lost";
  }
  return "";
}

std::string ShortDuration(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "forever";
  const absl::Duration unit =
      duration < absl::Seconds(1) ? absl::Milliseconds(1) : absl::Seconds(1);
  const absl::Duration whole = absl::Trunc(duration, unit);
  return whole == absl::ZeroDuration() ? "0s" : absl::FormatDuration(whole);
}

std::string ToText(const LabelSelector& selector) {
  if (selector.empty()) return "any node";
  return absl::StrJoin(selector.requirements(), ", ",
                       [](std::string* out, const LabelRequirement& requirement) {
                         absl::StrAppend(out, ShortKey(requirement.key), "=", requirement.ToText());
                       });
}

std::string ShortText(const LabelSelector& selector) {
  if (selector.empty()) return "any";
  return absl::StrJoin(selector.requirements(), "+",
                       [](std::string* out, const LabelRequirement& requirement) {
                         absl::StrAppend(out, Values(requirement));
                       });
}

std::string ChoicesSummary(const RequestSpec& spec) {
  return absl::StrJoin(spec.choices, " > ", [](std::string* out, const Choice& choice) {
    absl::StrAppend(out, ShortText(choice.selector));
  });
}

std::string ToText(const Explanation& explanation, absl::string_view name, absl::Time now) {
  if (name.empty()) name = "The request";
  if (explanation.granted) return GrantedText(explanation, name);
  std::string text = absl::StrCat(name, " has waited ", ShortDuration(explanation.waited), " for ",
                                  explanation.needs, "; ", explanation.before_in_class,
                                  " before it in its class.\n");
  std::vector<std::string> selectors;
  std::vector<std::string> states;
  size_t selector_width = 0;
  size_t state_width = 0;
  for (size_t i = 0; i < explanation.choices.size(); ++i) {
    const ChoiceExplanation& choice = explanation.choices[i];
    selectors.push_back(choice.own_needs.empty()
                            ? choice.selector
                            : absl::StrCat(choice.selector, ", ", choice.own_needs));
    states.push_back(StateText(explanation, i, now));
    selector_width = std::max(selector_width, selectors.back().size());
    state_width = std::max(state_width, states.back().size());
  }
  for (size_t i = 0; i < explanation.choices.size(); ++i) {
    const ChoiceExplanation& choice = explanation.choices[i];
    absl::StrAppend(&text, "  ", i + 1, ". ", Padded(selectors[i], selector_width), "   ",
                    Padded(states[i], state_width), "   ", CountText(choice, i == 0), ": ",
                    choice.why, "\n");
  }
  for (const std::string& line : explanation.between_jobs) absl::StrAppend(&text, line, ".\n");
  if (!explanation.what_would_help.empty()) {
    absl::StrAppend(&text, "What would help: ", explanation.what_would_help, ".\n");
  }
  if (!explanation.starts.empty()) {
    absl::StrAppend(&text, "It could start: ", explanation.starts, ".\n");
  }
  return text;
}

}  // namespace muster::sched
