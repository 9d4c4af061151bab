#include "runtime/worker/detect/machine.h"

#include <sched.h>

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/worker/detect/testing/temp_dir.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kGiB = int64_t{1} << 30;

// A machine of files: 16 CPUs and 32 GiB, unless cgroups say less.
class MachineTest : public ::testing::Test {
 protected:
  MachineTest() {
    Write("/proc/meminfo", "MemTotal:       33554432 kB\nMemFree:         1048576 kB\n");
  }

  void Write(const std::string& path, const std::string& text) { root_.Write(path, text); }

  void MountV2(const std::string& cgroup, const std::string& mount_root = "/") {
    Write("/proc/self/cgroup", "0::" + cgroup + "\n");
    Write("/proc/self/mountinfo",
          "24 1 0:22 / /proc rw,nosuid shared:5 - proc proc rw\n"
          "30 23 0:26 " +
              mount_root + " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  }

  void MountV1(const std::string& cgroup, const std::string& mount_root = "/") {
    Write("/proc/self/cgroup",
          "5:memory:" + cgroup + "\n4:cpu,cpuacct:" + cgroup + "\n3:cpuset:" + cgroup + "\n");
    Write("/proc/self/mountinfo",
          "31 30 0:27 " + mount_root +
              " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
              "32 30 0:28 " +
              mount_root +
              " /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
              "33 30 0:29 " +
              mount_root + " /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
  }

  Machine Detect(int affinity_cpus = 16) {
    const absl::StatusOr<Machine> machine =
        DetectMachine({.root = root_.path(), .affinity_cpus = affinity_cpus});
    EXPECT_TRUE(machine.ok()) << machine.status();
    return machine.value_or(Machine{});
  }

  TempDir root_;
};

TEST_F(MachineTest, WithoutCgroupsTheMachineIsAllThereIs) {
  const Machine machine = Detect(3);
  EXPECT_EQ(machine.cpus, 3);
  EXPECT_EQ(machine.memory_bytes, 32 * kGiB);
  EXPECT_THAT(machine.notes, IsEmpty());
}

TEST_F(MachineTest, V2LimitsCount) {
  MountV2("/kubepods/pod1/c1");
  Write("/sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "400000 100000\n");
  Write("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "8589934592\n");
  const Machine machine = Detect();
  EXPECT_EQ(machine.cpus, 4);
  EXPECT_EQ(machine.memory_bytes, 8 * kGiB);
}

TEST_F(MachineTest, TheTightestLimitOnTheWayUpCounts) {
  MountV2("/kubepods/pod1/c1");
  Write("/sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/kubepods/pod1/cpu.max", "300000 100000\n");
  Write("/sys/fs/cgroup/kubepods/cpu.max", "1500000 100000\n");
  Write("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max\n");
  Write("/sys/fs/cgroup/kubepods/memory.max", "4294967296\n");
  const Machine machine = Detect();
  EXPECT_EQ(machine.cpus, 3);
  EXPECT_EQ(machine.memory_bytes, 4 * kGiB);
}

TEST_F(MachineTest, QuotasAreRoundedDownButNeverToNothing) {
  MountV2("/");
  Write("/sys/fs/cgroup/cpu.max", "250000 100000\n");
  EXPECT_EQ(Detect().cpus, 2);
  Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(Detect().cpus, 1);
  Write("/sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(Detect().cpus, 16);
}

TEST_F(MachineTest, CpusetsAndAffinityCount) {
  MountV2("/a");
  Write("/sys/fs/cgroup/a/cpuset.cpus.effective", "0-3,8\n");
  EXPECT_EQ(Detect(16).cpus, 5);
  EXPECT_EQ(Detect(2).cpus, 2);
  Write("/sys/fs/cgroup/a/cpuset.cpus.effective", "\n");  // Not delegated: no limit.
  EXPECT_EQ(Detect(16).cpus, 16);
}

TEST_F(MachineTest, V1LimitsCount) {
  MountV1("/docker/abc");
  Write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "200000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "50000\n");
  Write("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1073741824\n");
  Machine machine = Detect();
  EXPECT_EQ(machine.cpus, 4);
  EXPECT_EQ(machine.memory_bytes, kGiB);
  Write("/sys/fs/cgroup/cpuset/docker/abc/cpuset.effective_cpus", "0-2\n");
  EXPECT_EQ(Detect().cpus, 3);
}

TEST_F(MachineTest, V1WithoutLimitsLimitsNothing) {
  MountV1("/");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const Machine machine = Detect();
  EXPECT_EQ(machine.cpus, 16);
  EXPECT_EQ(machine.memory_bytes, 32 * kGiB);
  EXPECT_THAT(machine.notes, IsEmpty());
}

TEST_F(MachineTest, AContainerThatSeesTheHostsPathReadsItsOwnMount) {
  MountV1("/docker/abc/job", "/docker/abc");
  Write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(Detect().memory_bytes, kGiB);
  MountV1("/system.slice", "/docker/abc");  // The path lies outside what is mounted.
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
  EXPECT_EQ(Detect().memory_bytes, 2 * kGiB);
  MountV1("/docker/abcdef", "/docker/abc");  // Not below it either, for all the shared letters.
  EXPECT_EQ(Detect().memory_bytes, 2 * kGiB);
}

TEST_F(MachineTest, APathOutsideTheNamespaceIsNotFollowed) {
  MountV2("/../../other");
  Write("/sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(Detect().cpus, 1);
}

TEST_F(MachineTest, GarbageSetsNoLimitAndLeavesANote) {
  MountV2("/");
  Write("/sys/fs/cgroup/cpu.max", "lots 0\n");
  Write("/sys/fs/cgroup/memory.max", "-7\n");
  Write("/sys/fs/cgroup/cpuset.cpus.effective", "3-1\n");
  const Machine machine = Detect();
  EXPECT_EQ(machine.cpus, 16);
  EXPECT_EQ(machine.memory_bytes, 32 * kGiB);
  EXPECT_THAT(machine.notes, ElementsAre(HasSubstr("cpuset.cpus.effective says \"3-1\""),
                                         HasSubstr("cpu.max says \"lots 0\""),
                                         HasSubstr("memory.max says \"-7\"")));
}

TEST_F(MachineTest, AMachineWithoutMemTotalIsAnError) {
  Write("/proc/meminfo", "MemFree: 12 kB\n");
  EXPECT_EQ(DetectMachine({.root = root_.path()}).status().code(), absl::StatusCode::kUnavailable);
  std::filesystem::remove(root_.path() + "/proc/meminfo");
  EXPECT_THAT(std::string(DetectMachine({.root = root_.path()}).status().message()),
              HasSubstr("cannot read " + root_.path() + "/proc/meminfo"));
}

TEST(CpuListTest, CountsRangesAndRefusesTheRest) {
  EXPECT_EQ(CountCpuList("0"), 1);
  EXPECT_EQ(CountCpuList("0-3,8,10-11"), 7);
  for (const char* bad : {"", "a", "1-", "-1", "3-1", "1,,2", "1-2-3", "0-2147483647"}) {
    EXPECT_EQ(CountCpuList(bad), std::nullopt) << bad;
  }
}

TEST(ThisMachineTest, HasNoMoreCpusThanItsAffinityAllows) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  const absl::StatusOr<Machine> machine = DetectMachine();
  ASSERT_TRUE(machine.ok()) << machine.status();
  EXPECT_GE(machine->cpus, 1);
  EXPECT_LE(machine->cpus, CPU_COUNT(&set));
  EXPECT_GT(machine->memory_bytes, 0);
}

}  // namespace
}  // namespace muster::worker
