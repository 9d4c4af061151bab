#include "scheduler/script/script.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace muster::sched {
namespace {

std::string ErrorOf(absl::string_view text) {
  return std::string(ParseScript(text).status().message());
}

TEST(ScriptTest, PrintsActionsBelowTheirStatements) {
  const Script script =
      *ParseScript("join node=1\nrequest id=1\n> grant request=1 node=1 choice=0\n");
  const auto printed = RunScript(script);
  ASSERT_EQ(printed.size(), 2u);
  EXPECT_TRUE(printed[0].empty());
  EXPECT_EQ(printed[1], std::vector<std::string>{"grant request=1 node=1 choice=0"});
  EXPECT_EQ(DiffScript(script, printed), "");
}

TEST(ScriptTest, DiffSaysWhereAndWhat) {
  const Script script = *ParseScript(
      "# A comment.\njoin node=1 # another\nrequest id=1\n> grant request=1 node=2 choice=0\n");
  const auto printed = RunScript(script);
  EXPECT_EQ(DiffScript(script, printed),
            "line 3: request id=1\n- > grant request=1 node=2 choice=0\n"
            "+ > grant request=1 node=1 choice=0\n");
  EXPECT_EQ(
      RewriteScript(script, printed),
      "# A comment.\njoin node=1 # another\nrequest id=1\n> grant request=1 node=1 choice=0\n");
}

TEST(ScriptTest, EllipsisStandsForAnyReason) {
  const Script script = *ParseScript("request id=1\n> infeasible request=1 reason=\"...\"\n");
  const auto printed = RunScript(script);
  EXPECT_EQ(DiffScript(script, printed), "");
  EXPECT_NE(RewriteScript(script, printed).find("\"...\""), std::string::npos);
  const Script other = *ParseScript("request id=1\n> infeasible request=2 reason=\"...\"\n");
  EXPECT_NE(DiffScript(other, RunScript(other)), "");
}

TEST(ScriptTest, ErrorsNameTheLineAndWhatIsAllowed) {
  EXPECT_EQ(
      ErrorOf("\nfoo node=1"),
      "2: \"foo\" is unknown; allowed: at, join, change, unreachable, reachable, drain, undrain, "
      "unhealthy, healthy, lost, request, finish, block, unblock, cancel, explain, estimate, "
      "whatif, decision, status, config, held, tenant, quota, quota_removed");
  EXPECT_EQ(
      ErrorOf("join node=1 colour=red"),
      "1: \"colour\" is unknown; allowed: node, name, cpus, gpus, memory, resource.*, labels, "
      "drain, unhealthy");
  EXPECT_EQ(ErrorOf("join"), "1: node= is missing");
  EXPECT_EQ(ErrorOf("at 5s\nat 4s"), "2: at: the clock does not go back");
  EXPECT_EQ(ErrorOf("request id=1 choices=[{zone: in(a,}]"), "1: \"}\" closes nothing");
  EXPECT_EQ(ErrorOf("request id=1 choices=[{zone: in()}]"),
            "1: label selector \"zone\": \"in()\": the list is empty; allowed: v, !v, in(a,b), "
            "!in(a,b), exists(), !exists(), gt(n), lt(n)");
  for (const char* text : {"> grant",
                           "at",
                           "at x",
                           "at -5s",
                           "join node=x",
                           "join node=1 node=1",
                           "join node=1 gpus=0.5",
                           "join node=1 labels={zone}",
                           "join node=1 labels={ray.io/zone=a, ray.io/availability-zone=b}",
                           "request id=1 gpus=1.5",
                           "request id=1 choices=[]",
                           "request id=1 choices=[{}] gpus",
                           "request id=1 choices=[{} after=5]",
                           "request id=1 choices=[{} after=5s]",
                           "request id=1 on_infeasible=maybe",
                           "request id=1 choices=[{}, {} advance_on=late]",
                           "request id=1 bundles=0",
                           "held id=1",
                           "join node=1\nconfig grace=1s",
                           "finish",
                           "status now=1"}) {
    EXPECT_FALSE(ParseScript(text).ok()) << text;
  }
}

TEST(ScriptTest, TheClockStopsAtEveryTimer) {
  const Script script = *ParseScript(
      "join node=1 labels={zone=a}\njoin node=2 labels={zone=b}\nrequest id=1 choices=[{zone: a}]\n"
      "request id=2 choices=[{zone: a}, {zone: b} after=5s]\nat 1h\nexplain id=2\n");
  const auto printed = RunScript(script);
  ASSERT_EQ(printed[5].size(), 2u);
  EXPECT_EQ(printed[5][0], "request 2 waited 5s for 1 CPU and has them on:");
}

}  // namespace
}  // namespace muster::sched
