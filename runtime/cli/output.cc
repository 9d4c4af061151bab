#include "runtime/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::cli {
namespace {

std::string Painted(bool color, absl::string_view code, absl::string_view text) {
  if (!color) return std::string(text);
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

// Of UTF-8 text, as far as a character is a column wide.
size_t Width(absl::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string PaintCell(const Style& style, const std::string& cell) {
  if (cell == "lost") return style.Red(cell);
  if (cell == "draining") return style.Yellow(cell);
  return cell;
}

}  // namespace

std::string Style::Bold(absl::string_view text) const { return Painted(color, "1", text); }
std::string Style::Red(absl::string_view text) const { return Painted(color, "31", text); }
std::string Style::Yellow(absl::string_view text) const { return Painted(color, "33", text); }

Style StyleOfStdout() {
  const char* no_color = getenv("NO_COLOR");
  const char* terminal = getenv("TERM");
  return {.color = isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') &&
                   (terminal == nullptr || absl::string_view(terminal) != "dumb")};
}

std::string Table::ToText(const Style& style) const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    size_t blanks = 0;  // Written only before a cell that has something.
    for (size_t i = 0; i < row.size(); ++i) {
      if (!row[i].empty()) {
        const bool header = &row == &rows_.front();
        absl::StrAppend(&line, std::string(blanks, ' '),
                        header ? style.Bold(row[i]) : PaintCell(style, row[i]));
        blanks = 0;
      }
      blanks += widths[i] - Width(row[i]) + 2;
    }
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string Count(uint64_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(count, " ", count == 1 ? one : many);
}

std::string Age(absl::Duration duration) {
  const int64_t seconds = std::max<int64_t>(absl::ToInt64Seconds(duration), 0);
  const int64_t minutes = seconds / 60;
  const int64_t hours = minutes / 60;
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (minutes < 60) return absl::StrCat(minutes, "m", seconds % 60, "s");
  if (hours < 24) return absl::StrCat(hours, "h", minutes % 60, "m");
  return absl::StrCat(hours / 24, "d", hours % 24, "h");
}

std::string Printable(absl::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) c = '?';
  }
  return printable;
}

}  // namespace muster::cli
