// Typed entries of a label selector, for the same braces as the text form:
//   .label_selector = {{"ray.io/accelerator-type", "L4"}, Label("zone").In({"a", "b"})}
// Each gives the key and the text that means the same ("zone" and "in(a,b)"); the text is checked
// where it is parsed, at submit.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace muster {

class Label {
 public:
  using Entry = std::pair<const std::string, std::string>;

  explicit Label(std::string key) : key_(std::move(key)) {}

  Entry Equals(const std::string& value) const { return {key_, value}; }
  Entry NotEquals(const std::string& value) const { return {key_, "!" + value}; }
  Entry In(const std::vector<std::string>& values) const { return {key_, "in" + List(values)}; }
  Entry NotIn(const std::vector<std::string>& values) const { return {key_, "!in" + List(values)}; }
  Entry Exists() const { return {key_, "exists()"}; }
  Entry NotExists() const { return {key_, "!exists()"}; }
  Entry GreaterThan(int64_t bound) const { return {key_, "gt(" + std::to_string(bound) + ")"}; }
  Entry LessThan(int64_t bound) const { return {key_, "lt(" + std::to_string(bound) + ")"}; }

 private:
  static std::string List(const std::vector<std::string>& values) {
    std::string list = "(";
    for (const std::string& value : values) {
      if (list.size() > 1) list += ',';
      list += value;
    }
    return list += ')';
  }

  std::string key_;
};

}  // namespace muster
