#include "runtime/worker/output_lines.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace muster::worker {
namespace {

constexpr char kMark = '\x1e';
constexpr size_t kTailBytesMax = 1024;

}  // namespace

void OutputLines::Append(absl::string_view bytes, std::vector<OutputLine>& lines) {
  for (const char c : bytes) {
    if (in_mark_) {
      if (c == '\n') {
        task_ = mark_;
        in_mark_ = false;
      } else if (mark_.size() < 256) {
        mark_.push_back(c);
      }
    } else if (c == kMark) {
      if (!line_.empty()) Emit(lines);
      in_mark_ = true;
      mark_.clear();
    } else if (c == '\n') {
      Emit(lines);
    } else {
      line_.push_back(c);
      if (line_.size() >= kLineBytesMax) Emit(lines);
    }
  }
}

void OutputLines::Finish(std::vector<OutputLine>& lines) {
  if (!line_.empty()) Emit(lines);
}

void OutputLines::Emit(std::vector<OutputLine>& lines) {
  absl::StrAppend(&tail_, line_, "\n");
  if (tail_.size() > 2 * kTailBytesMax) tail_.erase(0, tail_.size() - kTailBytesMax);
  lines.push_back(OutputLine{is_stderr_, task_, std::move(line_)});
  line_.clear();
}

std::string OutputLines::Tail() const {
  absl::string_view tail = tail_;
  if (tail.size() > kTailBytesMax) {
    tail.remove_prefix(tail.size() - kTailBytesMax);
    const size_t line = tail.find('\n');
    if (line != absl::string_view::npos) tail.remove_prefix(line + 1);
  }
  return std::string(absl::StripSuffix(tail, "\n"));
}

}  // namespace muster::worker
