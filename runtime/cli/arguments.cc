#include "runtime/cli/arguments.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/cli/command.h"

namespace muster::cli {
namespace {

std::string Shown(absl::string_view text) { return absl::Utf8SafeCHexEscape(text.substr(0, 200)); }

// "--file" of "-f,--file".
std::string LongName(absl::string_view name) {
  return std::string(
      name.substr(name.find_last_of(',') == name.npos ? 0 : name.find_last_of(',') + 1));
}

std::string Joined(const std::vector<std::string>& lines, absl::string_view before) {
  std::string text;
  for (const std::string& line : lines) absl::StrAppend(&text, before, line, "\n");
  return text;
}

}  // namespace

class Arguments::Impl {
 public:
  // Takes an option's one value; what is wrong with it, or "".
  using Take = std::function<std::string(const std::string& value)>;
  struct Known {
    std::string name;  // "" for a positional.
    std::string shows;
    std::string help;
    bool several = false;
    bool optional = false;
    Take take{};
    CLI::Option* option = nullptr;
    std::vector<std::string> values{};
  };

  Impl(std::string command, std::string summary, std::vector<std::string> examples)
      : command_(std::move(command)), summary_(std::move(summary)), examples_(std::move(examples)) {
    app_.set_help_flag("");
    app_.allow_extras(true);
  }

  void Add(Known known) {
    known_.push_back(std::make_unique<Known>(std::move(known)));
    Known& added = *known_.back();
    if (added.name.empty()) {
      positionals_.push_back(&added);
    } else if (added.shows.empty()) {
      added.option = app_.add_flag(added.name);
    } else {
      added.option = app_.add_option(added.name, added.values)->allow_extra_args(false);
    }
  }

  std::optional<int> Parse(const std::vector<std::string>& arguments) {
    for (const std::string& argument : arguments) {
      if (argument == "--") break;
      if (argument != "--help" && argument != "-h") continue;
      printf("%s", Help().c_str());
      return kDone;
    }
    const std::string wrong = Read(arguments);
    if (wrong.empty()) return std::nullopt;
    return Wrong(wrong);
  }

  int Wrong(absl::string_view what) const {
    fprintf(stderr, "muster %s: %s\n", command_.c_str(), std::string(what).c_str());
    return kWrongUsage;
  }

  std::string Help() const {
    std::string usage = absl::StrCat("Usage: muster ", command_);
    std::vector<std::pair<std::string, std::string>> rows;
    for (const auto& known : known_) {
      if (known->help.empty()) continue;
      const std::string name = known->name.empty() ? known->shows : known->name;
      const std::string shown = known->name.empty() || known->shows.empty()
                                    ? name
                                    : absl::StrCat(name, " ", known->shows);
      rows.emplace_back(shown, known->help);
      if (known->name.empty()) {
        absl::StrAppend(&usage, " ",
                        known->optional ? absl::StrCat("[", known->shows, "]") : known->shows);
      }
    }
    absl::StrAppend(&usage, " [options]\n");
    rows.emplace_back("-h,--help", "this text");
    size_t width = 0;
    for (const auto& [name, help] : rows) width = std::max(width, name.size());
    std::string text = absl::StrCat(summary_, "\n\n", usage, "\n");
    for (const auto& [name, help] : rows) {
      absl::StrAppend(&text, "  ", name, std::string(width - name.size() + 2, ' '), help, "\n");
    }
    absl::StrAppend(&text, "\nFor example:\n", Joined(examples_, "  "));
    return text;
  }

 private:
  // What is wrong, or "".
  std::string Read(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed(arguments.rbegin(),
                                      arguments.rend());  // As CLI11 wants them.
    try {
      app_.parse(reversed);
    } catch (const CLI::ArgumentMismatch& mismatch) {
      const std::string what = mismatch.what();
      return absl::StrCat(what.substr(0, what.find(':')), " needs a value; see muster ", command_,
                          " --help");
    } catch (const CLI::ParseError& error) {
      return error.what();
    }
    std::vector<std::string> rest = app_.remaining();
    rest.erase(std::remove(rest.begin(), rest.end(), "--"), rest.end());
    for (size_t i = 0; i < rest.size(); ++i) {
      if (absl::StartsWith(rest[i], "-") && rest[i].size() > 1) {
        return absl::StrCat("there is no option ", Shown(rest[i]), "; see muster ", command_,
                            " --help");
      }
      if (i >= positionals_.size()) {
        return absl::StrCat("what is \"", Shown(rest[i]), "\"? See muster ", command_, " --help");
      }
      positionals_[i]->values = {rest[i]};
    }
    for (const auto& known : known_) {
      const std::string name = known->name.empty() ? known->shows : LongName(known->name);
      if (known->option != nullptr && known->shows.empty() && known->option->count() > 0)
        known->values = {"true"};
      if (known->values.size() > 1 && !known->several) return absl::StrCat(name, " is given twice");
      if (known->name.empty() && known->values.empty() && !known->optional) {
        return absl::StrCat(name, " is missing; see muster ", command_, " --help");
      }
      for (const std::string& value : known->values) {
        const std::string wrong = known->take(value);
        if (!wrong.empty()) return absl::StrCat(name, "=", Shown(value), ": ", wrong);
      }
    }
    return "";
  }

  const std::string command_;
  const std::string summary_;
  const std::vector<std::string> examples_;
  CLI::App app_;
  std::vector<std::unique_ptr<Known>> known_;
  std::vector<Known*> positionals_;
};

Arguments::Arguments(std::string command, std::string summary, std::vector<std::string> examples)
    : impl_(std::make_unique<Impl>(std::move(command), std::move(summary), std::move(examples))) {}
Arguments::~Arguments() = default;

void Arguments::Flag(absl::string_view name, absl::string_view help, bool* value) {
  impl_->Add({.name = std::string(name),
              .shows = "",
              .help = std::string(help),
              .take = [value](const std::string&) {
                *value = true;
                return std::string();
              }});
}

void Arguments::Text(absl::string_view name, absl::string_view shows, absl::string_view help,
                     std::string* value) {
  impl_->Add({.name = std::string(name),
              .shows = std::string(shows),
              .help = std::string(help),
              .take = [value](const std::string& text) {
                *value = text;
                return std::string();
              }});
}

void Arguments::Texts(absl::string_view name, absl::string_view shows, absl::string_view help,
                      std::vector<std::string>* values) {
  impl_->Add({.name = std::string(name),
              .shows = std::string(shows),
              .help = std::string(help),
              .several = true,
              .take = [values](const std::string& text) {
                values->push_back(text);
                return std::string();
              }});
}

void Arguments::Whole(absl::string_view name, absl::string_view shows, absl::string_view help,
                      Bounds bounds, int* value) {
  impl_->Add({.name = std::string(name),
              .shows = std::string(shows),
              .help = std::string(help),
              .take = [bounds, value](const std::string& text) -> std::string {
                int number = 0;
                const bool digits = text.find_first_not_of("0123456789") == text.npos;
                if (!digits || !absl::SimpleAtoi(text, &number) || number < bounds.min ||
                    number > bounds.max) {
                  return absl::StrCat("must be a whole number from ", bounds.min, " to ",
                                      bounds.max);
                }
                *value = number;
                return "";
              }});
}

void Arguments::Duration(absl::string_view name, absl::string_view shows, absl::string_view help,
                         absl::Duration* value) {
  impl_->Add({.name = std::string(name),
              .shows = std::string(shows),
              .help = std::string(help),
              .take = [value](const std::string& text) -> std::string {
                const std::optional<absl::Duration> duration = ParseDuration(text);
                if (!duration.has_value()) return "must be a duration, such as 10s or 1m30s";
                *value = *duration;
                return "";
              }});
}

void Arguments::Positional(absl::string_view shows, absl::string_view help, std::string* value) {
  Text("", shows, help, value);
}

void Arguments::OptionalPositional(absl::string_view shows, absl::string_view help,
                                   std::string* value) {
  impl_->Add({.name = "",
              .shows = std::string(shows),
              .help = std::string(help),
              .optional = true,
              .take = [value](const std::string& text) {
                *value = text;
                return std::string();
              }});
}

std::optional<int> Arguments::Parse(const std::vector<std::string>& arguments) {
  return impl_->Parse(arguments);
}
int Arguments::Wrong(absl::string_view what) const { return impl_->Wrong(what); }
std::string Arguments::Help() const { return impl_->Help(); }

std::optional<absl::Duration> ParseDuration(absl::string_view text) {
  absl::Duration duration;
  int64_t seconds = 0;
  if (absl::SimpleAtoi(text, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(std::string(text), &duration)) {
    return std::nullopt;
  }
  if (duration < absl::ZeroDuration() || duration == absl::InfiniteDuration()) return std::nullopt;
  return duration;
}

}  // namespace muster::cli
