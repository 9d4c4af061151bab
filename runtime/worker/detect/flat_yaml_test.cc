#include "runtime/worker/detect/flat_yaml.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/worker/detect/testing/temp_dir.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::string MapError(const std::string& text) {
  return std::string(ParseYamlMap(text).status().message());
}
std::string MapsError(const std::string& text) {
  return std::string(ParseYamlMaps(text, "nodes").status().message());
}

TEST(FlatYamlTest, ValuesAreTakenAsWritten) {
  const auto map =
      ParseYamlMap("zone: a\nray.io/market-type: \"spot\"\nn: 010\nflag: yes\nempty: ''\n");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_THAT(*map, ElementsAre(Pair("zone", "a"), Pair("ray.io/market-type", "spot"),
                                Pair("n", "010"), Pair("flag", "yes"), Pair("empty", "")));
}

TEST(FlatYamlTest, AnEmptyDocumentIsAnEmptyMap) {
  for (const char* text : {"", "\n", "# nothing\n", "{}", "~"}) {
    const auto map = ParseYamlMap(text);
    ASSERT_TRUE(map.ok()) << map.status();
    EXPECT_THAT(*map, IsEmpty()) << text;
  }
}

TEST(FlatYamlTest, WhatIsNotAFlatMapIsRefusedByLineAndKey) {
  EXPECT_EQ(MapError("a: 1\nb:\n  c: 2\n"), "line 2: \"b\" must have one plain value");
  EXPECT_EQ(MapError("a: [1]"), "line 1: \"a\" must have one plain value");
  EXPECT_EQ(MapError("a:\n"), "line 1: \"a\" must have one plain value (write \"\" for none)");
  EXPECT_EQ(MapError("a: 1\nb: 2\na: 3\n"), "line 3: \"a\" is given twice");
  EXPECT_EQ(MapError("[a]: 1"), "line 1: a key must be plain text");
  EXPECT_EQ(MapError("- a\n"), "line 1: must be a map, such as zone: a");
  EXPECT_EQ(MapError("just text"), "line 1: must be a map, such as zone: a");
  EXPECT_THAT(MapError("a: \"b"), HasSubstr("line 1: not YAML: "));
  EXPECT_THAT(MapError("a: 1\n\tb: 2\n"), HasSubstr("not YAML: "));
  EXPECT_THAT(MapError("a: *b"), HasSubstr("not YAML: "));
}

TEST(FlatYamlTest, HugeAndDeepDocumentsAreRefused) {
  EXPECT_THAT(MapError(std::string(kYamlBytesMax + 1, ' ')), HasSubstr("too long"));
  EXPECT_FALSE(ParseYamlMap(std::string(100'000, '[')).ok());
  EXPECT_FALSE(ParseYamlMap(std::string(100'000, '{')).ok());
  std::string nested;
  for (int i = 0; i < 3000; ++i) nested += "- ";
  EXPECT_FALSE(ParseYamlMap(nested + "x").ok());
}

TEST(FlatYamlTest, AListOfMapsStandsBelowItsKey) {
  const auto maps = ParseYamlMaps("nodes:\n- {gpus: 1, zone: a}\n- {}\n- cpus: 2\n", "nodes");
  ASSERT_TRUE(maps.ok()) << maps.status();
  EXPECT_THAT(*maps, ElementsAre(ElementsAre(Pair("gpus", "1"), Pair("zone", "a")), IsEmpty(),
                                 ElementsAre(Pair("cpus", "2"))));
  const std::string wanted = "line 1: a cluster file is a map with the one key \"nodes\"";
  EXPECT_EQ(MapsError("node: []"), wanted);
  EXPECT_EQ(MapsError("nodes: []\nhead: 1"),
            "line 2: a cluster file is a map with the one key \"nodes\"");
  EXPECT_EQ(MapsError(""), wanted);
  EXPECT_EQ(MapsError("nodes: 3"), "line 1: \"nodes\" must be a list");
  EXPECT_EQ(MapsError("nodes:\n- gpus=1\n"),
            "line 2: each entry must be a map, such as {gpus: 1, zone: a}");
  EXPECT_EQ(MapsError("nodes:\n- {a: {b: c}}\n"), "line 2: \"a\" must have one plain value");
}

TEST(FlatYamlTest, FilesAreReadOrNamed) {
  const TempDir dir;
  EXPECT_EQ(ReadYamlFile(dir.Write("f.yaml", "a: 1\n")).value(), "a: 1\n");
  EXPECT_EQ(ReadYamlFile(dir.Write("empty.yaml", "")).value(), "");
  EXPECT_EQ(ReadYamlFile(dir.path() + "/none.yaml").status(),
            absl::NotFoundError("cannot read " + dir.path() + "/none.yaml"));
  EXPECT_EQ(ReadYamlFile("/dev/zero").value().size(), kYamlBytesMax + 1);
  EXPECT_EQ(ReadYamlFile(dir.path()).status().code(), absl::StatusCode::kNotFound);  // A directory.
}

}  // namespace
}  // namespace muster::worker
