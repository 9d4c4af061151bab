#include "muster/collective.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

class MemoryStore : public Store {
 public:
  absl::Status Set(const std::string& key, const std::string& value) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    values_[key] = value;
    changed_.notify_all();
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout),
                      [&] { return values_.count(key) > 0 || !dead_.empty(); });
    if (values_.count(key) > 0) return values_[key];
    if (!dead_.empty()) return absl::AbortedError(dead_);
    return absl::DeadlineExceededError("not there");
  }
  void Die(const std::string& who) {
    const std::lock_guard<std::mutex> lock(mutex_);
    dead_ = who;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
  std::string dead_;
};

// Runs `body` as every rank, each a thread.
void InThreads(int size, const std::function<void(Collectives&)>& body) {
  auto store = std::make_shared<MemoryStore>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      absl::StatusOr<Collectives> collectives =
          ConnectCollectives({.rank = rank, .size = size, .store = store});
      ASSERT_TRUE(collectives.ok()) << collectives.status();
      EXPECT_EQ(collectives->rank(), rank);
      EXPECT_EQ(collectives->size(), size);
      body(*collectives);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CollectivesTest, SumsAreExactOnEveryRankForEverySize) {
  for (const int size : {1, 2, 3, 5}) {
    SCOPED_TRACE(size);
    InThreads(size, [size](Collectives& collectives) {
      for (const size_t n : {0, 1, 31, 32, 33, 255, 257, 100003}) {
        std::vector<float> data(n);
        for (size_t i = 0; i < n; ++i) {
          data[i] = static_cast<float>((collectives.rank() + 1) * static_cast<int>(i % 1000));
        }
        ASSERT_TRUE(collectives.AllReduceSum(data.data(), n).ok());
        const int factor = size * (size + 1) / 2;
        for (size_t i = 0; i < n; ++i) {
          ASSERT_EQ(data[i], static_cast<float>(factor * static_cast<int>(i % 1000))) << i;
        }
      }
    });
  }
}

TEST(CollectivesTest, RoundedSumsAreTheSameBitsOnEveryRank) {
  std::vector<std::vector<float>> results(3);
  InThreads(3, [&](Collectives& collectives) {
    std::vector<float> data(10007);
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = 1.0F / static_cast<float>(i * 3 + static_cast<size_t>(collectives.rank()) + 1);
    }
    ASSERT_TRUE(collectives.AllReduceSum(data.data(), data.size()).ok());
    results[static_cast<size_t>(collectives.rank())] = data;
  });
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(CollectivesTest, BroadcastGivesEveryRankTheRootsBytes) {
  InThreads(3, [](Collectives& collectives) {
    for (int root = 0; root < 3; ++root) {
      std::string data(70001, static_cast<char>('a' + collectives.rank()));
      ASSERT_TRUE(collectives.Broadcast(data.data(), data.size(), root).ok());
      EXPECT_EQ(data, std::string(70001, static_cast<char>('a' + root)));
    }
    EXPECT_EQ(collectives.Broadcast(nullptr, 0, 3).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(collectives.Barrier().ok());  // A wrong argument breaks nothing.
  });
}

TEST(CollectivesTest, NobodyLeavesABarrierBeforeTheLastHasCome) {
  std::atomic<int> came = 0;
  InThreads(4, [&](Collectives& collectives) {
    for (int round = 1; round <= 50; ++round) {
      ++came;
      ASSERT_TRUE(collectives.Barrier().ok());
      EXPECT_GE(came, 4 * round);
      ASSERT_TRUE(collectives.Barrier().ok());
    }
  });
}

TEST(CollectivesTest, AGroupOfOneNeedsNoStore) {
  Collectives collectives = *ConnectCollectives({});
  float value = 3;
  EXPECT_TRUE(collectives.AllReduceSum(&value, 1).ok());
  EXPECT_EQ(value, 3);
  EXPECT_TRUE(collectives.Barrier().ok());
  EXPECT_EQ(collectives.size(), 1);
}

TEST(CollectivesTest, WrongOptionsAreRefused) {
  EXPECT_EQ(ConnectCollectives({.rank = 2, .size = 2}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ConnectCollectives({.rank = 0, .size = 2}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CollectivesTest, ARankThatDoesNotComeIsNamed) {
  const absl::Status status = ConnectCollectives({.rank = 0,
                                                  .size = 2,
                                                  .store = std::make_shared<MemoryStore>(),
                                                  .connect_timeout = absl::Milliseconds(50)})
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 has not come"));
}

TEST(CollectivesTest, ADeathTheStoreKnowsOfEndsTheRendezvous) {
  auto store = std::make_shared<MemoryStore>();
  std::thread head([&] { store->Die("rank 1 died on node 6f1c2a"); });
  const absl::Status status = ConnectCollectives({.rank = 0, .size = 2, .store = store}).status();
  head.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 died on node 6f1c2a"));
}

TEST(CollectivesTest, AbortFromAnotherThreadEndsAWaitHereAndOnTheOtherRanks) {
  InThreads(3, [](Collectives& collectives) {
    float value = 1;
    ASSERT_TRUE(collectives.AllReduceSum(&value, 1).ok());
    std::thread aborter;
    if (collectives.rank() == 1) {
      aborter = std::thread([&] { collectives.Abort("told to leave"); });
    } else {
      const absl::Status status = collectives.AllReduceSum(&value, 1);
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("rank 1"), HasSubstr("told to leave")));
    }
    if (aborter.joinable()) aborter.join();
    const absl::Status later = collectives.Barrier();
    EXPECT_EQ(later.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(later.message()), HasSubstr("told to leave"));
  });
}

// Ranks that are processes, so that they can be killed.
class CollectivesProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string directory = (std::filesystem::temp_directory_path() / "muster_XXXXXX").string();
    ASSERT_NE(mkdtemp(directory.data()), nullptr);
    directory_ = directory;
    absl::StatusOr<std::unique_ptr<Store>> store = OpenFileStore(directory_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void TearDown() override {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
  }

  // Each rank sums until an error comes, and leaves what it saw in the store.
  void Start(int size, absl::Duration timeout, size_t n) {
    const pid_t parent = getpid();
    for (int rank = 0; rank < size; ++rank) {
      const pid_t pid = fork();
      ASSERT_GE(pid, 0);
      if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        _exit(SumUntilError(rank, size, timeout, n));
      }
      pids_.push_back(pid);
    }
  }

  int SumUntilError(int rank, int size, absl::Duration timeout, size_t n) {
    absl::StatusOr<Collectives> collectives =
        ConnectCollectives({.rank = rank,
                            .size = size,
                            .store = store_,
                            .name = absl::StrCat("node ", rank, ", pid ", getpid()),
                            .timeout = timeout});
    absl::Status status = collectives.status();
    std::vector<float> data(n, 1);
    for (int round = 0; status.ok(); ++round) {
      if (round == 3) status = store_->Set(absl::StrCat("summing/", rank), "yes");
      if (status.ok()) status = collectives->AllReduceSum(data.data(), n);
    }
    const absl::Status again = collectives.ok() ? collectives->Barrier() : status;
    if (again != status) status = absl::InternalError("the error did not stay");
    return store_->Set(absl::StrCat("result/", rank), status.ToString()).ok() ? 0 : 1;
  }

  void AwaitSumming(int size) {
    for (int rank = 0; rank < size; ++rank) {
      ASSERT_TRUE(store_->Get(absl::StrCat("summing/", rank), absl::Seconds(20)).ok());
    }
  }
  std::string Result(int rank) {
    const absl::StatusOr<std::string> text =
        store_->Get(absl::StrCat("result/", rank), absl::Seconds(5));
    return text.ok() ? *text : text.status().ToString();
  }

  std::string directory_;
  std::shared_ptr<Store> store_;
  std::vector<pid_t> pids_;
};

TEST_F(CollectivesProcessTest, ARankKilledWhileSummingIsNamedToAllOthersAtOnce) {
  for (const size_t n : {1, 1000, 1000000}) {
    SCOPED_TRACE(n);
    if (n != 1) {
      TearDown();
      pids_.clear();
      SetUp();
    }
    Start(4, absl::Seconds(30), n);
    AwaitSumming(4);
    const auto killed = std::chrono::steady_clock::now();
    ASSERT_EQ(kill(pids_[2], SIGKILL), 0);
    for (const int rank : {0, 1, 3}) {
      EXPECT_THAT(Result(rank), AllOf(HasSubstr("ABORTED"), HasSubstr("rank 2 (node 2, pid"),
                                      HasSubstr(absl::StrCat(pids_[2]))));
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - killed;
    EXPECT_LT(took.count(), 5.0);
    RecordProperty(absl::StrCat("milliseconds_", n), static_cast<int>(took.count() * 1000));
    for (const size_t rank : {size_t{0}, size_t{1}, size_t{3}}) {
      int status = 0;
      ASSERT_EQ(waitpid(pids_[rank], &status, 0), pids_[rank]);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << rank;
    }
    waitpid(pids_[2], nullptr, 0);
    pids_.clear();
  }
}

TEST_F(CollectivesProcessTest, AStoppedRankEndsTheOthersAfterTheTimeout) {
  Start(3, absl::Seconds(1), 1000);
  AwaitSumming(3);
  ASSERT_EQ(kill(pids_[1], SIGSTOP), 0);
  for (const int rank : {0, 2}) {
    EXPECT_THAT(Result(rank), HasSubstr("ABORTED"));
  }
}

TEST_F(CollectivesProcessTest, AStoreInADirectoryKeepsAnyKeyAndValue) {
  const std::string key = "../a/b c";
  const std::string value("x\0\ny", 4);
  EXPECT_EQ(store_->Get(key, absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(store_->Set(key, "first").ok());
  EXPECT_TRUE(store_->Set(key, value).ok());
  EXPECT_EQ(*store_->Get(key, absl::ZeroDuration()), value);
  absl::StatusOr<std::unique_ptr<Store>> again = OpenFileStore(directory_);
  EXPECT_EQ(*(*again)->Get(key, absl::ZeroDuration()), value);
  EXPECT_FALSE(OpenFileStore("/proc/no/such").ok());
}

}  // namespace
}  // namespace muster
