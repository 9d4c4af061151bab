#include "scheduler/json_map.h"

#include <gtest/gtest.h>

namespace muster::sched {
namespace {

using Map = std::map<std::string, std::string>;

TEST(JsonMapTest, ReadsStrings) {
  EXPECT_EQ(*ParseJsonMap("{}"), Map());
  EXPECT_EQ(*ParseJsonMap(" {\n\"a\" :\t\"b\" , \"c\":\"\"}\r\n"), (Map{{"a", "b"}, {"c", ""}}));
}

TEST(JsonMapTest, ReadsEscapes) {
  EXPECT_EQ(*ParseJsonMap(R"({"k": "\"\\\/\b\f\n\r\t\u0041\u00e4\u20ac\ud83d\ude00"})"),
            (Map{{"k", "\"\\/\b\f\n\r\tA\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"}}));
}

TEST(JsonMapTest, IsStrict) {
  for (const char* text : {"",
                           "{",
                           "}",
                           "[]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1}",
                           "{\"a\":null}",
                           "{\"a\":\"b\",}",
                           "{,}",
                           "{\"a\":\"b\"}x",
                           "{'a':'b'}",
                           "{a:\"b\"}",
                           "{\"a\":\"b}",
                           "{\"a\":\"\\x\"}",
                           "{\"a\":\"\\u12\"}",
                           "{\"a\":\"\\ud83d\"}",
                           "{\"a\":\"\\ude00\"}",
                           "{\"a\":\"\\",
                           "{\"a\":\"\\ud83d\\u0041\"}",
                           "{\"a\":\"\n\"}",
                           "{\"a\":\"b\" \"c\":\"d\"}",
                           "{\"a\":\"b\",\"a\":\"c\"}",
                           "{\"a\":{\"b\":\"c\"}}",
                           "{\"a\":[\"b\"]}"}) {
    const absl::StatusOr<Map> map = ParseJsonMap(text);
    EXPECT_FALSE(map.ok()) << text;
    EXPECT_EQ(map.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(JsonMapTest, ErrorsSayWhere) {
  EXPECT_EQ(ParseJsonMap("{\"a\":1}").status().message(),
            "JSON map, at character 6: a value must be a string in quotation marks; allowed: "
            "{\"key\": \"text\", ...}");
}

}  // namespace
}  // namespace muster::sched
