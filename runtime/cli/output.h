// What a command prints: aligned tables and, on a terminal, a little colour.
// Thread-safety: free functions and values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster::cli {

struct Style {
  bool color = false;

  std::string Bold(absl::string_view text) const;
  std::string Red(absl::string_view text) const;
  std::string Yellow(absl::string_view text) const;
};
Style StyleOfStdout();  // Colour on a terminal, unless NO_COLOR is set.

// Rows of cells, the first of them the header; columns two blanks apart. No blanks end a line.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_({std::move(header)}) {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string ToText(const Style& style) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string Count(uint64_t count, absl::string_view one,
                  absl::string_view many);  // "1 node", "2 nodes"
std::string Age(absl::Duration duration);   // "3m12s", "2d4h"

// What others wrote, fit for a terminal: no control characters but line ends.
std::string Printable(absl::string_view text);

}  // namespace muster::cli
