#include "runtime/snapshot/snapshot_json.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "runtime/snapshot/fields.h"
#include "scheduler/base/status_macros.h"

namespace muster::snapshot {
namespace {

using Json = nlohmann::ordered_json;
using sched::Amount;

constexpr char kVersionMember[] = "muster_snapshot";
constexpr size_t kShownMax = 60;

std::string Quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

template <typename T>
concept List = requires(T list) {
  list.push_back(typename T::value_type{});
  requires !std::is_same_v<T, std::string>;
};

// --- Writing ---

class Writer {
 public:
  template <typename T>
  using Value = const T;

  explicit Writer(Style style) : lines_(style == Style::kLines) {}

  template <typename T>
  void operator()(const char* name, const T& value) {
    if (IsEmpty(value)) return;
    const size_t before = text_.size();
    const bool was_fresh = fresh_;
    Member(name);
    const size_t begin = text_.size();
    Write(value);
    if (text_.compare(begin, text_.npos, "{}") != 0) return;
    text_.resize(before);  // A struct with nothing to say.
    fresh_ = was_fresh;
  }
  template <typename T>
  void operator()(const char* name, const T& value, const T& otherwise) {
    if (value == otherwise) return;
    Member(name);
    Write(value);
  }
  void Amount(const char* name, int64_t amount) {
    if (amount == 0) return;
    Member(name);
    text_ += sched::AmountToText(amount);
  }
  template <typename Map>
  void Amounts(const char* name, const Map& amounts) {
    if (amounts.empty()) return;
    Member(name);
    Open('{');
    for (const auto& [key, amount] : amounts) {
      Member(key.c_str());
      text_ += sched::AmountToText(amount);
    }
    Close('}');
  }
  void Findings(const char* name, uint8_t findings) {
    if (findings == sched::kDefaultAdvanceOn) return;
    Member(name);
    text_ += Quoted(sched::AdvanceOnToText(findings));
  }
  template <typename T, typename Variant>
  void Kind(const char* name, const Variant& what) {
    if (!std::holds_alternative<T>(what)) return;
    Member(name);
    Object(std::get<T>(what));
  }

  void Open(char bracket) {
    text_ += bracket;
    ++depth_;
    fresh_ = true;
  }
  void Close(char bracket) {
    --depth_;
    if (lines_ && depth_ < kDepthOfLines && !fresh_) {
      text_ += "\n";
      text_.append(static_cast<size_t>(depth_), ' ');
    }
    text_ += bracket;
    fresh_ = false;
  }
  void Member(const char* name) {
    Next();
    text_ += Quoted(name);
    text_ += ':';
  }
  template <typename T>
  void Object(const T& value) {
    Open('{');
    Fields(*this, value);
    Close('}');
  }
  void Write(uint64_t number) { absl::StrAppend(&text_, number); }
  void Write(int64_t number) { absl::StrAppend(&text_, number); }
  void Write(int number) { absl::StrAppend(&text_, number); }
  void Write(absl::Time time) { Write(time - absl::UnixEpoch()); }
  void Write(absl::Duration duration) {
    absl::StrAppend(&text_, "\"", absl::FormatDuration(duration), "\"");
  }

  std::string Take() { return std::move(text_); }

 private:
  static constexpr int kDepthOfLines = 2;

  template <typename T>
  static bool IsEmpty(const T& value) {
    if constexpr (requires { value.empty(); }) {
      return value.empty();
    } else if constexpr (requires { value.has_value(); }) {
      return !value.has_value();
    } else if constexpr (requires { value == T{}; }) {
      return value == T{};
    } else {
      return false;  // A struct: it is written to see.
    }
  }

  void Write(bool value) { text_ += value ? "true" : "false"; }
  void Write(const std::string& text) { text_ += Quoted(text); }
  void Write(const sched::SpecHandle& spec) { Object(*spec); }
  void Write(const sched::LabelSelector& selector) { WriteMap(selector.ToMap()); }
  void Write(const sched::Level& level) { text_ += Quoted(sched::ToText(level)); }
  void Write(const sched::Labels& labels) { WriteMap(labels); }
  template <typename Tag>
  void Write(Id<Tag> id) {
    Write(id.value);
  }
  template <typename T>
  void Write(const std::optional<T>& value) {
    Write(*value);
  }
  template <typename T>
  void Write(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      Write(std::string(kWords<T>[static_cast<size_t>(value)]));
    } else if constexpr (List<T>) {
      Open('[');
      for (const auto& one : value) {
        Next();
        Write(one);
      }
      Close(']');
    } else {
      Object(value);
    }
  }
  template <typename Map>
  void WriteMap(const Map& map) {
    Open('{');
    for (const auto& [key, value] : map) {
      Member(key.c_str());
      Write(value);
    }
    Close('}');
  }

  void Next() {
    if (!fresh_) text_ += ',';
    if (lines_ && depth_ <= kDepthOfLines) {
      text_ += "\n";
      text_.append(static_cast<size_t>(depth_), ' ');
    }
    fresh_ = false;
  }

  const bool lines_;
  std::string text_;
  int depth_ = 0;
  bool fresh_ = true;  // Nothing stands in the bracket yet.
};

// --- Reading ---

class Reader {
 public:
  template <typename T>
  using Value = T;

  // `status` takes the first error. With `merge`, what is not there stays as it is.
  Reader(const Json& json, std::string path, absl::Status& status, bool merge = false)
      : json_(json), path_(std::move(path)), status_(status), merge_(merge) {
    if (!json_.is_object()) Wrong(path_, json_, "must be an object");
  }

  template <typename T>
  void operator()(const char* name, T& value) {
    (*this)(name, value, T{});
  }
  template <typename T>
  void operator()(const char* name, T& value, const T& otherwise) {
    if (const Json* json = Member(name)) {
      Read(*json, PathOf(name), value);
    } else if (!merge_) {
      value = otherwise;
    }
  }
  void Amount(const char* name, int64_t& amount) {
    if (const Json* json = Member(name)) {
      ReadAmount(*json, PathOf(name), amount);
    } else if (!merge_) {
      amount = 0;
    }
  }
  template <typename Map>
  void Amounts(const char* name, Map& amounts) {
    const Json* const json = Member(name);
    if (json == nullptr) {
      if (!merge_) amounts.clear();
      return;
    }
    if (!json->is_object()) return Wrong(PathOf(name), *json, "must be an object of amounts");
    amounts.clear();
    for (const auto& [key, value] : json->items()) {
      int64_t amount = 0;
      ReadAmount(value, absl::StrCat(PathOf(name), ".", key), amount);
      amounts.emplace(key, amount);
    }
  }
  void Findings(const char* name, uint8_t& findings) {
    const Json* const json = Member(name);
    if (json == nullptr) {
      if (!merge_) findings = sched::kDefaultAdvanceOn;
      return;
    }
    std::string text;
    Read(*json, PathOf(name), text);
    if (const absl::StatusOr<uint8_t> bits = sched::ParseAdvanceOn(text); bits.ok()) {
      findings = *bits;
    } else {
      Wrong(PathOf(name), *json, bits.status().message());
    }
  }
  template <typename T, typename Variant>
  void Kind(const char* name, Variant& what) {
    const Json* const json = Member(name);
    if (json == nullptr) return;
    ++kinds_;
    ReadObject(*json, PathOf(name), what.template emplace<T>());
  }

  const Json* Member(const char* name) {
    if (!json_.is_object()) return nullptr;
    const auto found = json_.find(name);
    if (found == json_.end()) return nullptr;
    ++known_;
    return &*found;
  }
  int kinds() const { return kinds_; }

  // Once all that is known was asked for. `names` are those, asked for again by the caller's table.
  template <typename T>
  void RefuseUnknown(T& value) {
    if (!status_.ok() || !json_.is_object() || known_ == json_.size()) return;
    Names names;
    if constexpr (requires { Fields(names, value); }) {
      Fields(names, value);
    } else {
      Kinds(names, value.what);
      names.all.push_back("at");
    }
    names.all.push_back(kVersionMember);
    for (const auto& [name, member] : json_.items()) {
      if (std::find(names.all.begin(), names.all.end(), name) != names.all.end()) continue;
      return Wrong(PathOf(name.c_str()), member, "there is no such member here");
    }
  }

  template <typename T>
  void ReadObject(const Json& json, const std::string& path, T& value) {
    Reader reader(json, path, status_, merge_);
    if (!status_.ok()) return;
    Fields(reader, value);
    reader.RefuseUnknown(value);
  }

  void Wrong(const std::string& path, const Json& json, absl::string_view what) {
    if (!status_.ok()) return;
    std::string shown = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (shown.size() > kShownMax) shown = absl::StrCat(shown.substr(0, kShownMax), "...");
    status_ = absl::InvalidArgumentError(
        absl::StrCat(path.empty() ? "the whole" : path, ": ", what, ", not ", shown));
  }

  void Read(const Json& json, const std::string& path, absl::Time& time) {
    absl::Duration since;
    Read(json, path, since);
    time = absl::UnixEpoch() + since;
  }
  void Read(const Json& json, const std::string& path, absl::Duration& duration) {
    std::string text;
    Read(json, path, text);
    if (!absl::ParseDuration(text, &duration)) {
      Wrong(path, json, "must be a duration such as \"1m30s\"");
    }
  }

 private:
  struct Names {  // Notes the names of a table.
    template <typename T>
    using Value = T;
    template <typename... T>
    void operator()(const char* name, T&&...) {
      all.push_back(name);
    }
    template <typename T>
    void Amount(const char* name, T&) {
      all.push_back(name);
    }
    template <typename T>
    void Amounts(const char* name, T&) {
      all.push_back(name);
    }
    template <typename T>
    void Findings(const char* name, T&) {
      all.push_back(name);
    }
    template <typename T, typename Variant>
    void Kind(const char* name, Variant&) {
      all.push_back(name);
    }
    std::vector<std::string> all;
  };

  std::string PathOf(const char* name) const {
    return path_.empty() ? name : absl::StrCat(path_, ".", name);
  }

  void Read(const Json& json, const std::string& path, bool& value) {
    if (!json.is_boolean()) return Wrong(path, json, "must be true or false");
    value = json.get<bool>();
  }
  void Read(const Json& json, const std::string& path, std::string& text) {
    if (!json.is_string()) return Wrong(path, json, "must be a text");
    text = json.get<std::string>();
  }
  void Read(const Json& json, const std::string& path, uint64_t& number) {
    if (!json.is_number_unsigned()) return Wrong(path, json, "must be a whole number from 0");
    number = json.get<uint64_t>();
  }
  void Read(const Json& json, const std::string& path, int64_t& number) {
    const bool fits = json.is_number_integer() &&
                      (!json.is_number_unsigned() ||
                       json.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
    if (!fits) return Wrong(path, json, "must be a whole number");
    number = json.get<int64_t>();
  }
  void Read(const Json& json, const std::string& path, int& number) {
    int64_t wide = 0;
    Read(json, path, wide);
    if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max()) {
      return Wrong(path, json, "must be a smaller number");
    }
    number = static_cast<int>(wide);
  }
  void ReadAmount(const Json& json, const std::string& path, int64_t& amount) {
    if (!json.is_number()) return Wrong(path, json, "must be a number");
    const absl::StatusOr<int64_t> exact = sched::AmountFromDouble("amount", json.get<double>());
    if (!exact.ok()) return Wrong(path, json, exact.status().message());
    amount = *exact;
  }
  template <typename Tag>
  void Read(const Json& json, const std::string& path, Id<Tag>& id) {
    Read(json, path, id.value);
  }
  template <typename T>
  void Read(const Json& json, const std::string& path, std::optional<T>& value) {
    Read(json, path, value.emplace());
  }
  void Read(const Json& json, const std::string& path, sched::SpecHandle& handle) {
    sched::RequestSpec spec;
    ReadObject(json, path, spec);
    if (status_.ok()) handle = std::move(spec);
  }
  void Read(const Json& json, const std::string& path, sched::Level& level) {
    std::string text;
    Read(json, path, text);
    if (!status_.ok()) return;
    absl::StatusOr<sched::Level> parsed = sched::ParseLevel(text);
    if (!parsed.ok()) return Wrong(path, json, parsed.status().message());
    level = *std::move(parsed);
  }
  void Read(const Json& json, const std::string& path, sched::Labels& labels) {
    labels.clear();
    ReadMap(json, path, labels);
    if (const absl::Status status = sched::ValidateLabels(labels); !status.ok()) {
      Wrong(path, json, status.message());
    }
  }
  void Read(const Json& json, const std::string& path, sched::LabelSelector& selector) {
    std::map<std::string, std::string> map;
    ReadMap(json, path, map);
    if (!status_.ok()) return;
    absl::StatusOr<sched::LabelSelector> parsed = sched::LabelSelector::Parse(map);
    if (!parsed.ok()) return Wrong(path, json, parsed.status().message());
    selector = *std::move(parsed);
  }
  template <typename Map>
  void ReadMap(const Json& json, const std::string& path, Map& map) {
    if (!json.is_object()) return Wrong(path, json, "must be an object of texts");
    for (const auto& [key, value] : json.items()) {
      Read(value, absl::StrCat(path, ".", key), map[key]);
    }
  }
  template <typename T>
  void Read(const Json& json, const std::string& path, T& value) {
    if (!status_.ok()) return;
    if constexpr (std::is_enum_v<T>) {
      std::string word;
      Read(json, path, word);
      for (size_t i = 0; i < std::size(kWords<T>); ++i) {
        if (word == kWords<T>[i]) {
          value = static_cast<T>(i);
          return;
        }
      }
      std::string allowed;
      for (const char* known : kWords<T>) {
        absl::StrAppend(&allowed, allowed.empty() ? "must be " : ", ", known);
      }
      Wrong(path, json, allowed);
    } else if constexpr (List<T>) {
      if (!json.is_array()) return Wrong(path, json, "must be a list");
      value.clear();
      for (size_t i = 0; i < json.size() && status_.ok(); ++i) {
        typename T::value_type one{};
        Read(json[i], absl::StrCat(path, "[", i, "]"), one);
        value.push_back(std::move(one));
      }
    } else {
      ReadObject(json, path, value);
    }
  }

  const Json& json_;
  const std::string path_;
  absl::Status& status_;
  const bool merge_;
  size_t known_ = 0;
  int kinds_ = 0;
};

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::exception& error) {
    std::string what = error.what();  // "[json.exception.parse_error.101] parse error at line ..."
    if (const size_t end = what.find("] "); end != what.npos) what.erase(0, end + 2);
    return absl::InvalidArgumentError(absl::StrCat("no JSON: ", what));
  }
}

template <typename T>
absl::Status MergeInto(absl::string_view text, T& value) {
  MUSTER_ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  absl::Status status;
  T merged = value;
  Reader reader(json, "", status, /*merge=*/true);
  if (status.ok()) {
    Fields(reader, merged);
    reader.RefuseUnknown(merged);
  }
  if (status.ok()) value = std::move(merged);
  return status;
}

// What the scheduler relies on of an event, and a recorded one cannot promise.
absl::Status Check(const sched::Event& event) {
  const auto* const joined = std::get_if<sched::NodeJoined>(&event.what);
  if (joined == nullptr) return absl::OkStatus();
  MUSTER_RETURN_IF_ERROR(sched::Validate(joined->total));
  for (const sched::HeldLease& held : joined->held) {
    MUSTER_RETURN_IF_ERROR(sched::Validate(*held.spec));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ToJson(const SnapshotFile& file, Style style) {
  Writer writer(style);
  writer.Open('{');
  writer.Member(kVersionMember);
  writer.Write(kVersion);
  Fields(writer, file);
  writer.Close('}');
  return absl::StrCat(writer.Take(), style == Style::kLines ? "\n" : "");
}

absl::StatusOr<SnapshotFile> ParseSnapshot(absl::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  absl::Status status;
  Reader reader(json, "", status);
  MUSTER_RETURN_IF_ERROR(status);
  const Json* const version = reader.Member(kVersionMember);
  if (version == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("no muster snapshot: it has no member \"", kVersionMember, "\""));
  }
  if (*version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat(kVersionMember, ": this muster reads version ",
                                                   kVersion, ", not ", version->dump()));
  }
  SnapshotFile file;
  Fields(reader, file);
  reader.RefuseUnknown(file);
  if (!status.ok()) return status;
  return file;
}

std::string ToJson(const sched::Event& event) {
  Writer writer(Style::kOneLine);
  writer.Open('{');
  writer.Member("at");
  writer.Write(event.at);
  Kinds(writer, event.what);
  writer.Close('}');
  return writer.Take();
}

absl::StatusOr<sched::Event> ParseEvent(absl::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  absl::Status status;
  sched::Event event;
  Reader reader(json, "", status);
  if (const Json* at = reader.Member("at")) {
    reader.Read(*at, "at", event.at);
  } else if (status.ok()) {
    status = absl::InvalidArgumentError("at: is missing");
  }
  Kinds(reader, event.what);
  reader.RefuseUnknown(event);
  if (status.ok() && reader.kinds() != 1) {
    status =
        absl::InvalidArgumentError(absl::StrCat("an event has one kind, not ", reader.kinds()));
  }
  status.Update(Check(event));
  if (!status.ok()) return status;
  return event;
}

absl::Status Merge(absl::string_view json, sched::SchedulerConfig& config) {
  return MergeInto(json, config);
}

absl::Status Merge(absl::string_view json, sched::RequestSpec& spec) {
  return MergeInto(json, spec);
}

}  // namespace muster::snapshot
