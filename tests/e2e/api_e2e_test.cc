// The public API against a real cluster on this machine: what UX promises of each call, with its
// failures.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "muster/muster.h"

namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

int Add(int a, int b) { return a + b; }
std::string Repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}
void Nothing() {}
int Throw(int x) { throw std::runtime_error("bad " + std::to_string(x)); }
int ThrowInt() { throw 7; }
absl::StatusOr<int> Refuse() { return absl::NotFoundError("no such shard"); }
int Crash() {
  raise(SIGSEGV);
  return 0;
}
int CrashOnce(std::string marker) {
  if (!std::filesystem::exists(marker)) {
    std::ofstream(marker) << "x";
    raise(SIGKILL);
  }
  return muster::CurrentTask().attempt;
}
int64_t Pid() { return getpid(); }
std::vector<float> Scale(std::vector<float> values, float by) {
  for (float& value : values) value *= by;
  return values;
}
int WaitForFile(std::string path) {
  while (!std::filesystem::exists(path)) {
    if (muster::CurrentTask().cancelled()) return -1;
    std::this_thread::yield();
  }
  return 1;
}
int Spin() {
  while (true) std::this_thread::yield();
}
int Fibonacci(int n) {
  if (n < 2) return n;
  const auto a = muster::Task<Fibonacci>().Remote(n - 1);
  const auto b = muster::Task<Fibonacci>().Remote(n - 2);
  return muster::GetOrDie(a) + muster::GetOrDie(b);
}
std::string Gpus() {
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  std::string joined;
  for (const std::string& id : muster::CurrentTask().gpu_ids)
    joined += (joined.empty() ? "" : ",") + id;
  return std::string(visible == nullptr ? "unset" : visible) + "|" + joined;
}
int ChildThatStays() {
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  return child;
}

std::string TempPath(const std::string& name) {
  return std::filesystem::temp_directory_path() /
         ("muster_api_e2e_" + std::to_string(getpid()) + "_" + name);
}

// Waits for a condition that is to come true soon.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ApiTest, TaskGivesItsResult) {
  EXPECT_EQ(*muster::Get(muster::Task<Add>().Remote(2, 3)), 5);
  EXPECT_TRUE(muster::Get(muster::Task<Nothing>().Remote()).ok());
  EXPECT_EQ(*muster::Get(muster::Task<Repeat>().Remote("ab", 3)), "ababab");
}

TEST(ApiTest, LambdaRuns) {
  EXPECT_EQ(*muster::Get(muster::Task<[](int x) { return x * x; }>().Remote(7)), 49);
}

TEST(ApiTest, ManyResultsComeInOrder) {
  std::vector<muster::ObjectRef<int>> refs;
  for (int i = 0; i < 3000; ++i) refs.push_back(muster::Task<Add>().Remote(i, 1));
  const std::vector<absl::StatusOr<int>> results = muster::Get(refs);
  ASSERT_EQ(results.size(), refs.size());
  for (int i = 0; i < 3000; ++i) EXPECT_EQ(*results[i], i + 1);
}

TEST(ApiTest, RefsAsArgumentsAreResolvedFirst) {
  auto sum = muster::Task<Add>().Remote(1, 1);
  for (int i = 0; i < 50; ++i) sum = muster::Task<Add>().Remote(sum, muster::Put(1));
  EXPECT_EQ(*muster::Get(sum), 52);
}

TEST(ApiTest, ErrorOfAnArgumentTravelsWithItsOrigin) {
  const auto bad = muster::Task<Throw>().Remote(3);
  const absl::Status status = muster::Get(muster::Task<Add>().Remote(bad, 1)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("Throw"), HasSubstr("bad 3"), HasSubstr("Add")));
}

TEST(ApiTest, ExceptionComesBackWithItsTypeAndText) {
  const absl::Status status = muster::Get(muster::Task<Throw>().Remote(9)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("Throw"), HasSubstr("std::runtime_error"), HasSubstr("bad 9")));
  EXPECT_EQ(muster::Get(muster::Task<ThrowInt>().Remote()).status().code(),
            absl::StatusCode::kUnknown);
}

TEST(ApiTest, StatusOfAFunctionIsTheTasks) {
  const absl::Status status = muster::Get(muster::Task<Refuse>().Remote()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no such shard"));
}

TEST(ApiTest, HundredMegabytesTravelBothWays) {
  std::vector<float> values(25'000'000);
  std::iota(values.begin(), values.end(), 0.0F);
  const auto scaled = muster::Get(muster::Task<Scale>().Remote(values, 2.0F));
  ASSERT_TRUE(scaled.ok()) << scaled.status();
  ASSERT_EQ(scaled->size(), values.size());
  EXPECT_EQ((*scaled)[12'345'678], values[12'345'678] * 2);
}

TEST(ApiTest, CrashIsRetriedThenNamed) {
  const absl::Status status =
      muster::Get(muster::Task<Crash>({.max_retries = 1}).Remote()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("Crash failed on node"), HasSubstr("after 2 attempts"),
                    HasSubstr("signal 11")));
}

TEST(ApiTest, DeathOfAnExecutorIsHealed) {
  const std::string marker = TempPath("crash_once");
  EXPECT_EQ(*muster::Get(muster::Task<CrashOnce>().Remote(marker)), 1);
  std::filesystem::remove(marker);
}

TEST(ApiTest, GetTimesOutAndTheTaskGoesOn) {
  const std::string path = TempPath("go");
  const auto waits = muster::Task<WaitForFile>().Remote(path);
  const absl::Status late = muster::Get(waits, absl::Milliseconds(50)).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()), HasSubstr("WaitForFile"));
  std::ofstream(path) << "go";
  EXPECT_EQ(*muster::Get(waits), 1);
  std::filesystem::remove(path);
}

TEST(ApiTest, WaitTellsReadyFromPending) {
  const std::string path = TempPath("wait");
  const std::vector<muster::ObjectRef<int>> refs = {
      muster::Task<WaitForFile>({.resources = {.cpus = 0.5}}).Remote(path),
      muster::Task<Add>({.resources = {.cpus = 0.5}}).Remote(1, 1)};
  const auto waited = muster::Wait(refs, 1, absl::Seconds(20));
  ASSERT_EQ(waited.ready.size(), 1U);
  ASSERT_EQ(waited.pending.size(), 1U);
  EXPECT_EQ(*muster::Get(waited.ready[0]), 2);
  std::ofstream(path) << "go";
  EXPECT_EQ(*muster::Get(waited.pending[0]), 1);
  std::filesystem::remove(path);
}

TEST(ApiTest, CancelledTaskSeesItAndGetSaysSo) {
  const auto waits = muster::Task<WaitForFile>().Remote(TempPath("never"));
  EXPECT_FALSE(muster::Get(waits, absl::Milliseconds(100)).ok());
  ASSERT_TRUE(muster::Cancel(waits).ok());
  EXPECT_EQ(muster::Get(waits).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(*muster::Get(muster::Task<Add>().Remote(1, 2)), 3);
}

TEST(ApiTest, ForceKillsWhatDoesNotLook) {
  const auto spins = muster::Task<Spin>().Remote();
  EXPECT_FALSE(muster::Get(spins, absl::Milliseconds(100)).ok());
  ASSERT_TRUE(muster::Cancel(spins, {.force = true}).ok());
  EXPECT_EQ(muster::Get(spins).status().code(), absl::StatusCode::kCancelled);
}

TEST(ApiTest, TimeoutEndsARunAndIsNotRetried) {
  const absl::Status status =
      muster::Get(muster::Task<Spin>({.timeout = absl::Milliseconds(200)}).Remote()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Spin"));
}

TEST(ApiTest, TasksThatSubmitTasksDoNotDeadlock) {
  EXPECT_EQ(*muster::Get(muster::Task<Fibonacci>().Remote(6), absl::Seconds(60)), 8);
}

TEST(ApiTest, InfeasibleTaskFailsWhereAsked) {
  const absl::Status status =
      muster::Get(muster::Task<Add>({.label_selector = {{"ray.io/accelerator-type", "H100"}},
                                     .on_infeasible = muster::OnInfeasible::kFail})
                      .Remote(1, 2))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("Add can run nowhere: needs 1 CPU"), HasSubstr("H100")));
}

TEST(ApiTest, BadOptionsComeBackFromGet) {
  const absl::Status selector =
      muster::Get(muster::Task<Add>({.label_selector = {{"zone", "in(a,"}}}).Remote(1, 2)).status();
  EXPECT_EQ(selector.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(selector.message()),
              AllOf(HasSubstr("zone"), HasSubstr("\")\" is missing")));
  const absl::Status cpus =
      muster::Get(muster::Task<Add>({.resources = {.cpus = -1}}).Remote(1, 2)).status();
  EXPECT_EQ(cpus.code(), absl::StatusCode::kInvalidArgument);
}

std::string NodeName() { return muster::CurrentTask().node; }

TEST(ApiTest, NodeAffinityIsByTheNamesThatTasksSee) {
  const std::string here = *muster::Get(muster::Task<NodeName>().Remote());
  ASSERT_FALSE(here.empty());
  EXPECT_EQ(*muster::Get(muster::Task<NodeName>({.node_affinity = {.node = here}}).Remote()), here);
  const muster::NodeAffinity soft = {.node = "nowhere", .soft = true};
  EXPECT_EQ(*muster::Get(muster::Task<NodeName>({.node_affinity = soft}).Remote()), here);
  const absl::Status nowhere =
      muster::Get(muster::Task<NodeName>({.on_infeasible = muster::OnInfeasible::kFail,
                                          .node_affinity = {.node = "nowhere"}})
                      .Remote())
          .status();
  EXPECT_EQ(nowhere.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(nowhere.message()),
              AllOf(HasSubstr("NodeName can run nowhere"), HasSubstr("node nowhere is not there")));
}

TEST(ApiTest, NodeAffinityThatContradictsIsRefused) {
  const absl::Status no_node =
      muster::Get(muster::Task<NodeName>({.node_affinity = {.soft = true}}).Remote()).status();
  EXPECT_EQ(no_node.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(no_node.message()), HasSubstr("node_affinity.node is empty"));
  const muster::PlacementGroup group({.bundles = {{.count = 1}}});
  const absl::Status inside =
      muster::Get(muster::Task<NodeName>({.placement_group = group, .node_affinity = {.node = "n"}})
                      .Remote())
          .status();
  EXPECT_EQ(inside.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(inside.message()),
              HasSubstr("node_affinity.node is \"n\", which does not go with a placement_group"));
  EXPECT_TRUE(group.Remove().ok());
  const absl::Status strategy =
      muster::Get(
          muster::Group<NodeName>(
              {.ranks = 2, .per_rank = {.node_affinity = {.node = "n"}}, .strategy = {"spread"}})
              .Remote())
          .status();
  EXPECT_EQ(strategy.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(strategy.message()), HasSubstr("does not go with a strategy"));
}

TEST(ApiTest, DevicesAreInTheEnvironmentAndNoneWithoutLease) {
  EXPECT_EQ(*muster::Get(muster::Task<Gpus>().Remote()), "|");
  EXPECT_EQ(*muster::Get(muster::Task<Gpus>({.resources = {.gpus = 2}}).Remote()), "0,1|0,1");
  EXPECT_EQ(*muster::Get(muster::Task<Gpus>({.resources = {.gpus = 0.5}}).Remote()), "0|0");
}

TEST(ApiTest, ExecutorsAreReused) {
  const int64_t first = *muster::Get(muster::Task<Pid>().Remote());
  EXPECT_EQ(*muster::Get(muster::Task<Pid>().Remote()), first);
  EXPECT_NE(first, getpid());
}

TEST(ApiTest, ForcedEndTakesTheChildrenToo) {
  const auto child_ref = muster::Task<ChildThatStays>({.resources = {.gpus = 1}}).Remote();
  const int child = *muster::Get(child_ref);
  ASSERT_EQ(kill(child, 0), 0);
  // Another shape makes the idle lease go back; an executor that held a device ends with it.
  EXPECT_EQ(*muster::Get(muster::Task<Gpus>({.resources = {.gpus = 2}}).Remote()), "0,1|0,1");
  EXPECT_TRUE(Eventually([&] { return kill(child, 0) != 0; }));
}

TEST(ApiTest, AThousandSmallTasksFromFourThreads) {
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) {
        if (*muster::Get(muster::Task<Add>().Remote(i, i)) == 2 * i) ++right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 1000);
}

std::string RankPlace(std::string word) {
  const auto group = muster::CurrentGroup();
  if (!group.store.Set("word" + std::to_string(group.rank), word + std::to_string(group.rank)).ok())
    return "no set";
  const int next = (group.rank + 1) % group.size;
  const absl::StatusOr<std::string> other =
      group.store.Get("word" + std::to_string(next), absl::Seconds(20));
  if (!other.ok()) return std::string(other.status().message());
  return *other;
}
TEST(GroupTest, RanksMeetInTheStore) {
  const auto run =
      muster::Group<RankPlace>({.ranks = 3, .per_rank = {.resources = {.cpus = 0.5}}}).Remote("w");
  const auto words = muster::Get(run);
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_THAT(*words, ::testing::ElementsAre("w1", "w2", "w0"));
}

float SumOfRanks(int n) {
  std::vector<float> ones(static_cast<size_t>(n),
                          static_cast<float>(muster::CurrentGroup().rank + 1));
  const absl::Status status =
      muster::CurrentGroup().collectives.AllReduceSum(ones.data(), ones.size());
  if (!status.ok()) throw std::runtime_error(status.ToString());
  return ones.back();
}
TEST(GroupTest, RanksSumTogether) {
  const auto sums = muster::Get(muster::Group<SumOfRanks>({.ranks = 2}).Remote(1000));
  ASSERT_TRUE(sums.ok()) << sums.status();
  EXPECT_THAT(*sums, ::testing::ElementsAre(3, 3));
}

int DieInFirstGeneration() {
  const auto group = muster::CurrentGroup();
  if (group.generation == 0 && group.rank == 1) raise(SIGKILL);
  const absl::StatusOr<std::string> never = group.generation == 0
                                                ? group.store.Get("never", absl::Seconds(30))
                                                : absl::StatusOr<std::string>("fine");
  if (!never.ok() && never.status().code() != absl::StatusCode::kAborted)
    throw std::runtime_error("not aborted");
  return group.generation;
}
TEST(GroupTest, DeathOfARankReleasesTheOthersAndStartsAgain) {
  const auto start = std::chrono::steady_clock::now();
  const auto generations =
      muster::Get(muster::Group<DieInFirstGeneration>({.ranks = 2, .max_restarts = 1}).Remote());
  ASSERT_TRUE(generations.ok()) << generations.status();
  EXPECT_THAT(*generations, ::testing::ElementsAre(1, 1));
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(25));  // Not the store's 30 s.
}

int SumUntilADeath(std::string marker) {
  const auto group = muster::CurrentGroup();
  if (group.generation > 0) return group.generation;
  float one = 1;
  for (int round = 0;; ++round) {
    const absl::Status status = group.collectives.AllReduceSum(&one, 1);
    if (group.rank == 1 && round == 3) raise(SIGKILL);
    if (status.ok()) continue;
    if (status.code() == absl::StatusCode::kAborted) std::ofstream(marker) << status.message();
    throw std::runtime_error(std::string(status.message()));
  }
}
TEST(GroupTest, SurvivorInASumHearsOfTheDeathBeforeItIsKilled) {
  const std::string marker = TempPath("survivor");
  const auto generations =
      muster::Get(muster::Group<SumUntilADeath>({.ranks = 2, .max_restarts = 1}).Remote(marker));
  ASSERT_TRUE(generations.ok()) << generations.status();
  EXPECT_THAT(*generations, ::testing::ElementsAre(1, 1));
  EXPECT_TRUE(std::filesystem::exists(marker));
  std::filesystem::remove(marker);
}

int AlwaysDies() {
  if (muster::CurrentGroup().rank == 1) raise(SIGKILL);
  (void)muster::CurrentGroup().store.Get("never", absl::Seconds(30));
  return 0;
}
TEST(GroupTest, TooManyDeathsNameTheRank) {
  const absl::Status status =
      muster::Get(muster::Group<AlwaysDies>({.ranks = 2, .max_restarts = 1}).Remote()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rank 1"), HasSubstr("signal 9")));
}

void RankThrows() {
  if (muster::CurrentGroup().rank == 0) throw std::invalid_argument("rank 0 will not");
  (void)muster::CurrentGroup().store.Get("never", absl::Seconds(30));
}
TEST(GroupTest, RankThatThrowsEndsTheGroup) {
  const absl::Status status =
      muster::Get(muster::Group<RankThrows>({.ranks = 2, .max_restarts = 5}).Remote());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("rank 0"), HasSubstr("rank 0 will not")));
}

}  // namespace

int main(int argc, char** argv) {
  muster::InitOptions options;
  options.argc = &argc;
  options.argv = argv;
  options.num_cpus = 2;
  options.num_gpus = 2;
  const absl::Status status = muster::TryInit(options);
  if (!status.ok()) {
    fprintf(stderr, "%s\n", status.ToString().c_str());
    return 3;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
