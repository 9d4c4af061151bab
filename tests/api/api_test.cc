// The public headers, end to end over serialized bytes, against the library played in one process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "muster/muster.h"
#include "tests/api/fake_runtime.h"

namespace far::away {
int Inner(int number) { return number + 1; }
struct Holder {
  static int Static(int number) { return number + 2; }
};
template <typename T>
T Generic(T value) {
  return value;
}
}  // namespace far::away

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Row {
  std::string name = {};
  std::vector<double> values = {};
};

double Sum(const Row& row, std::string_view name, bool negate) {
  double sum = row.name == name ? 0 : 1000;
  for (const double value : row.values) sum += value;
  return negate ? -sum : sum;
}
std::string Take(std::vector<std::string>&& parts, const std::string_view& between) {
  const std::vector<std::string> taken = std::move(parts);
  std::string joined;
  for (const std::string& part : taken)
    joined += (joined.empty() ? "" : std::string(between)) + part;
  return joined;
}
int Twice(int number) noexcept { return 2 * number; }
void DoNothing() {}
absl::Status Complain(int code) {
  return code == 0 ? absl::OkStatus() : absl::OutOfRangeError("no such code");
}
absl::StatusOr<std::string> Maybe(bool good) {
  if (good) return std::string("good");
  return absl::DataLossError("bad");
}
int Throw(int number) { throw std::runtime_error("number " + std::to_string(number)); }
const std::string& GiveReference() {
  static const std::string text = "by reference";
  return text;
}
int Held(int number) { return number; }
int RankOf(int offset) {
  const GroupContext group = CurrentGroup();
  return offset + group.rank * 10 + group.size;
}
void StoreRank() {
  const GroupContext group = CurrentGroup();
  group.store.Set("rank", std::to_string(group.rank)).IgnoreError();
}
std::string MyTaskId() { return CurrentTask().task_id; }

class ApiTest : public ::testing::Test {
 protected:
  ~ApiTest() override { fake::Reset(); }
};

TEST_F(ApiTest, ArgumentsAndResultsTravelAsBytes) {
  EXPECT_EQ(*Get(Task<Sum>().Remote(Row{"a", {1, 2, 3.5}}, "a", true)), -6.5);
  EXPECT_EQ(*Get(Task<Take>().Remote(std::vector<std::string>{"a", "b"}, "+")), "a+b");
  EXPECT_EQ(*Get(Task<GiveReference>().Remote()), "by reference");
}

TEST_F(ApiTest, ValuesConvertAsInAPlainCall) {
  EXPECT_EQ(*Get(Task<Twice>().Remote(3.7)), 6);
  EXPECT_EQ(*Get(Task<Twice>().Remote(size_t{4})), 8);
  const int constant = 5;
  EXPECT_EQ(*Get(Task<Twice>().Remote(constant)), 10);
}

TEST_F(ApiTest, LambdasAndAllKindsOfFunctionsRun) {
  EXPECT_EQ(*Get(Task<[](int x) { return x + 7; }>().Remote(1)), 8);
  constexpr auto kShout = [](const std::string& text) { return text + "!"; };
  EXPECT_EQ(*Get(Task<kShout>().Remote("hey")), "hey!");
  EXPECT_EQ(*Get(Task<far::away::Inner>().Remote(1)), 2);
  EXPECT_EQ(*Get(Task<far::away::Holder::Static>().Remote(1)), 3);
  EXPECT_EQ(*Get(Task<far::away::Generic<std::string>>().Remote("x")), "x");
}

TEST_F(ApiTest, RefsAreArguments) {
  const ObjectRef<int> first = Task<Twice>().Remote(1);
  const ObjectRef<int> second = Task<Twice>().Remote(first);
  EXPECT_EQ(*Get(Task<Twice>().Remote(second)), 8);
  EXPECT_EQ(*Get(Task<Sum>().Remote(Put(Row{"n", {1}}), Put("n"), false)), 1);
}

TEST_F(ApiTest, VoidAndStatusFunctionsGiveAStatus) {
  const absl::Status done = Get(Task<DoNothing>().Remote());
  EXPECT_TRUE(done.ok());
  const ObjectRef<void> good = Task<Complain>().Remote(0);
  EXPECT_TRUE(Get(good).ok());
  const absl::Status bad = Get(Task<Complain>().Remote(1));
  EXPECT_EQ(bad.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(bad.message(), "Complain: no such code");
}

TEST_F(ApiTest, AStatusOrFunctionGivesItsValueOrItsError) {
  const ObjectRef<std::string> good = Task<Maybe>().Remote(true);
  EXPECT_EQ(*Get(good), "good");
  const absl::StatusOr<std::string> bad = Get(Task<Maybe>().Remote(false));
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(bad.status().message(), "Maybe: bad");
}

TEST_F(ApiTest, ExceptionsAreLetThroughToTheExecutor) {
  EXPECT_EQ(Get(Task<Throw>().Remote(3)).status().message(), "Throw threw: number 3");
}

TEST_F(ApiTest, GetOfManyGivesEachItsOwnOutcome) {
  std::vector<ObjectRef<std::string>> refs;
  for (const bool good : {true, false, true}) refs.push_back(Task<Maybe>().Remote(good));
  const std::vector<absl::StatusOr<std::string>> values = Get(refs);
  ASSERT_EQ(values.size(), 3u);
  EXPECT_EQ(*values[0], "good");
  EXPECT_FALSE(values[1].ok());
  EXPECT_EQ(*values[2], "good");
  EXPECT_TRUE(Get(std::vector<ObjectRef<int>>()).empty());
  const std::vector<absl::Status> statuses = Get(std::vector{Task<DoNothing>().Remote()});
  EXPECT_TRUE(statuses[0].ok());
}

TEST_F(ApiTest, ATimeoutNamesTheFunctionAndChangesNothing) {
  fake::Hold("Held");
  const ObjectRef<int> ref = Task<Held>().Remote(5);
  const absl::Status late = Get(ref, absl::Milliseconds(1)).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(late.message(), "Held is not done after 1ms");
  EXPECT_EQ(Get(ref, absl::ZeroDuration()).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Get(ref, -absl::InfiniteDuration()).status().message(), "Held is not done after 0");
  const auto many = Get(std::vector{Task<Twice>().Remote(1), ref}, absl::Milliseconds(50));
  EXPECT_EQ(many[1].status().code(), absl::StatusCode::kDeadlineExceeded);
  fake::Release("Held");
  EXPECT_EQ(*Get(ref), 5);
}

TEST_F(ApiTest, WaitGivesAtMostWhatWasAskedForInTheGivenOrder) {
  fake::Hold("Held");
  const ObjectRef<int> slow = Task<Held>().Remote(1);
  const ObjectRef<int> a = Put(2);
  const ObjectRef<int> b = Put(3);
  auto [ready, pending] = Wait(std::vector{slow, a, b}, 1);
  EXPECT_THAT(ready, ElementsAre(a));
  EXPECT_THAT(pending, ElementsAre(slow, b));
  const WaitResult<int> two = Wait(std::vector{slow, a, b}, 2);
  EXPECT_THAT(two.ready, ElementsAre(a, b));
  const WaitResult<int> late = Wait(std::vector{slow, a}, 2, absl::Milliseconds(1));
  EXPECT_THAT(late.ready, ElementsAre(a));
  EXPECT_THAT(late.pending, ElementsAre(slow));
  fake::Release("Held");
  EXPECT_THAT(Wait(std::vector{slow, a}, 9).ready, ElementsAre(slow, a));
  EXPECT_TRUE(Wait(std::vector<ObjectRef<int>>(), 1).ready.empty());
  EXPECT_TRUE(Wait(std::vector{a}, 0).ready.empty());
}

TEST_F(ApiTest, CancelEndsTheWaiting) {
  fake::Hold("Held");
  const ObjectRef<int> ref = Task<Held>().Remote(1);
  EXPECT_TRUE(Cancel(ref, {.force = true}).ok());
  EXPECT_EQ(Get(ref).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ApiTest, ARefThatWasMovedFromSaysSo) {
  std::vector<ObjectRef<int>> refs = {Put(3)};
  const ObjectRef<int> moved = std::move(refs[0]);
  const ObjectRef<int>& ref = refs[0];
  EXPECT_EQ(*Get(moved), 3);
  EXPECT_EQ(Get(ref).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ref.task_id(), "");
  EXPECT_EQ(Cancel(ref).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Get(std::vector{ref, moved})[0].status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Wait(std::vector{ref}, 1).ready.size(), 1u);
  const absl::Status status = Get(Task<Twice>().Remote(ref)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "Twice: argument 1 is an ObjectRef that was moved from");
}

TEST_F(ApiTest, OptionsReachTheRuntime) {
  GetOrDie(Task<Twice>({.resources = {.gpus = 2}, .name = "big"}).Remote(1));
  GetOrDie(Group<Twice>({.ranks = 2, .per_rank = {.priority = 3}}).Remote(1));
  const std::vector<TaskOptions> options = fake::SubmittedOptions();
  ASSERT_EQ(options.size(), 2u);
  EXPECT_EQ(options[0].resources.gpus, 2);
  EXPECT_EQ(options[0].resources.cpus, 1);
  EXPECT_EQ(options[0].name, "big");
  EXPECT_EQ(options[0].max_retries, 3);
  EXPECT_EQ(options[1].priority, 3);
}

TEST_F(ApiTest, AGroupGivesItsRanksResultsByRank) {
  const GroupRef<int> group = Group<RankOf>({.ranks = 3}).Remote(100);
  const absl::StatusOr<std::vector<int>> values = Get(group);
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre(103, 113, 123));
  EXPECT_THAT(GetOrDie(Group<RankOf>({.ranks = 1}).Remote(Put(0))), ElementsAre(1));
  const absl::Status none = Get(Group<DoNothing>({.ranks = 4}).Remote());
  EXPECT_TRUE(none.ok());
  const absl::Status failed = Get(Group<Complain>({.ranks = 2}).Remote(1));
  EXPECT_EQ(failed.message(), "Complain: no such code");
}

TEST_F(ApiTest, RanksShareAStore) {
  EXPECT_TRUE(Get(Group<StoreRank>({.ranks = 2}).Remote()).ok());
  EXPECT_EQ(*CurrentGroup().store.Get("rank"), "1");
  EXPECT_EQ(CurrentGroup().store.Get("none", absl::Milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ApiTest, OutsideATaskThereAreDefaults) {
  EXPECT_EQ(CurrentTask().task_id, "");
  EXPECT_FALSE(CurrentTask().cancelled());
  EXPECT_EQ(CurrentGroup().rank, 0);
  EXPECT_EQ(CurrentGroup().size, 1);
}

TEST_F(ApiTest, ATaskKnowsItsId) {
  const ObjectRef<std::string> ref = Task<MyTaskId>().Remote();
  EXPECT_EQ(*Get(ref), ref.task_id());
}

TEST_F(ApiTest, GetOrDieGivesPlainValues) {
  EXPECT_EQ(GetOrDie(Task<Twice>().Remote(2)), 4);
  GetOrDie(Task<DoNothing>().Remote());
  EXPECT_THAT(GetOrDie(std::vector{Put(1), Put(2)}), ElementsAre(1, 2));
  GetOrDie(std::vector{Task<DoNothing>().Remote()});
}

TEST(ApiDeathTest, GetOrDieEndsTheProgramWithOneLine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(GetOrDie(Task<Complain>().Remote(1)), ::testing::ExitedWithCode(1),
              "muster: .*Complain: no such code");
}

TEST_F(ApiTest, PutTurnsTextIntoAString) {
  const ObjectRef<std::string> literal = Put("text");
  EXPECT_EQ(*Get(literal), "text");
  const char* const pointer = "pointer";
  EXPECT_EQ(*Get(Put(pointer)), "pointer");
  EXPECT_EQ(*Get(Put(std::string_view("view"))), "view");
}

TEST_F(ApiTest, AHundredMegabytesComeBack) {
  std::vector<float> big(25'000'000);
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<float>(i % 1000);
  constexpr auto kSame = [](std::vector<float> values) { return values; };
  EXPECT_EQ(*Get(Task<kSame>().Remote(big)), big);
}

TEST(FunctionNameTest, IsWhatAPersonWouldSay) {
  using internal::FunctionName;
  constexpr auto kLambda = [](const Row&) {};
  EXPECT_EQ(FunctionName<Twice>(), "Twice");
  EXPECT_EQ(FunctionName<&Twice>(), "Twice");
  EXPECT_EQ(FunctionName<far::away::Inner>(), "Inner");
  EXPECT_EQ(FunctionName<far::away::Holder::Static>(), "Static");
  EXPECT_EQ(FunctionName<kLambda>(), "lambda");
  EXPECT_EQ(FunctionName<[](int) {}>(), "lambda");
  EXPECT_THAT(std::string(FunctionName<far::away::Generic<Row>>()),
              ::testing::StartsWith("Generic"));
}

TEST(InvokeTest, DamagedArgumentsAreAStatusThatNamesTheFunction) {
  std::string result;
  const std::vector<std::string_view> wrong = {"\xa1x"};
  const absl::Status status = internal::Invoke<Twice>(wrong, result);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "Twice: argument 1 cannot be read: byte 0 of 2: expected an integer");
  EXPECT_THAT(std::string(internal::Invoke<Twice>({}, result).message()),
              HasSubstr("called with 0 arguments instead of 1"));
}

TEST(LabelSelectorTest, KeepsBothEntriesOfOneKey) {
  const TaskOptions options = {.label_selector = {{"spot", "!yes"},
                                                  Label("zone").In({"a", "b"}),
                                                  Label("zone").NotIn({"c"}),
                                                  Label("size").GreaterThan(3)}};
  EXPECT_EQ(options.label_selector,
            (std::map<std::string, std::string>{
                {"size", "gt(3)"}, {"spot", "!yes"}, {"zone", "in(a,b),!in(c)"}}));
}

TEST(LabelSelectorTest, IsAPlainMapToo) {
  const std::map<std::string, std::string> plain = {{"a", "b"}};
  TaskOptions options = {.label_selector = plain};
  options.label_selector["c"] = "d";
  const std::map<std::string, std::string> back = options.label_selector;
  EXPECT_EQ(back, (std::map<std::string, std::string>{{"a", "b"}, {"c", "d"}}));
}

TEST(LabelTest, EntriesAreTheTextForm) {
  using Entry = std::pair<const std::string, std::string>;
  EXPECT_EQ(Label("k").Equals("v"), Entry("k", "v"));
  EXPECT_EQ(Label("k").NotEquals("v"), Entry("k", "!v"));
  EXPECT_EQ(Label("k").In({"a"}), Entry("k", "in(a)"));
  EXPECT_EQ(Label("k").NotIn({"a", "b"}), Entry("k", "!in(a,b)"));
  EXPECT_EQ(Label("k").Exists(), Entry("k", "exists()"));
  EXPECT_EQ(Label("k").NotExists(), Entry("k", "!exists()"));
  EXPECT_EQ(Label("k").LessThan(-2), Entry("k", "lt(-2)"));
}

}  // namespace
}  // namespace muster
