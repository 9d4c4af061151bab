#include "scheduler/script/script_fields.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"

namespace muster::sched {
namespace {

std::string Shown(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, 80)), "\"");
}

absl::Status Bad(absl::string_view key, absl::string_view value, absl::string_view allowed) {
  return absl::InvalidArgumentError(absl::StrCat(
      key, "=", absl::Utf8SafeCHexEscape(value.substr(0, 80)), "; allowed: ", allowed));
}

char Closing(char c) {
  if (c == '(') return ')';
  if (c == '[') return ']';
  return c == '{' ? '}' : '\0';
}

}  // namespace

absl::string_view WithoutComment(absl::string_view text) {
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == '#' && !quoted) return text.substr(0, i);
  }
  return text;
}

absl::StatusOr<std::vector<absl::string_view>> SplitOutsideBrackets(absl::string_view text,
                                                                    char separator) {
  std::vector<absl::string_view> pieces;
  std::string expected;  // Closing brackets still to come, the next one last.
  bool quoted = false;
  size_t begin = 0;
  const auto end_piece = [&](size_t end) {
    const absl::string_view piece = absl::StripAsciiWhitespace(text.substr(begin, end - begin));
    if (separator != ' ' || !piece.empty()) pieces.push_back(piece);
    begin = end + 1;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    const bool separates = separator == ' ' ? (c == ' ' || c == '\t') : c == separator;
    if (Closing(c) != '\0') {
      expected.push_back(Closing(c));
    } else if (c == ')' || c == ']' || c == '}') {
      if (expected.empty() || expected.back() != c) {
        return absl::InvalidArgumentError(
            absl::StrCat("\"", absl::string_view(&c, 1), "\" closes nothing"));
      }
      expected.pop_back();
    } else if (separates && expected.empty()) {
      end_piece(i);
    }
  }
  if (quoted) return absl::InvalidArgumentError("a quotation mark is missing");
  if (!expected.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::string_view(&expected.back(), 1), "\" is missing"));
  }
  if (separator == ' ' || !absl::StripAsciiWhitespace(text).empty()) end_piece(text.size());
  return pieces;
}

absl::StatusOr<absl::string_view> Inside(absl::string_view text, char open, char close) {
  if (text.size() < 2 || text.front() != open || text.back() != close) {
    return absl::InvalidArgumentError(absl::StrCat(Shown(text), " must stand between \"",
                                                   absl::string_view(&open, 1), "\" and \"",
                                                   absl::string_view(&close, 1), "\""));
  }
  return absl::StripAsciiWhitespace(text.substr(1, text.size() - 2));
}

absl::StatusOr<std::vector<absl::string_view>> PiecesInside(absl::string_view text, char open,
                                                            char close) {
  MUSTER_ASSIGN_OR_RETURN(const absl::string_view inside, Inside(text, open, close));
  return SplitOutsideBrackets(inside, ',');
}

absl::StatusOr<ScriptFields> ScriptFields::Parse(const std::vector<absl::string_view>& words) {
  ScriptFields fields;
  for (const absl::string_view word : words) {
    const size_t equals = word.find('=');
    if (equals == absl::string_view::npos || equals == 0) {
      return absl::InvalidArgumentError(absl::StrCat(Shown(word), " is not key=value"));
    }
    const bool is_new =
        fields.values_.emplace(std::string(word.substr(0, equals)), word.substr(equals + 1)).second;
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat(Shown(word.substr(0, equals)), " is given twice"));
    }
  }
  return fields;
}

absl::Status ScriptFields::Allow(const std::vector<absl::string_view>& allowed) const {
  for (const auto& [key, value] : values_) {
    bool known = false;
    for (const absl::string_view name : allowed) {
      known = known || key == name ||
              (absl::EndsWith(name, "*") && absl::StartsWith(key, absl::StripSuffix(name, "*")));
    }
    if (known) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(Shown(key), " is unknown; allowed: ", absl::StrJoin(allowed, ", ")));
  }
  return absl::OkStatus();
}

absl::string_view ScriptFields::Text(absl::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? absl::string_view() : found->second;
}

absl::StatusOr<uint64_t> ScriptFields::Id(absl::string_view key) const {
  if (!Has(key)) return absl::InvalidArgumentError(absl::StrCat(key, "= is missing"));
  uint64_t id = 0;
  if (!absl::SimpleAtoi(Text(key), &id)) return Bad(key, Text(key), "a whole number");
  return id;
}

absl::StatusOr<int> ScriptFields::Int(absl::string_view key, int otherwise, int min,
                                      int max) const {
  if (!Has(key)) return otherwise;
  int number = 0;
  if (!absl::SimpleAtoi(Text(key), &number) || number < min || number > max) {
    return Bad(key, Text(key), absl::StrCat("a whole number from ", min, " to ", max));
  }
  return number;
}

absl::StatusOr<bool> ScriptFields::YesNo(absl::string_view key, bool otherwise) const {
  if (!Has(key)) return otherwise;
  if (Text(key) == "yes") return true;
  if (Text(key) == "no") return false;
  return absl::InvalidArgumentError(absl::StrCat(key, ": allowed: yes, no"));
}

absl::StatusOr<absl::Duration> ScriptFields::Duration(absl::string_view key,
                                                      absl::Duration otherwise) const {
  if (!Has(key)) return otherwise;
  absl::StatusOr<absl::Duration> duration = ParseScriptDuration(Text(key));
  if (!duration.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(key, "=", duration.status().message()));
  }
  return duration;
}

absl::StatusOr<absl::Duration> ParseScriptDuration(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::Utf8SafeCHexEscape(text.substr(0, 80)),
                     "; allowed: a duration such as 5s, 2m, 1h30m, 250ms, inf"));
  }
  return duration;
}

}  // namespace muster::sched
