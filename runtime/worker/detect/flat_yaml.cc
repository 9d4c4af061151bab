#include "runtime/worker/detect/flat_yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace muster::worker {
namespace {

absl::Status Refused(const YAML::Node& node, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", std::max(node.Mark().line, 0) + 1, ": ", what));
}

absl::StatusOr<FlatMap> ToFlatMap(const YAML::Node& map) {
  FlatMap flat;
  std::set<std::string> seen;
  for (const auto& entry : map) {
    if (!entry.first.IsScalar()) return Refused(entry.first, "a key must be plain text");
    const std::string key = entry.first.Scalar();
    const std::string shown = absl::StrCat("\"", absl::Utf8SafeCHexEscape(key.substr(0, 80)), "\"");
    if (!entry.second.IsScalar()) {
      return Refused(entry.first,
                     absl::StrCat(shown, " must have one plain value",
                                  entry.second.IsNull() ? " (write \"\" for none)" : ""));
    }
    if (!seen.insert(key).second) {
      return Refused(entry.first, absl::StrCat(shown, " is given twice"));
    }
    flat.emplace_back(key, entry.second.Scalar());
  }
  return flat;
}

absl::StatusOr<std::vector<FlatMap>> ToFlatMaps(const YAML::Node& document, const std::string& key,
                                                const std::string& beside) {
  const std::string wanted = absl::StrCat(
      "a cluster file is a map with the ",
      beside.empty() ? absl::StrCat("one key \"", key, "\"")
                     : absl::StrCat("key \"", key, "\" and, if need be, \"", beside, "\""));
  if (!document.IsMap() || document.size() == 0) return Refused(document, wanted);
  YAML::Node list;
  for (const auto& entry : document) {
    if (!entry.first.IsScalar()) return Refused(entry.first, wanted);
    if (entry.first.Scalar() == key) {
      list.reset(entry.second);
    } else if (beside.empty() || entry.first.Scalar() != beside) {
      return Refused(entry.first, wanted);
    }
  }
  if (!list.IsDefined() || list.IsNull()) return Refused(document, wanted);
  if (!list.IsSequence()) return Refused(list, absl::StrCat("\"", key, "\" must be a list"));
  std::vector<FlatMap> maps;
  for (const auto& item : list) {
    if (!item.IsMap()) return Refused(item, "each entry must be a map, such as {gpus: 1, zone: a}");
    MUSTER_ASSIGN_OR_RETURN(FlatMap flat, ToFlatMap(item));
    maps.push_back(std::move(flat));
  }
  return maps;
}

absl::StatusOr<FlatMap> ToOptions(const YAML::Node& document, const std::string& key) {
  FlatMap options;
  if (!document.IsMap()) return options;
  for (const auto& entry : document) {
    if (!entry.first.IsScalar() || entry.first.Scalar() != key) continue;
    if (!entry.second.IsMap()) {
      return Refused(entry.first, absl::StrCat("\"", key, "\" must be a map of options"));
    }
    for (const auto& option : entry.second) {
      if (!option.first.IsScalar()) return Refused(option.first, "an option must be plain text");
      const bool list = option.second.IsSequence();
      if (!list && !option.second.IsScalar()) {
        return Refused(option.first, "an option has a plain value, or a list of them");
      }
      if (!list) options.emplace_back(option.first.Scalar(), option.second.Scalar());
      for (const auto& value : option.second) {
        if (!list) break;
        if (!value.IsScalar()) return Refused(value, "must be a plain value");
        options.emplace_back(option.first.Scalar(), value.Scalar());
      }
    }
  }
  return options;
}

// yaml-cpp throws; nothing of it leaves this file.
template <typename Result, typename Convert>
absl::StatusOr<Result> Parse(const std::string& text, Convert convert) {
  if (text.size() > kYamlBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("too long: more than ", kYamlBytesMax, " bytes"));
  }
  try {
    return convert(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", std::max(error.mark.line, 0) + 1, ": not YAML: ", error.msg));
  }
}

}  // namespace

absl::StatusOr<FlatMap> ParseYamlMap(const std::string& text) {
  return Parse<FlatMap>(text, [](const YAML::Node& document) -> absl::StatusOr<FlatMap> {
    if (document.IsNull()) return FlatMap{};
    if (!document.IsMap()) return Refused(document, "must be a map, such as zone: a");
    return ToFlatMap(document);
  });
}

absl::StatusOr<std::vector<FlatMap>> ParseYamlMaps(const std::string& text, const std::string& key,
                                                   const std::string& beside) {
  return Parse<std::vector<FlatMap>>(
      text, [&](const YAML::Node& document) { return ToFlatMaps(document, key, beside); });
}

absl::StatusOr<FlatMap> ParseYamlOptions(const std::string& text, const std::string& key) {
  return Parse<FlatMap>(text, [&](const YAML::Node& document) { return ToOptions(document, key); });
}

absl::StatusOr<std::string> ReadYamlFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code ignored;
  if (!file || std::filesystem::is_directory(path, ignored)) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path));
  }
  // One byte more than is allowed tells the parser that there is too much, even of an endless file.
  std::string text(kYamlBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

}  // namespace muster::worker
