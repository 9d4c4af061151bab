#include "scheduler/label_selector.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/json_map.h"
#include "scheduler/selector_text.h"

namespace muster::sched {

std::string Alternatives(const std::vector<std::string>& values) {
  const auto append = [](std::string* text, const std::string& value) {
    absl::StrAppend(text, value.empty() ? "\"\"" : value);
  };
  std::string text = absl::StrJoin(values.begin(), values.end() - 1, ", ", append);
  if (values.size() > 1) text += " or ";
  append(&text, values.back());
  return text;
}

namespace {

bool Contains(const std::vector<std::string>& sorted, const std::string& value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

void SortAndDropDoubles(std::vector<std::string>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

bool HasBound(const LabelRequirement& r) { return r.greater_than || r.less_than; }

bool InBounds(const LabelRequirement& r, const std::string& value) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(value, &number)) return false;
  return (!r.greater_than || number > *r.greater_than) && (!r.less_than || number < *r.less_than);
}

// No whole number that a label can be (they are never negative) lies within the bounds.
bool BoundsExcludeAll(const LabelRequirement& r) {
  const int64_t above = r.greater_than.value_or(-1);
  const int64_t below = r.less_than.value_or(std::numeric_limits<int64_t>::max());
  if (!r.less_than) return above == std::numeric_limits<int64_t>::max();
  return below <= 0 || above >= below - 1;
}

// All that the clauses say, still unreduced.
struct Gathered {
  bool listed = false;  // An in() or a plain value was there: `in` holds what all of them allow.
  bool must_be_missing = false;
  LabelRequirement requirement;
};

Gathered Gather(const std::string& key, std::vector<SelectorClause> clauses) {
  using Kind = SelectorClause::Kind;
  Gathered all;
  LabelRequirement& r = all.requirement;
  r.key = key;
  for (SelectorClause& clause : clauses) {
    switch (clause.kind) {
      case Kind::kIn: {
        SortAndDropDoubles(clause.values);
        std::vector<std::string> both;
        std::set_intersection(r.in.begin(), r.in.end(), clause.values.begin(), clause.values.end(),
                              std::back_inserter(both));
        r.in = all.listed ? std::move(both) : std::move(clause.values);
        all.listed = true;
        break;
      }
      case Kind::kNotIn:
        r.not_in.insert(r.not_in.end(), clause.values.begin(), clause.values.end());
        break;
      case Kind::kExists:
        r.must_exist = true;
        break;
      case Kind::kNotExists:
        all.must_be_missing = true;
        break;
      case Kind::kGreaterThan:
        // No label is a negative number, so bounds below -1 say the same as -1.
        r.greater_than = std::max({clause.bound, r.greater_than.value_or(-1), int64_t{-1}});
        break;
      case Kind::kLessThan:
        r.less_than = r.less_than ? std::min(*r.less_than, clause.bound) : clause.bound;
        break;
    }
  }
  SortAndDropDoubles(r.not_in);
  return all;
}

// The normal form of what was gathered; nullopt if nothing can satisfy it.
std::optional<LabelRequirement> Reduce(Gathered all) {
  LabelRequirement& r = all.requirement;
  const auto drop_if = [](std::vector<std::string>& values, auto&& condition) {
    values.erase(std::remove_if(values.begin(), values.end(), condition), values.end());
  };
  if (all.must_be_missing) {
    if (all.listed || r.must_exist || HasBound(r)) return std::nullopt;
    return LabelRequirement{.key = std::move(r.key), .must_be_missing = true};
  }
  if (all.listed) {
    drop_if(r.in, [&](const std::string& value) {
      return Contains(r.not_in, value) || (HasBound(r) && !InBounds(r, value));
    });
    if (r.in.empty()) return std::nullopt;
    return LabelRequirement{.key = std::move(r.key), .in = std::move(r.in)};
  }
  if (HasBound(r)) {
    if (BoundsExcludeAll(r)) return std::nullopt;
    r.must_exist = false;  // Implied.
    drop_if(r.not_in, [&](const std::string& value) { return !InBounds(r, value); });
  }
  return std::move(r);
}

auto Tie(const LabelRequirement& r) {
  return std::tie(r.key, r.must_be_missing, r.must_exist, r.in, r.not_in, r.greater_than,
                  r.less_than);
}

std::string Wanted(const LabelRequirement& r) {
  if (r.must_be_missing) return "it must be missing";
  if (!r.in.empty()) return absl::StrCat("not ", Alternatives(r.in));
  std::vector<std::string> parts;
  if (r.must_exist) parts.push_back("it must be there");
  if (!r.not_in.empty()) parts.push_back(absl::StrCat("it must not be ", Alternatives(r.not_in)));
  if (r.greater_than) parts.push_back(absl::StrCat("it must be a number above ", *r.greater_than));
  if (r.less_than) parts.push_back(absl::StrCat("it must be a number below ", *r.less_than));
  return absl::StrJoin(parts, ", ");
}

}  // namespace

bool LabelRequirement::Matches(const std::string* value) const {
  if (value == nullptr) return !must_exist && in.empty() && !HasBound(*this);
  if (must_be_missing) return false;
  if (!in.empty()) return Contains(in, *value);
  if (!not_in.empty() && Contains(not_in, *value)) return false;
  return !HasBound(*this) || InBounds(*this, *value);
}

std::string LabelRequirement::ToText() const {
  if (must_be_missing) return "!exists()";
  if (in.size() == 1) return in[0];
  if (!in.empty()) return absl::StrCat("in(", absl::StrJoin(in, ","), ")");
  std::vector<std::string> clauses;
  if (must_exist) clauses.push_back("exists()");
  if (not_in.size() == 1) clauses.push_back(absl::StrCat("!", not_in[0]));
  if (not_in.size() > 1) clauses.push_back(absl::StrCat("!in(", absl::StrJoin(not_in, ","), ")"));
  if (greater_than) clauses.push_back(absl::StrCat("gt(", *greater_than, ")"));
  if (less_than) clauses.push_back(absl::StrCat("lt(", *less_than, ")"));
  return absl::StrJoin(clauses, ",");
}

bool operator==(const LabelRequirement& a, const LabelRequirement& b) { return Tie(a) == Tie(b); }
bool operator<(const LabelRequirement& a, const LabelRequirement& b) { return Tie(a) < Tie(b); }

absl::StatusOr<LabelSelector> LabelSelector::Parse(const std::map<std::string, std::string>& text) {
  if (text.size() > kKeysMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("label selector: ", text.size(), " keys are too many: at most ", kKeysMax));
  }
  LabelSelector selector;
  for (const auto& [key, clauses_text] : text) {
    if (absl::Status status = ValidateLabelKey(key); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("label selector: ", status.message()));
    }
    if (clauses_text.size() > kTextBytesMax) {
      return SelectorError(
          key, clauses_text,
          absl::StrCat(clauses_text.size(), " characters are too many: at most ", kTextBytesMax));
    }
    MUSTER_ASSIGN_OR_RETURN(std::vector<SelectorClause> clauses, ParseClauses(key, clauses_text));
    std::optional<LabelRequirement> reduced = Reduce(Gather(key, std::move(clauses)));
    if (!reduced) return SelectorError(key, clauses_text, "no label can ever satisfy this");
    selector.requirements_.push_back(*std::move(reduced));  // The map is sorted by key.
  }
  return selector;
}

absl::StatusOr<LabelSelector> LabelSelector::ParseText(absl::string_view text) {
  if (text.size() > kWholeTextBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "label selector: ", text.size(), " characters are too many: at most ", kWholeTextBytesMax));
  }
  if (LooksLikeJsonMap(text)) {
    absl::StatusOr<std::map<std::string, std::string>> map = ParseJsonMap(text);
    if (!map.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("label selector: ", map.status().message()));
    }
    return Parse(*map);
  }
  MUSTER_ASSIGN_OR_RETURN(const auto map, SplitSelectorText(text));
  return Parse(map);
}

bool LabelSelector::Matches(const Labels& labels) const {
  for (const LabelRequirement& requirement : requirements_) {
    const auto label = labels.find(requirement.key);
    if (!requirement.Matches(label == labels.end() ? nullptr : &label->second)) return false;
  }
  return true;
}

std::optional<LabelSelector::Mismatch> LabelSelector::FirstMismatch(const Labels& labels) const {
  for (const LabelRequirement& requirement : requirements_) {
    const auto label = labels.find(requirement.key);
    const std::string* value = label == labels.end() ? nullptr : &label->second;
    if (requirement.Matches(value)) continue;
    Mismatch mismatch{.key = requirement.key, .clause = requirement.ToText()};
    if (value != nullptr) mismatch.actual = *value;
    const std::string is = value == nullptr ? "missing" : value->empty() ? "\"\"" : *value;
    mismatch.why = absl::StrCat(requirement.key, " is ", is, ", ", Wanted(requirement));
    return mismatch;
  }
  return std::nullopt;
}

std::string LabelSelector::ToString() const {
  return absl::StrJoin(requirements_, ",", [](std::string* out, const LabelRequirement& r) {
    absl::StrAppend(out, r.key, "=", r.ToText());
  });
}

std::map<std::string, std::string> LabelSelector::ToMap() const {
  std::map<std::string, std::string> map;
  for (const LabelRequirement& requirement : requirements_) {
    map.emplace(requirement.key, requirement.ToText());
  }
  return map;
}

}  // namespace muster::sched
