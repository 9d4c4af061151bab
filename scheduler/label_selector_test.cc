#include "scheduler/label_selector.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/hash/hash_testing.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "muster/label.h"
#include "scheduler/base/chance.h"
#include "scheduler/test_support.h"

namespace muster::sched {
namespace {

using ::muster::testing::SlowMatches;

LabelSelector Parsed(const std::string& text) {
  absl::StatusOr<LabelSelector> selector = LabelSelector::ParseText(text);
  EXPECT_TRUE(selector.ok()) << selector.status();
  return selector.ok() ? *selector : LabelSelector();
}

std::string ErrorOf(const std::string& key, const std::string& text) {
  const absl::StatusOr<LabelSelector> selector = LabelSelector::Parse({{key, text}});
  if (selector.ok()) return "accepted";
  EXPECT_EQ(selector.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(selector.status().message());
}

bool Matches(const std::string& text, const Labels& labels) { return Parsed(text).Matches(labels); }

TEST(LabelSelectorTest, ValueMustBeEqual) {
  EXPECT_TRUE(Matches("zone=a", {{"zone", "a"}}));
  EXPECT_FALSE(Matches("zone=a", {{"zone", "b"}}));
  EXPECT_FALSE(Matches("zone=a", {{"zone", "A"}}));
  EXPECT_FALSE(Matches("zone=a", {}));
}

TEST(LabelSelectorTest, MissingLabelSatisfiesNegationsOnly) {
  for (const char* text : {"zone=!a", "zone=!in(a,b)", "zone=!exists()"}) {
    EXPECT_TRUE(Matches(text, {})) << text;
  }
  for (const char* text : {"zone=a", "zone=in(a,b)", "zone=exists()", "zone=gt(-1)", "zone=lt(9)",
                           "zone=", "zone=exists(),!a"}) {
    EXPECT_FALSE(Matches(text, {})) << text;
  }
}

TEST(LabelSelectorTest, EmptySelectorMatchesAll) {
  EXPECT_TRUE(Matches("", {}));
  EXPECT_TRUE(Matches("{}", {{"zone", "a"}}));
}

TEST(LabelSelectorTest, EmptyTextSelectsTheEmptyValue) {
  EXPECT_TRUE(Matches("zone=", {{"zone", ""}}));
  EXPECT_FALSE(Matches("zone=", {{"zone", "a"}}));
  EXPECT_EQ(Parsed("zone=").ToString(), "zone=");
}

TEST(LabelSelectorTest, BoundsHoldForWholeNumbersOnly) {
  EXPECT_TRUE(Matches("n=gt(7)", {{"n", "8"}}));
  EXPECT_FALSE(Matches("n=gt(7)", {{"n", "7"}}));
  EXPECT_TRUE(Matches("n=lt(7)", {{"n", "06"}}));
  EXPECT_FALSE(Matches("n=lt(7)", {{"n", "6.5"}}));
  EXPECT_FALSE(Matches("n=gt(0)", {{"n", "many"}}));
  EXPECT_FALSE(Matches("n=gt(0)", {{"n", "99999999999999999999"}}));
  EXPECT_TRUE(Matches("n=gt(1),lt(4),!2", {{"n", "3"}}));
  EXPECT_FALSE(Matches("n=gt(1),lt(4),!2", {{"n", "2"}}));
}

TEST(LabelSelectorTest, CommasInsideParenthesesBelongToTheValue) {
  const LabelSelector selector =
      Parsed("ray.io/accelerator-type=in(L4,A100),zone=!a,!b,m=exists()");
  EXPECT_EQ(selector.ToString(), "m=exists(),ray.io/accelerator-type=in(A100,L4),zone=!in(a,b)");
  EXPECT_EQ(
      selector.ToMap(),
      (std::map<std::string, std::string>{
          {"m", "exists()"}, {"ray.io/accelerator-type", "in(A100,L4)"}, {"zone", "!in(a,b)"}}));
}

TEST(LabelSelectorTest, ReadsAJsonMap) {
  const std::string json = " {\"zone\": \"in(a, b)\", \"market\\u002dtype\": \"!spot\"} ";
  EXPECT_EQ(Parsed(json).ToString(), "market-type=!spot,zone=in(a,b)");
  EXPECT_FALSE(LabelSelector::ParseText("{\"zone\": 1}").ok());
  EXPECT_FALSE(LabelSelector::ParseText("{\"zone\": \"a\",}").ok());
}

TEST(LabelSelectorTest, BlanksAreTrimmedRoundListedValuesOnly) {
  EXPECT_EQ(Parsed("zone=in( a ,\tb )").ToString(), "zone=in(a,b)");
  EXPECT_EQ(Parsed("n=gt( 3 )").ToString(), "n=gt(3)");
  for (const char* text : {" a", "a ", "! a", "in (a)", " in(a)", "in(a) ", "! in(a)", "in(a), !b",
                           "a b", "in(a b)", "exists ()"}) {
    EXPECT_NE(ErrorOf("zone", text), "accepted") << '"' << text << '"';
  }
}

TEST(LabelSelectorTest, EqualMeaningsPrintTheSame) {
  const std::vector<std::vector<std::string>> same = {
      {"zone=a", "zone=in(a)", "zone=in(a,a)", "zone=in(a,b),!b", "zone=exists(),a",
       "zone=in(a,b),in(a,c)", "zone=a,!c"},
      {"zone=!in(a,b)", "zone=!b,!a", "zone=!in(b,a,b)"},
      {"zone=!exists()", "zone=!exists(),!a"},
      {"zone=in(5,6)", "zone=in(4,5,6,x),gt(4)"},
      {"zone=gt(4)", "zone=gt(4),exists()", "zone=gt(3),gt(4)", "zone=gt(4),!3,!x"},
      {"zone=lt(4),gt(-1)", "zone=gt(-9),lt(4)"},
  };
  for (const std::vector<std::string>& texts : same) {
    for (const std::string& text : texts) {
      EXPECT_EQ(Parsed(text), Parsed(texts[0])) << text;
      EXPECT_EQ(Parsed(text).ToString(), Parsed(texts[0]).ToString()) << text;
    }
  }
}

TEST(LabelSelectorTest, ContradictionsAreRefused) {
  for (const char* text :
       {"a,b", "a,!a", "in(a,b),!in(a,b)", "exists(),!exists()", "a,!exists()", "gt(4),lt(5)",
        "lt(0)", "gt(9223372036854775807)", "a,gt(1)", "in(1,2),gt(2)", "!exists(),gt(1)"}) {
    EXPECT_EQ(ErrorOf("zone", text),
              absl::StrCat("label selector \"zone\": \"", text,
                           "\": no label can ever satisfy this; allowed: v, !v, in(a,b), !in(a,b), "
                           "exists(), !exists(), gt(n), lt(n)"));
  }
}

TEST(LabelSelectorTest, ErrorsNameKeyClauseAndWhatIsAllowed) {
  const std::string allowed =
      "; allowed: v, !v, in(a,b), !in(a,b), exists(), !exists(), gt(n), lt(n)";
  EXPECT_EQ(ErrorOf("zone", "in(a,"),
            "label selector \"zone\": \"in(a,\": \")\" is missing" + allowed);
  EXPECT_EQ(ErrorOf("zone", "!"), "label selector \"zone\": \"!\": \"!\" needs a value" + allowed);
  EXPECT_EQ(ErrorOf("zone", "in()"),
            "label selector \"zone\": \"in()\": the list is empty" + allowed);
  EXPECT_EQ(ErrorOf("zone", "b,IN(a)"),
            "label selector \"zone\": \"IN(a)\": \"IN\" is not an operator" + allowed);
  EXPECT_EQ(ErrorOf("zone", "in (a)"),
            "label selector \"zone\": \"in (a)\": no blank may stand before \"(\"" + allowed);
  for (const char* text : {"in(a,)",
                           "a,",
                           ",a",
                           "!!a",
                           "a)",
                           "in(a)b",
                           "!gt(1)",
                           "gt(x)",
                           "gt()",
                           "gt(1.5)",
                           "gt(99999999999999999999)",
                           "exists(a)",
                           "(a)",
                           "-a",
                           "a-",
                           "in(in(a))",
                           "a=b",
                           "\"a\"",
                           "\xff",
                           "a\n"}) {
    const std::string error = ErrorOf("zone", text);
    EXPECT_NE(error, "accepted") << text;
    EXPECT_EQ(error.find("label selector \"zone\": \""), 0u) << error;
    EXPECT_NE(error.find(allowed), std::string::npos) << error;
  }
}

TEST(LabelSelectorTest, KeysAreValidated) {
  const std::string name63(63, 'k');
  const std::string prefix253 = std::string(126, 'p') + "." + std::string(126, 'q');
  EXPECT_EQ(ErrorOf(name63, "a"), "accepted");
  EXPECT_EQ(ErrorOf(prefix253 + "/k", "a"), "accepted");
  for (const std::string& key : {std::string(), name63 + "k", prefix253 + "r/k", std::string("/k"),
                                 std::string("a/"), std::string("a/b/c"), std::string("A.io/k"),
                                 std::string("k k"), std::string("-k"), std::string("a..b/k")}) {
    EXPECT_NE(ErrorOf(key, "a"), "accepted") << key;
  }
}

TEST(LabelSelectorTest, BoundsOnLengthAreNamed) {
  const std::string long_text =
      "in(" + absl::StrJoin(std::vector<std::string>(5000, "a"), ",") + ")";
  EXPECT_NE(ErrorOf("zone", long_text).find("10003 characters are too many: at most 8192"),
            std::string::npos);
  const absl::StatusOr<LabelSelector> whole = LabelSelector::ParseText(std::string(70'000, 'a'));
  ASSERT_FALSE(whole.ok());
  EXPECT_NE(whole.status().message().find("at most 65536"), absl::string_view::npos);
  std::map<std::string, std::string> keys;
  for (int i = 0; i < 65; ++i) keys.emplace(absl::StrCat("k", i), "a");
  EXPECT_FALSE(LabelSelector::Parse(keys).ok());
}

TEST(LabelSelectorTest, CommandLineNeedsAKeyFirst) {
  EXPECT_FALSE(LabelSelector::ParseText("in(a,b)").ok());
  EXPECT_FALSE(LabelSelector::ParseText("zone=a,zone=b").ok());
  EXPECT_FALSE(LabelSelector::ParseText("zone=a,").ok());
  EXPECT_FALSE(LabelSelector::ParseText(",zone=a").ok());
  EXPECT_FALSE(LabelSelector::ParseText("=a").ok());
}

TEST(LabelSelectorTest, FirstMismatchSaysWhichAndWhy) {
  const LabelSelector selector = Parsed("market=spot,zone=in(a,b)");
  EXPECT_FALSE(selector.FirstMismatch({{"market", "spot"}, {"zone", "b"}}).has_value());
  const auto other = selector.FirstMismatch({{"market", "spot"}, {"zone", "c"}});
  ASSERT_TRUE(other.has_value());
  EXPECT_EQ(other->key, "zone");
  EXPECT_EQ(other->clause, "in(a,b)");
  EXPECT_EQ(other->actual, "c");
  EXPECT_EQ(other->why, "zone is c, not a or b");
  const auto missing = selector.FirstMismatch({});
  ASSERT_TRUE(missing.has_value());
  EXPECT_FALSE(missing->actual.has_value());
  EXPECT_EQ(missing->why, "market is missing, not spot");
  EXPECT_EQ(Parsed("zone=!in(a,b)").FirstMismatch({{"zone", "a"}})->why,
            "zone is a, it must not be a or b");
}

TEST(LabelSelectorTest, HashAgreesWithEquality) {
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(
      {LabelSelector(), Parsed("a=b"), Parsed("a=!b"), Parsed("a=in(b,c)"), Parsed("a=exists()"),
       Parsed("a=!exists()"), Parsed("a=gt(1)"), Parsed("a=lt(1)"), Parsed("b=b")}));
}

// --- The typed form ---

TEST(LabelTest, StandsInTheSameBraces) {
  const std::map<std::string, std::string> typed = {
      {"market", "spot"},     Label("zone").In({"b", "a"}), Label("k").NotIn({"x"}),
      Label("l").Exists(),    Label("m").NotExists(),       Label("n").GreaterThan(-3),
      Label("o").LessThan(9), Label("p").Equals("q"),       Label("r").NotEquals("s")};
  const absl::StatusOr<LabelSelector> selector = LabelSelector::Parse(typed);
  ASSERT_TRUE(selector.ok()) << selector.status();
  EXPECT_EQ(selector->ToString(),
            "k=!x,l=exists(),m=!exists(),market=spot,n=gt(-1),o=lt(9),p=q,r=!s,zone=in(a,b)");
}

TEST(LabelTest, OneEntryAloneIsAMapToo) {
  const std::map<std::string, std::string> typed = {Label("zone").In({"a", "b"})};
  EXPECT_EQ(typed, (std::map<std::string, std::string>{{"zone", "in(a,b)"}}));
  EXPECT_EQ(Label("zone").Equals("").second, "");
}

TEST(LabelTest, IllegalValuesAreRefusedNotMisread) {
  const std::vector<Label::Entry> entries = {
      Label("zone").Equals("a,b"),    Label("zone").Equals("in(a)"), Label("zone").Equals("!a"),
      Label("zone").Equals("a b"),    Label("zone").In({"a,b"}),     Label("zone").In({"a)", "b"}),
      Label("zone").In({" a"}),       Label("zone").In({}),          Label("zone").In({"a", ""}),
      Label("zone").NotEquals("!a"),  Label("zone").NotEquals(""),   Label("zone").Equals("\""),
      Label("zone").NotIn({"a", ","})};
  for (const Label::Entry& entry : entries) {
    EXPECT_NE(ErrorOf(entry.first, entry.second), "accepted") << entry.second;
  }
}

// --- Properties ---

// Clauses over a few values, so that they meet and contradict each other often.
std::string RandomText(Chance& chance) {
  const std::vector<std::string> values = {"a", "b", "c", "1", "2", "3", "03"};
  const auto list = [&] {
    std::vector<std::string> listed;
    for (int i = chance.Below(3); i >= 0; --i) listed.push_back(chance.Of(values));
    return absl::StrCat("in(", absl::StrJoin(listed, chance.OneIn(2) ? "," : ", "), ")");
  };
  std::vector<std::string> clauses;
  for (int i = chance.Below(4); i >= 0; --i) {
    switch (chance.Below(8)) {
      case 0:
        clauses.push_back(chance.Of(values));
        break;
      case 1:
        clauses.push_back("!" + chance.Of(values));
        break;
      case 2:
        clauses.push_back(list());
        break;
      case 3:
      case 4:
        clauses.push_back("!" + list());
        break;
      case 5:
        clauses.push_back(chance.OneIn(3) ? "!exists()" : "exists()");
        break;
      case 6:
        clauses.push_back(absl::StrCat("gt(", chance.Below(5) - 1, ")"));
        break;
      default:
        clauses.push_back(absl::StrCat("lt(", chance.Below(5), ")"));
        break;
    }
  }
  return absl::StrJoin(clauses, ",");
}

TEST(LabelSelectorProperty, AgreesWithASlowMatcherAndParsesItsOwnText) {
  const std::vector<std::string> world = {"",   "a",  "b",   "c",   "d",   "0",  "1",
                                          "2",  "3",  "4",   "5",   "01",  "02", "03",
                                          "04", "4x", "000", "001", "002", "003"};
  Chance chance(1);
  int accepted = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::string text = RandomText(chance);
    SCOPED_TRACE(text);
    int satisfied = SlowMatches(text, nullptr) ? 1 : 0;
    for (const std::string& value : world) satisfied += SlowMatches(text, &value) ? 1 : 0;
    const absl::StatusOr<LabelSelector> selector = LabelSelector::Parse({{"k", text}});
    ASSERT_EQ(selector.ok(), satisfied > 0) << selector.status();
    if (!selector.ok()) continue;
    ++accepted;
    ASSERT_EQ(selector->Matches({}), SlowMatches(text, nullptr));
    for (const std::string& value : world) {
      ASSERT_EQ(selector->Matches({{"k", value}}), SlowMatches(text, &value)) << value;
      ASSERT_EQ(selector->FirstMismatch({{"k", value}}).has_value(), !SlowMatches(text, &value));
    }
    const absl::StatusOr<LabelSelector> again = LabelSelector::ParseText(selector->ToString());
    ASSERT_TRUE(again.ok()) << again.status();
    ASSERT_EQ(*again, *selector);
    ASSERT_EQ(again->ToString(), selector->ToString());
    ASSERT_EQ(*LabelSelector::Parse(selector->ToMap()), *selector);
  }
  EXPECT_GT(accepted, 1000);
}

TEST(LabelSelectorProperty, SelectorsThatMatchTheSamePrintTheSame) {
  const std::vector<std::string> world = {"",  "a", "b",  "c",  "d",  "0",  "1",  "2", "3",
                                          "4", "5", "01", "02", "03", "04", "05", "4x"};
  Chance chance(2);
  std::map<std::set<std::string>, std::string> text_of;  // What it matches to what it prints.
  for (int i = 0; i < 5000; ++i) {
    const std::string text = RandomText(chance);
    const absl::StatusOr<LabelSelector> selector = LabelSelector::Parse({{"k", text}});
    if (!selector.ok()) continue;
    std::set<std::string> matched;
    if (selector->Matches({})) matched.insert("(missing)");
    for (const std::string& value : world) {
      if (selector->Matches({{"k", value}})) matched.insert(value);
    }
    const LabelRequirement& r = selector->requirements()[0];
    // Bounds leave more numbers than this world has ("003"), so lists and bounds are not compared.
    if (r.greater_than || r.less_than) continue;
    const auto [known, is_new] = text_of.emplace(matched, selector->ToString());
    ASSERT_EQ(known->second, selector->ToString()) << text;
  }
  EXPECT_GT(text_of.size(), 50u);
}

}  // namespace
}  // namespace muster::sched
