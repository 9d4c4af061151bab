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

absl::StatusOr<std::vector<FlatMap>> ToFlatMaps(const YAML::Node& document,
                                                const std::string& key) {
  const std::string wanted = absl::StrCat("a cluster file is a map with the one key \"", key, "\"");
  if (!document.IsMap() || document.size() != 1) return Refused(document, wanted);
  const auto entry = document.begin();
  if (!entry->first.IsScalar() || entry->first.Scalar() != key)
    return Refused(entry->first, wanted);
  const YAML::Node list = entry->second;
  if (!list.IsSequence()) return Refused(list, absl::StrCat("\"", key, "\" must be a list"));
  std::vector<FlatMap> maps;
  for (const auto& item : list) {
    if (!item.IsMap()) return Refused(item, "each entry must be a map, such as {gpus: 1, zone: a}");
    MUSTER_ASSIGN_OR_RETURN(FlatMap flat, ToFlatMap(item));
    maps.push_back(std::move(flat));
  }
  return maps;
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

absl::StatusOr<std::vector<FlatMap>> ParseYamlMaps(const std::string& text,
                                                   const std::string& key) {
  return Parse<std::vector<FlatMap>>(
      text, [&](const YAML::Node& document) { return ToFlatMaps(document, key); });
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
