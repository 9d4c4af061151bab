// A command's options and its --help: a small front for CLI11, which costs seconds in every file
// that sees it.
//
// Errors: one line on stderr, `muster head: --port=x: must be a whole number from 0 to 65535`.
// Thread-safety: none; one command, one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster::cli {

class Arguments {
 public:
  // `command` without "muster"; `examples`: lines as they are typed.
  Arguments(std::string command, std::string summary, std::vector<std::string> examples);
  ~Arguments();

  // The values must outlive Parse(), which leaves those of options not given as they are. An option
  // without a help text is not shown. `name` is "--port", or "-f,--file"; `shows` is what its value
  // is called.
  void Flag(absl::string_view name, absl::string_view help, bool* value);
  void Text(absl::string_view name, absl::string_view shows, absl::string_view help,
            std::string* value);
  void Texts(absl::string_view name, absl::string_view shows, absl::string_view help,
             std::vector<std::string>* values);  // May be given several times.
  struct Bounds {
    int min = 0;
    int max = 0;
  };
  void Whole(absl::string_view name, absl::string_view shows, absl::string_view help, Bounds bounds,
             int* value);
  void Duration(absl::string_view name, absl::string_view shows, absl::string_view help,
                absl::Duration* value);
  // Must be given; in the order of these calls.
  void Positional(absl::string_view shows, absl::string_view help, std::string* value);

  // After the others; may be left out.
  void OptionalPositional(absl::string_view shows, absl::string_view help, std::string* value);

  // The exit code where the command is over: help was asked for (0), or something is wrong (2).
  std::optional<int> Parse(const std::vector<std::string>& arguments);

  // Says `muster head: WHAT` and gives 2.
  int Wrong(absl::string_view what) const;
  std::string Help() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// "10s", "1m30s", "500ms", and "10" for seconds. nullopt where it is none, or negative.
std::optional<absl::Duration> ParseDuration(absl::string_view text);

}  // namespace muster::cli
