#include <cstdio>

#include "runtime/cli/arguments.h"
#include "runtime/cli/ask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/json_text.h"
#include "runtime/cli/output.h"
#include "scheduler/label_selector.h"
#include "scheduler/labels.h"

namespace muster::cli {
namespace {

constexpr char kNoLabels[] = "\n";  // Not given: the empty text means a node without labels.

int Invalid(const absl::Status& status, bool json) {
  if (json) printf("%s", SelectorJson({.error = std::string(status.message())}).c_str());
  fprintf(stderr, "%s\n", Printable(status.message()).c_str());
  return kWrongUsage;
}

}  // namespace

int RunSelector(const std::vector<std::string>& given) {
  Arguments arguments("selector",
                      "Checks a label selector, and whether labels match it: 0 yes, 1 no, 2 the "
                      "selector is invalid. "
                      "Needs no cluster.",
                      {"muster selector 'ray.io/accelerator-type=in(L4,A100),zone=!a' --labels "
                       "ray.io/accelerator-type=L4",
                       "muster selector '{\"zone\": \"!in(a,b)\"}'"});
  std::string text;
  std::string labels_text = kNoLabels;
  bool json = false;
  arguments.Positional(
      "SELECTOR",
      "key=in(a,b),key2=!v or a JSON map; clauses: v, !v, in(a,b), !in(a,b), exists(), "
      "!exists(), gt(n), lt(n)",
      &text);
  arguments.Text("--labels", "LABELS", "of a node: k=v,k2=v2 or a JSON map", &labels_text);
  AddJson(arguments, &json);
  if (const std::optional<int> over = arguments.Parse(given)) return *over;

  absl::StatusOr<sched::LabelSelector> selector = sched::LabelSelector::ParseText(text);
  if (!selector.ok()) return Invalid(selector.status(), json);
  SelectorAnswer answer{.selector = *std::move(selector), .has_labels = labels_text != kNoLabels};
  if (answer.has_labels) {
    const absl::StatusOr<sched::Labels> labels = sched::ParseLabels(labels_text);
    if (!labels.ok()) return Invalid(labels.status(), json);
    const auto mismatch = answer.selector.FirstMismatch(*labels);
    answer.match = !mismatch.has_value();
    if (mismatch.has_value()) answer.mismatch = *mismatch;
  }
  const bool no = answer.has_labels && !answer.match;
  if (json) {
    printf("%s", SelectorJson(answer).c_str());
  } else if (!answer.has_labels) {
    const std::string canonical = answer.selector.ToString();
    printf("valid: %s\n", canonical.empty() ? "every node" : canonical.c_str());
  } else if (no) {
    printf("no match: \"%s\": \"%s\": %s\n", answer.mismatch.key.c_str(),
           answer.mismatch.clause.c_str(), answer.mismatch.why.c_str());
  } else {
    printf("match\n");
  }
  return no ? kFailed : kDone;
}

}  // namespace muster::cli
