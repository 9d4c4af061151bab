// Typed entries of a label selector, to stand in the same braces as Ray's text form:
//
//   .label_selector = {{"ray.io/market-type", "spot"}, Label("zone").In({"a", "b"})}
//
// Errors: none here. What is wrong (an illegal value, an empty list) is reported, with key and
// clause,
//   where the selector is used; an illegal value is never taken for something else.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace muster {

class Label {
 public:
  using Entry =
      std::pair<const std::string, std::string>;  // Of std::map<std::string, std::string>.

  explicit Label(std::string key) : key_(std::move(key)) {}

  Entry Equals(const std::string& value) const { return {key_, Quoted(value)}; }
  Entry NotEquals(const std::string& value) const { return {key_, "!" + Quoted(value)}; }
  Entry In(const std::vector<std::string>& values) const { return {key_, "in" + List(values)}; }
  Entry NotIn(const std::vector<std::string>& values) const { return {key_, "!in" + List(values)}; }
  Entry Exists() const { return {key_, "exists()"}; }
  Entry NotExists() const { return {key_, "!exists()"}; }
  // The label must be there and be a whole number.
  Entry GreaterThan(std::int64_t bound) const {
    return {key_, "gt(" + std::to_string(bound) + ")"};
  }
  Entry LessThan(std::int64_t bound) const { return {key_, "lt(" + std::to_string(bound) + ")"}; }

 private:
  // A quotation mark is illegal in a selector, so a value that could be read as syntax is refused
  // as a value where the selector is parsed.
  static std::string Quoted(const std::string& value) {
    for (const char c : value) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
      if (!plain) return '"' + value + '"';
    }
    return value;
  }

  static std::string List(const std::vector<std::string>& values) {
    std::string list = "(";
    for (const std::string& value : values) {
      if (list.size() > 1) list += ',';
      list += value.empty() ? "\"\"" : Quoted(value);
    }
    return list + ")";
  }

  std::string key_;
};

}  // namespace muster
