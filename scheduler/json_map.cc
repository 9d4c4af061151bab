#include "scheduler/json_map.h"

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"

namespace muster::sched {
namespace {

class JsonMapReader {
 public:
  explicit JsonMapReader(absl::string_view text) : text_(text), rest_(text) {}

  absl::StatusOr<std::map<std::string, std::string>> Read() {
    std::map<std::string, std::string> map;
    SkipBlanks();
    MUSTER_RETURN_IF_ERROR(Expect("{"));
    SkipBlanks();
    if (!absl::ConsumePrefix(&rest_, "}")) {
      while (true) {
        MUSTER_ASSIGN_OR_RETURN(std::string key, ReadString("a key"));
        SkipBlanks();
        MUSTER_RETURN_IF_ERROR(Expect(":"));
        SkipBlanks();
        MUSTER_ASSIGN_OR_RETURN(std::string value, ReadString("a value"));
        SkipBlanks();
        if (!map.emplace(key, std::move(value)).second) {
          return Error(
              absl::StrCat("the key \"", absl::Utf8SafeCHexEscape(key), "\" is there twice"));
        }
        if (absl::ConsumePrefix(&rest_, "}")) break;
        if (!absl::ConsumePrefix(&rest_, ",")) return Error("\",\" or \"}\" is missing");
        SkipBlanks();
      }
    }
    SkipBlanks();
    if (!rest_.empty()) return Error("something stands after the closing \"}\"");
    return map;
  }

 private:
  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("JSON map, at character ",
                                                   text_.size() - rest_.size() + 1, ": ", what,
                                                   "; allowed: {\"key\": \"text\", ...}"));
  }

  absl::Status Expect(absl::string_view token) {
    if (absl::ConsumePrefix(&rest_, token)) return absl::OkStatus();
    return Error(absl::StrCat("\"", token, "\" is missing"));
  }

  void SkipBlanks() {
    size_t n = 0;
    while (n < rest_.size() &&
           (rest_[n] == ' ' || rest_[n] == '\t' || rest_[n] == '\n' || rest_[n] == '\r')) {
      ++n;
    }
    rest_.remove_prefix(n);
  }

  absl::StatusOr<std::string> ReadString(absl::string_view what) {
    if (!absl::ConsumePrefix(&rest_, "\"")) {
      return Error(absl::StrCat(what, " must be a string in quotation marks"));
    }
    std::string out;
    while (true) {
      if (rest_.empty()) return Error("the closing quotation mark is missing");
      const char c = rest_.front();
      if (static_cast<unsigned char>(c) < 0x20) return Error("a control character in a string");
      rest_.remove_prefix(1);
      if (c == '"') return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      MUSTER_RETURN_IF_ERROR(ReadEscape(out));
    }
  }

  absl::Status ReadEscape(std::string& out) {
    if (rest_.empty()) return Error("the string ends after \"\\\"");
    const char c = rest_.front();
    rest_.remove_prefix(1);
    switch (c) {
      case '"':
      case '\\':
      case '/':
        out += c;
        return absl::OkStatus();
      case 'b':
        out += '\b';
        return absl::OkStatus();
      case 'f':
        out += '\f';
        return absl::OkStatus();
      case 'n':
        out += '\n';
        return absl::OkStatus();
      case 'r':
        out += '\r';
        return absl::OkStatus();
      case 't':
        out += '\t';
        return absl::OkStatus();
      case 'u':
        return ReadUnicode(out);
      default:
        return Error("an unknown escape after \"\\\"");
    }
  }

  absl::StatusOr<uint32_t> ReadFourHexDigits() {
    if (rest_.size() < 4) return Error("\"\\u\" needs four hex digits");
    uint32_t value = 0;
    for (const char c : rest_.substr(0, 4)) {
      if (!absl::ascii_isxdigit(c)) return Error("\"\\u\" needs four hex digits");
      const int digit = absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    rest_.remove_prefix(4);
    return value;
  }

  absl::Status ReadUnicode(std::string& out) {
    MUSTER_ASSIGN_OR_RETURN(uint32_t code, ReadFourHexDigits());
    if (code >= 0xD800 && code <= 0xDBFF) {
      if (!absl::ConsumePrefix(&rest_, "\\u")) return Error("half of a surrogate pair");
      MUSTER_ASSIGN_OR_RETURN(const uint32_t low, ReadFourHexDigits());
      if (low < 0xDC00 || low > 0xDFFF) return Error("half of a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
      return Error("half of a surrogate pair");
    }
    AppendUtf8(code, out);
    return absl::OkStatus();
  }

  static void AppendUtf8(uint32_t code, std::string& out) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | (code >> 6));
      tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | (code >> 12));
      tail(6);
      tail(0);
    } else {
      out += static_cast<char>(0xF0 | (code >> 18));
      tail(12);
      tail(6);
      tail(0);
    }
  }

  const absl::string_view text_;
  absl::string_view rest_;
};

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseJsonMap(absl::string_view text) {
  return JsonMapReader(text).Read();
}

bool LooksLikeJsonMap(absl::string_view text) {
  return absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{");
}

}  // namespace muster::sched
