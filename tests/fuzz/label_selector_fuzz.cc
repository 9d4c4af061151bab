// Whatever text is given to the selector parser, it answers; and what it accepts, it prints so that
// it parses to itself, from both forms.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "scheduler/base/check.h"
#include "scheduler/label_selector.h"
#include "scheduler/labels.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);

  const absl::StatusOr<muster::sched::LabelSelector> selector =
      muster::sched::LabelSelector::ParseText(text);
  if (selector.ok()) {
    const absl::StatusOr<muster::sched::LabelSelector> again =
        muster::sched::LabelSelector::ParseText(selector->ToString());
    MUSTER_CHECK(again.ok());
    MUSTER_CHECK(*again == *selector);
    MUSTER_CHECK(again->ToString() == selector->ToString());
    const absl::StatusOr<muster::sched::LabelSelector> mapped =
        muster::sched::LabelSelector::Parse(selector->ToMap());
    MUSTER_CHECK(mapped.ok());
    MUSTER_CHECK(*mapped == *selector);
    MUSTER_CHECK(selector->Matches({}) == !selector->FirstMismatch({}).has_value());
  } else {
    MUSTER_CHECK(!selector.status().message().empty());
  }

  // The same bytes as the clauses of one key.
  const absl::StatusOr<muster::sched::LabelSelector> one =
      muster::sched::LabelSelector::Parse({{"zone", std::string(text)}});
  if (one.ok()) {
    MUSTER_CHECK(one->requirements().size() == 1);
    MUSTER_CHECK(*muster::sched::LabelSelector::ParseText(one->ToString()) == *one);
  }

  // And as labels, which the parser accepts only if they are valid.
  if (const absl::StatusOr<muster::sched::Labels> labels = muster::sched::ParseLabels(text);
      labels.ok()) {
    MUSTER_CHECK(muster::sched::ValidateLabels(*labels).ok());
    MUSTER_CHECK(muster::sched::WithAliases(*labels) == *labels);
  }
  return 0;
}
