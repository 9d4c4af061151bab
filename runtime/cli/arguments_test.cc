#include "runtime/cli/arguments.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Optional;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

struct Values {
  bool json = false;
  bool hidden = false;
  std::string labels = "none";
  std::vector<std::string> nodes{};
  int port = 6379;
  absl::Duration timeout = absl::Seconds(10);
  std::string selector{};

  std::optional<int> code{};
  std::string said{};
  std::string help{};
};

Values Read(const std::vector<std::string>& given) {
  Values values;
  Arguments arguments("try", "Tries.", {"muster try this"});
  arguments.Positional("SELECTOR", "which nodes", &values.selector);
  arguments.Flag("--json", "as JSON", &values.json);
  arguments.Flag("--hidden", "", &values.hidden);
  arguments.Text("--labels", "LABELS", "of the node", &values.labels);
  arguments.Texts("-n,--node", "SPEC", "a node", &values.nodes);
  arguments.Whole("--port", "PORT", "where", {.min = 0, .max = 65535}, &values.port);
  arguments.Duration("--timeout", "TIME", "how long", &values.timeout);
  CaptureStderr();
  CaptureStdout();
  values.code = arguments.Parse(given);
  values.said = GetCapturedStderr();
  values.help = GetCapturedStdout();
  return values;
}

TEST(ArgumentsTest, LeavesWhatIsNotGiven) {
  const Values values = Read({"a=b"});
  EXPECT_EQ(values.code, std::nullopt) << values.said;
  EXPECT_EQ(values.selector, "a=b");
  EXPECT_EQ(values.labels, "none");
  EXPECT_EQ(values.port, 6379);
  EXPECT_FALSE(values.json);
}

TEST(ArgumentsTest, ReadsOptionsInEitherForm) {
  const Values values =
      Read({"--node", "gpus=1,zone=a", "--json", "-n", "count=2", "a=in(b,c),!d", "--port=0",
            "--labels={\"zone\": \"[a]\"}", "--timeout", "1m30s", "--node=x=[1,2]"});
  EXPECT_EQ(values.code, std::nullopt) << values.said;
  EXPECT_THAT(values.nodes, ElementsAre("gpus=1,zone=a", "count=2", "x=[1,2]"));
  EXPECT_EQ(values.selector, "a=in(b,c),!d");
  EXPECT_EQ(values.port, 0);
  EXPECT_EQ(values.labels, "{\"zone\": \"[a]\"}");
  EXPECT_EQ(values.timeout, absl::Seconds(90));
  EXPECT_TRUE(values.json);
}

TEST(ArgumentsTest, TakesTheEmptyText) {
  const Values values = Read({"", "--labels", ""});
  EXPECT_EQ(values.code, std::nullopt) << values.said;
  EXPECT_EQ(values.selector, "");
  EXPECT_EQ(values.labels, "");
}

TEST(ArgumentsTest, SaysWhatIsWrongInOneLine) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{}, "SELECTOR is missing; see muster try --help"},
      {{"a", "--port", "x"}, "--port=x: must be a whole number from 0 to 65535"},
      {{"a", "--port", "65536"}, "--port=65536: must be a whole number from 0 to 65535"},
      {{"a", "--port=-1"}, "--port=-1: must be a whole number from 0 to 65535"},
      {{"a", "--port="}, "--port needs a value; see muster try --help"},
      {{"a", "--port"}, "--port needs a value; see muster try --help"},
      {{"a", "--port", "1", "--port", "2"}, "--port is given twice"},
      {{"a", "--timeout", "soon"}, "--timeout=soon: must be a duration, such as 10s or 1m30s"},
      {{"a", "--timeout=-1s"}, "--timeout=-1s: must be a duration, such as 10s or 1m30s"},
      {{"a", "b"}, "what is \"b\"? See muster try --help"},
      {{"a", "--jso"}, "there is no option --jso; see muster try --help"},
      {{"a", "\x1b[31m"}, "what is \"\\x1b[31m\"? See muster try --help"},
  };
  for (const auto& [given, said] : cases) {
    const Values values = Read(given);
    EXPECT_THAT(values.code, Optional(2)) << said;
    EXPECT_EQ(values.said, "muster try: " + said + "\n");
  }
}

TEST(ArgumentsTest, HelpWinsOverWhatIsWrongAndShowsNoHiddenOption) {
  const Values values = Read({"--port", "x", "--help"});
  EXPECT_THAT(values.code, Optional(0));
  EXPECT_EQ(values.help,
            "Tries.\n\n"
            "Usage: muster try SELECTOR [options]\n\n"
            "  SELECTOR         which nodes\n"
            "  --json           as JSON\n"
            "  --labels LABELS  of the node\n"
            "  -n,--node SPEC   a node\n"
            "  --port PORT      where\n"
            "  --timeout TIME   how long\n"
            "  -h,--help        this text\n\n"
            "For example:\n"
            "  muster try this\n");
}

TEST(ArgumentsTest, OptionalPositionalMayBeLeftOut) {
  for (const std::vector<std::string>& given :
       {std::vector<std::string>{}, {"a"}, {"a", "b"}, {"a", "b", "c"}}) {
    Arguments arguments("try", "Tries.", {"muster try"});
    std::string first = "-";
    std::string second = "-";
    arguments.OptionalPositional("FIRST", "one", &first);
    arguments.OptionalPositional("SECOND", "another", &second);
    EXPECT_THAT(arguments.Help(),
                ::testing::HasSubstr("Usage: muster try [FIRST] [SECOND] [options]"));
    ::testing::internal::CaptureStderr();
    const std::optional<int> code = arguments.Parse(given);
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(code.has_value(), given.size() == 3) << said;
    if (code.has_value()) continue;
    EXPECT_EQ(first, given.empty() ? "-" : "a");
    EXPECT_EQ(second, given.size() < 2 ? "-" : "b");
  }
}

TEST(ArgumentsTest, DurationsHaveAUnitOrAreSeconds) {
  EXPECT_THAT(ParseDuration("10s"), Optional(absl::Seconds(10)));
  EXPECT_THAT(ParseDuration("10"), Optional(absl::Seconds(10)));
  EXPECT_THAT(ParseDuration("1h30m"), Optional(absl::Minutes(90)));
  for (const char* text : {"", "-1", "-1s", "inf", "x", "1x", "1 s"})
    EXPECT_EQ(ParseDuration(text), std::nullopt) << text;
}

}  // namespace
}  // namespace muster::cli
