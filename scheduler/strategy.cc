#include "scheduler/strategy.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/labels.h"

namespace muster::sched {
namespace {

constexpr absl::string_view kAllowed =
    "pack, spread, strict_pack, strict_spread, same(label), spread(label), and same(label)+ before "
    "one of these";

absl::Status Bad(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("strategy \"",
                                                 absl::Utf8SafeCHexEscape(text.substr(0, 400)),
                                                 "\": ", why, "; allowed: ", kAllowed));
}

// "same(rack)" to "rack", where `text` begins with `word` and "(" in any case.
bool ConsumeLabel(absl::string_view& text, absl::string_view word, std::string& label) {
  if (!absl::StartsWithIgnoreCase(text, word)) return false;
  const absl::string_view rest = text.substr(word.size());
  const size_t close = rest.find(')');
  if (rest.empty() || rest[0] != '(' || close == absl::string_view::npos) return false;
  label = std::string(absl::StripAsciiWhitespace(rest.substr(1, close - 1)));
  text = rest.substr(close + 1);
  return true;
}

}  // namespace

absl::StatusOr<Level> ParseLevel(absl::string_view text) {
  Level level;
  absl::string_view rest = absl::StripAsciiWhitespace(text);
  if (ConsumeLabel(rest, "same", level.same)) {
    if (absl::Status key = ValidateLabelKey(level.same); !key.ok()) return Bad(text, key.message());
    if (rest.empty()) return level;
    if (!absl::ConsumePrefix(&rest, "+")) return Bad(text, "\"+\" is missing");
  }
  if (ConsumeLabel(rest, "spread", level.spread)) {
    if (absl::Status key = ValidateLabelKey(level.spread); !key.ok()) {
      return Bad(text, key.message());
    }
    if (!rest.empty()) return Bad(text, "something follows");
    level.within = Level::Within::kSpreadLabel;
    return level;
  }
  const std::string word = absl::AsciiStrToLower(rest);
  if (word == "pack") {
    level.within = Level::Within::kPack;
  } else if (word == "spread") {
    level.within = Level::Within::kSpread;
  } else if (word == "strict_pack") {
    level.within = Level::Within::kStrictPack;
  } else if (word == "strict_spread") {
    level.within = Level::Within::kStrictSpread;
  } else {
    return Bad(text, "unknown");
  }
  return level;
}

std::string ToText(const Level& level) {
  std::string text = level.same.empty() ? "" : absl::StrCat("same(", level.same, ")");
  const auto within = [&](absl::string_view word) {
    return absl::StrCat(text, text.empty() ? "" : "+", word);
  };
  switch (level.within) {
    case Level::Within::kPack:
      return level.same.empty() ? "pack" : text;
    case Level::Within::kSpread:
      return within("spread");
    case Level::Within::kStrictPack:
      return within("strict_pack");
    case Level::Within::kStrictSpread:
      return within("strict_spread");
    case Level::Within::kSpreadLabel:
      return within(absl::StrCat("spread(", level.spread, ")"));
  }
  return text;
}

std::string ToText(const Strategy& strategy) {
  return absl::StrJoin(strategy, " > ", [](std::string* out, const Level& level) {
    absl::StrAppend(out, ToText(level));
  });
}

absl::Status Validate(const Strategy& strategy) {
  if (strategy.size() > kLevelsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a strategy of ", strategy.size(),
                                                   " levels is too long: at most ", kLevelsMax));
  }
  for (const Level& level : strategy) {
    if (!level.same.empty()) MUSTER_RETURN_IF_ERROR(ValidateLabelKey(level.same));
    const bool spread = level.within == Level::Within::kSpreadLabel;
    if (spread || !level.spread.empty()) MUSTER_RETURN_IF_ERROR(ValidateLabelKey(level.spread));
    if (spread == level.spread.empty()) {
      return absl::InvalidArgumentError("strategy: spread(label) and its label go together");
    }
  }
  return absl::OkStatus();
}

}  // namespace muster::sched
