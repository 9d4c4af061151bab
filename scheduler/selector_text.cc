#include "scheduler/selector_text.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/labels.h"

namespace muster::sched {
namespace {

constexpr int kShownBytesMax = 80;

absl::string_view TrimBlanks(absl::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool HasBlank(absl::string_view text) {
  return text.find_first_of(" \t") != absl::string_view::npos;
}

std::string Shown(absl::string_view text) {
  const bool cut = text.size() > kShownBytesMax;
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, kShownBytesMax)),
                      cut ? "..." : "", "\"");
}

// Reads the clauses of one key, front to back.
class ClauseReader {
 public:
  ClauseReader(absl::string_view key, absl::string_view text) : key_(key), rest_(text) {}

  absl::StatusOr<std::vector<SelectorClause>> ReadAll() {
    std::vector<SelectorClause> clauses;
    if (rest_.empty()) {
      clauses.push_back({.kind = SelectorClause::Kind::kIn, .values = {""}});
      return clauses;
    }
    while (true) {
      MUSTER_ASSIGN_OR_RETURN(SelectorClause clause, ReadOne());
      clauses.push_back(std::move(clause));
      if (rest_.empty()) return clauses;
      rest_.remove_prefix(1);  // The comma.
      if (rest_.empty()) return SelectorError(key_, "", "a clause is missing after the last comma");
    }
  }

 private:
  // Leaves rest_ at the comma after the clause, or empty.
  absl::StatusOr<SelectorClause> ReadOne() {
    const absl::string_view from_here = rest_;
    const bool negated = absl::ConsumePrefix(&rest_, "!");
    const size_t stop = rest_.find_first_of("(),");
    if (stop != absl::string_view::npos && rest_[stop] == '(') {
      const size_t close = rest_.find(')', stop);
      if (close == absl::string_view::npos) {
        return SelectorError(key_, from_here, "\")\" is missing");
      }
      const absl::string_view name = rest_.substr(0, stop);
      const absl::string_view arguments = rest_.substr(stop + 1, close - stop - 1);
      rest_.remove_prefix(close + 1);
      if (!rest_.empty() && rest_.front() != ',') {
        return SelectorError(key_, from_here, "only a comma may follow \")\"");
      }
      return Operator(Consumed(from_here), negated, name, arguments);
    }
    if (stop != absl::string_view::npos && rest_[stop] == ')') {
      return SelectorError(key_, from_here, "\")\" without \"(\"");
    }
    const absl::string_view value = rest_.substr(0, stop);
    rest_.remove_prefix(value.size());
    return Value(Consumed(from_here), negated, value);
  }

  absl::string_view Consumed(absl::string_view from_here) const {
    return from_here.substr(0, from_here.size() - rest_.size());
  }

  absl::StatusOr<SelectorClause> Value(absl::string_view clause, bool negated,
                                       absl::string_view value) const {
    if (value.empty()) {
      return SelectorError(key_, clause,
                           negated ? "\"!\" needs a value" : "a clause is missing between commas");
    }
    if (absl::StartsWith(value, "!")) return SelectorError(key_, clause, "more than one \"!\"");
    if (HasBlank(value)) {
      return SelectorError(key_, clause, "blanks may stand between parentheses only");
    }
    if (absl::Status status = ValidateLabelValue(value); !status.ok()) {
      return SelectorError(key_, clause, status.message());
    }
    return SelectorClause{
        .kind = negated ? SelectorClause::Kind::kNotIn : SelectorClause::Kind::kIn,
        .values = {std::string(value)}};
  }

  absl::StatusOr<SelectorClause> Operator(absl::string_view clause, bool negated,
                                          absl::string_view name,
                                          absl::string_view arguments) const {
    using Kind = SelectorClause::Kind;
    if (name == "in") return List(clause, negated ? Kind::kNotIn : Kind::kIn, arguments);
    if (name == "exists") {
      if (!TrimBlanks(arguments).empty()) {
        return SelectorError(key_, clause, "exists() takes nothing between its parentheses");
      }
      return SelectorClause{.kind = negated ? Kind::kNotExists : Kind::kExists};
    }
    if (name == "gt" || name == "lt") {
      if (negated) return SelectorError(key_, clause, "gt and lt take no \"!\"");
      return Bound(clause, name == "gt" ? Kind::kGreaterThan : Kind::kLessThan, arguments);
    }
    if (HasBlank(name)) return SelectorError(key_, clause, "no blank may stand before \"(\"");
    if (name.empty()) return SelectorError(key_, clause, "an operator is missing before \"(\"");
    return SelectorError(key_, clause, absl::StrCat(Shown(name), " is not an operator"));
  }

  absl::StatusOr<SelectorClause> List(absl::string_view clause, SelectorClause::Kind kind,
                                      absl::string_view arguments) const {
    SelectorClause list{.kind = kind};
    for (const absl::string_view piece : absl::StrSplit(arguments, ',')) {
      const absl::string_view value = TrimBlanks(piece);
      if (value.empty()) {
        return SelectorError(key_, clause,
                             TrimBlanks(arguments).empty() ? "the list is empty"
                                                           : "a value is missing between commas");
      }
      if (absl::Status status = ValidateLabelValue(value); !status.ok()) {
        return SelectorError(key_, clause, status.message());
      }
      list.values.push_back(std::string(value));
    }
    return list;
  }

  absl::StatusOr<SelectorClause> Bound(absl::string_view clause, SelectorClause::Kind kind,
                                       absl::string_view arguments) const {
    const absl::string_view number = TrimBlanks(arguments);
    SelectorClause bound{.kind = kind};
    const absl::string_view digits = absl::StripPrefix(number, "-");
    if (digits.empty() || digits.find_first_not_of("0123456789") != absl::string_view::npos ||
        !absl::SimpleAtoi(number, &bound.bound)) {
      return SelectorError(
          key_, clause, absl::StrCat(Shown(number), " is not a whole number of at most 64 bits"));
    }
    return bound;
  }

  const absl::string_view key_;
  absl::string_view rest_;
};

}  // namespace

absl::Status SelectorError(absl::string_view key, absl::string_view clause,
                           absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("label selector ", Shown(key), ": ", Shown(clause),
                                                 ": ", what, "; ", kSelectorAllowed));
}

absl::StatusOr<std::vector<SelectorClause>> ParseClauses(absl::string_view key,
                                                         absl::string_view text) {
  return ClauseReader(key, text).ReadAll();
}

absl::StatusOr<std::map<std::string, std::string>> SplitSelectorText(absl::string_view text) {
  std::map<std::string, std::string> map;
  std::string* last = nullptr;
  while (!text.empty()) {
    // A piece ends at the first comma outside parentheses.
    size_t end = 0;
    for (bool inside = false; end < text.size() && (inside || text[end] != ','); ++end) {
      if (text[end] == '(') inside = true;
      if (text[end] == ')') inside = false;
    }
    const absl::string_view piece = text.substr(0, end);
    const size_t equals = piece.find('=');
    if (equals == absl::string_view::npos) {
      if (last == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("label selector ", Shown(piece),
                         ": \"=\" is missing; allowed: key=CLAUSES,key2=CLAUSES or a JSON map "
                         "{\"key\": \"CLAUSES\"}; ",
                         kSelectorAllowed));
      }
      absl::StrAppend(last, ",", piece);
    } else {
      const auto [entry, is_new] =
          map.emplace(std::string(piece.substr(0, equals)), std::string(piece.substr(equals + 1)));
      if (!is_new) {
        return SelectorError(entry->first, piece.substr(equals + 1),
                             "the key is given twice: join its clauses by commas");
      }
      last = &entry->second;
    }
    const bool more = end < text.size();
    text.remove_prefix(more ? end + 1 : end);
    if (more && text.empty()) {
      return SelectorError(map.empty() ? "" : map.rbegin()->first, "",
                           "a clause is missing after the last comma");
    }
  }
  return map;
}

}  // namespace muster::sched
