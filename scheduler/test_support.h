// For this room's tests: a second, slow reading of the selector's text form that shares nothing
// with the parser.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace muster::testing {

// "a,in(b,c)" to "a" and "in(b,c)".
inline std::vector<std::string> SlowSplit(const std::string& text) {
  std::vector<std::string> pieces(1);
  int depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (c == ')') --depth;
    if (c == ',' && depth == 0) {
      pieces.emplace_back();
    } else if (c != ' ') {
      pieces.back() += c;
    }
  }
  return pieces;
}

// Whether a label (null: missing) satisfies one key's text. REQUIRES: the text is valid.
inline bool SlowMatches(const std::string& text, const std::string* value) {
  const auto is_number = [](const std::string& s) {
    return !s.empty() && s.size() < 18 && s.find_first_not_of("0123456789") == std::string::npos;
  };
  for (std::string clause : SlowSplit(text)) {
    const bool negated = !clause.empty() && clause[0] == '!';
    if (negated) clause.erase(0, 1);
    bool holds = false;
    if (clause == "exists()") {
      holds = value != nullptr;
    } else if (clause.rfind("gt(", 0) == 0 || clause.rfind("lt(", 0) == 0) {
      const int64_t bound = std::atoll(clause.substr(3, clause.size() - 4).c_str());
      if (value != nullptr && is_number(*value)) {
        const int64_t number = std::atoll(value->c_str());
        holds = clause[0] == 'g' ? number > bound : number < bound;
      }
    } else {
      if (clause.rfind("in(", 0) == 0) clause = clause.substr(3, clause.size() - 4);
      for (const std::string& one : SlowSplit(clause)) {
        holds = holds || (value != nullptr && *value == one);
      }
    }
    if (holds == negated) return false;
  }
  return true;
}

}  // namespace muster::testing
