// Splits what an executor writes into lines, and follows its marks: before a task of another
// function runs, the executor writes `\x1e` name `\n` into both of its streams, so each line is
// known by the task that wrote it.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/worker/executor_process.h"

namespace muster::worker {

class OutputLines {
 public:
  static constexpr size_t kLineBytesMax = 16 * 1024;  // A longer line is split.

  explicit OutputLines(bool is_stderr) : is_stderr_(is_stderr) {}

  void Append(absl::string_view bytes, std::vector<OutputLine>& lines);
  void Finish(std::vector<OutputLine>& lines);  // The last line, even without its end.
  // The last lines, joined, for messages about the process's death; at most 1 KiB.
  std::string Tail() const;

 private:
  void Emit(std::vector<OutputLine>& lines);

  const bool is_stderr_;
  bool in_mark_ = false;
  std::string mark_;
  std::string task_;
  std::string line_;
  std::string tail_;
};

}  // namespace muster::worker
