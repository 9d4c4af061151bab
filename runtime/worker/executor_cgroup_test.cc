#include "runtime/worker/executor_cgroup.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

namespace muster::worker {
namespace {

TEST(OwnCgroupTest, JoinsMountPointAndPath) {
  const std::string mountinfo =
      "25 1 0:20 / /sys rw - sysfs sysfs rw\n"
      "36 25 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
  EXPECT_EQ(OwnCgroup("0::/kubepods/pod1\n", mountinfo), "/sys/fs/cgroup/kubepods/pod1");
  EXPECT_EQ(OwnCgroup("0::/\n", mountinfo), "/sys/fs/cgroup");
}

TEST(OwnCgroupTest, MountOfASubtreeIsTakenOff) {
  EXPECT_EQ(OwnCgroup("0::/kubepods/pod1/inner\n",
                      "36 25 0:31 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            "/sys/fs/cgroup/inner");
}

TEST(OwnCgroupTest, NoneWithoutVersionTwo) {
  EXPECT_EQ(OwnCgroup("4:memory:/a\n", "36 25 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            "");
  EXPECT_EQ(OwnCgroup("0::/a\n", "36 25 0:31 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), "");
  EXPECT_EQ(OwnCgroup("", "nonsense - \n - cgroup2 \n"), "");
}

TEST(ExecutorCgroupTest, ProcessThatLeftItsGroupEndsToo) {
  char directory[] = "/tmp/muster-cgroup-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string mount_point = directory;
  if (mount("none", directory, "cgroup2", 0, nullptr) != 0) {
    rmdir(directory);
    GTEST_SKIP() << "no right to mount a cgroup hierarchy here";
  }
  int go[2];
  int held[2];  // Its write end is open for as long as any of the processes lives.
  ASSERT_EQ(pipe(go), 0);
  ASSERT_EQ(pipe(held), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    if (read(go[0], &byte, 1) != 1) _exit(2);  // Until it is in its cgroup.
    if (fork() == 0) setsid();                 // A daemon, out of reach of the group's signals.
    if (write(held[1], "x", 1) != 1) _exit(2);
    while (true) pause();
  }
  close(held[1]);
  {
    ExecutorCgroup cgroup(child);
    EXPECT_TRUE(cgroup.made());
    ASSERT_EQ(write(go[1], "x", 1), 1);
    char bytes[2];
    ASSERT_EQ(read(held[0], bytes, 1), 1);
    ASSERT_EQ(read(held[0], bytes, 1), 1);  // Both run.
    cgroup.Kill();
    EXPECT_EQ(read(held[0], bytes, 1), 0);  // Both are gone.
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  for (const int fd : {go[0], go[1], held[0]}) close(fd);
  umount(directory);
  rmdir(directory);
}

}  // namespace
}  // namespace muster::worker
