#include "runtime/cli/daemon_directory.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DaemonDirectoryTest : public ::testing::Test {
 protected:
  DaemonDirectoryTest() {
    char path[] = "/tmp/daemon_directory_test-XXXXXX";
    EXPECT_NE(mkdtemp(path), nullptr);
    temporary_ = path;
    setenv("TMPDIR", path, 1);
  }
  ~DaemonDirectoryTest() override {
    unsetenv("TMPDIR");
    fs::remove_all(temporary_);
  }

  std::string Base() const { return absl::StrCat(temporary_, "/muster-", getuid()); }
  // What a process leaves that is killed: its pid is free again, or another's by now.
  fs::path LeaveBehind(const std::string& name, std::chrono::hours age) const {
    const fs::path path = fs::path(Base()) / name;
    fs::copy(own_path_, path, fs::copy_options::recursive);
    std::ifstream in(path / "about.json");
    std::string about((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const size_t start = about.find("\"start\": ");
    EXPECT_NE(start, about.npos);
    about.insert(start + 9, "9");
    std::ofstream(path / "about.json") << about;
    fs::last_write_time(path / "about.json", fs::file_time_type::clock::now() - age);
    return path;
  }

  std::string temporary_;
  std::string own_path_;
};

TEST_F(DaemonDirectoryTest, IsFoundWhileItIsThereAndRemovedInTheEnd) {
  {
    absl::StatusOr<DaemonDirectory> directory = DaemonDirectory::Create("head", "");
    ASSERT_TRUE(directory.ok()) << directory.status();
    ASSERT_TRUE(directory->SetAddress("127.0.0.1:1234").ok());
    const std::vector<DaemonRecord> daemons = ListDaemons();
    ASSERT_THAT(daemons, SizeIs(1));
    EXPECT_EQ(daemons[0].kind, "head");
    EXPECT_EQ(daemons[0].address, "127.0.0.1:1234");
    EXPECT_EQ(daemons[0].path, directory->path());
    EXPECT_EQ(daemons[0].process.pid, getpid());
    EXPECT_TRUE(IsAlive(daemons[0].process));
    EXPECT_EQ(fs::status(Base()).permissions(), fs::perms::owner_all);
  }
  EXPECT_THAT(ListDaemons(), IsEmpty());
  EXPECT_TRUE(fs::is_empty(temporary_));
}

TEST_F(DaemonDirectoryTest, KeepsWhatItIsToldToKeep) {
  std::string path;
  {
    absl::StatusOr<DaemonDirectory> directory = DaemonDirectory::Create("worker", "a:1");
    ASSERT_TRUE(directory.ok()) << directory.status();
    directory->Keep();
    path = directory->path();
  }
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(DaemonDirectoryTest, RefusesAPlaceThatIsNotADirectoryOfOurs) {
  fs::create_symlink("/", Base());
  const absl::StatusOr<DaemonDirectory> directory = DaemonDirectory::Create("worker", "a:1");
  EXPECT_EQ(directory.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(directory.status().message()), HasSubstr(Base()));
  EXPECT_THAT(ListDaemons(), IsEmpty());
}

TEST_F(DaemonDirectoryTest, LeftoversGoAfterADayOrOnceThereAreMany) {
  absl::StatusOr<DaemonDirectory> own = DaemonDirectory::Create("worker", "a:1");
  ASSERT_TRUE(own.ok()) << own.status();
  own_path_ = own->path();
  const fs::path recent = LeaveBehind("worker-1-1", std::chrono::hours(1));
  const fs::path old = LeaveBehind("worker-1-2", std::chrono::hours(25));
  RemoveLeftovers();
  EXPECT_TRUE(fs::exists(recent));
  EXPECT_FALSE(fs::exists(old));
  for (int i = 0; i < 20; ++i) LeaveBehind(absl::StrCat("worker-2-", i), std::chrono::hours(0));
  RemoveLeftovers();
  EXPECT_FALSE(fs::exists(recent));  // The oldest.
  EXPECT_THAT(ListDaemons(), SizeIs(17));
  EXPECT_TRUE(fs::exists(own_path_));
}

TEST_F(DaemonDirectoryTest, DamagedRecordsAreNoDaemons) {
  absl::StatusOr<DaemonDirectory> own = DaemonDirectory::Create("worker", "a:1");
  ASSERT_TRUE(own.ok()) << own.status();
  for (const char* text :
       {"", "{", "[]", "{\"pid\": \"1\", \"start\": 2}", "{\"pid\": 1}", "null"}) {
    const fs::path path =
        fs::path(Base()) / absl::StrCat("worker-damaged-", std::string(text).size());
    fs::create_directories(path);
    std::ofstream(path / "about.json") << text;
  }
  EXPECT_THAT(ListDaemons(), SizeIs(1));
}

TEST_F(DaemonDirectoryTest, PrunesTheOldestLogsButNoFreshOnes) {
  const auto write = [&](const std::string& name, int bytes, std::chrono::minutes age) {
    const fs::path path = fs::path(temporary_) / name;
    std::ofstream(path) << std::string(static_cast<size_t>(bytes), 'x');
    fs::last_write_time(path, fs::file_time_type::clock::now() - age);
    return path;
  };
  const fs::path oldest = write("a", 10, std::chrono::minutes(9));
  const fs::path old = write("b", 10, std::chrono::minutes(8));
  const fs::path newer = write("c", 10, std::chrono::minutes(7));
  const fs::path fresh = write("d", 100, std::chrono::minutes(0));
  PruneLogs(temporary_, {.bytes_max = 1000, .files_max = 3});
  EXPECT_FALSE(fs::exists(oldest));
  EXPECT_TRUE(fs::exists(old));
  PruneLogs(temporary_, {.bytes_max = 110, .files_max = 100});
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(newer));
  PruneLogs(temporary_, {.bytes_max = 0, .files_max = 0});
  EXPECT_FALSE(fs::exists(newer));
  EXPECT_TRUE(fs::exists(fresh));
}

// A child that runs until it is killed; a zombie afterwards, until it is waited for.
class Child {
 public:
  Child() : pid_(fork()) {
    if (pid_ != 0) return;
    while (true) pause();
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  const pid_t pid_;
};

TEST(ProcessTest, AZombieIsGone) {
  const Child child;
  const Process process = FindProcess(child.pid());
  EXPECT_EQ(process.pid, child.pid());
  EXPECT_TRUE(IsAlive(process));
  EXPECT_THAT(WaitUntilGone({process}, absl::ZeroDuration()), SizeIs(1));
  EXPECT_THAT(End({process}, SIGKILL, absl::Seconds(20)), IsEmpty());
  EXPECT_FALSE(IsAlive(process));
  EXPECT_EQ(FindProcess(child.pid()).start, 0);
}

TEST(ProcessTest, AReusedPidIsNeverSignalled) {
  const Child child;
  Process earlier = FindProcess(child.pid());
  --earlier.start;  // It had the pid before.
  EXPECT_FALSE(IsAlive(earlier));
  EXPECT_FALSE(Signal(earlier, SIGKILL));
  EXPECT_THAT(End({earlier}, SIGKILL, absl::ZeroDuration()), IsEmpty());
  EXPECT_TRUE(IsAlive(FindProcess(child.pid())));
}

}  // namespace
}  // namespace muster::cli
