#include "scheduler/devices.h"

#include <gtest/gtest.h>

namespace muster::sched {
namespace {

constexpr int64_t kUnit = Amount::kUnit;
using Shares = GpuShares;

TEST(DevicesTest, WholeGpusTakeTheLowestEmptyDevices) {
  Devices devices(4);
  EXPECT_EQ(devices.Take(kUnit), (Shares{{0, kUnit}}));
  EXPECT_EQ(devices.Take(2 * kUnit), (Shares{{1, kUnit}, {2, kUnit}}));
  EXPECT_FALSE(devices.Fits(2 * kUnit));
  devices.Give({{1, kUnit}});
  EXPECT_EQ(devices.Take(2 * kUnit), (Shares{{1, kUnit}, {3, kUnit}}));
  EXPECT_EQ(devices.free(), 0);
}

TEST(DevicesTest, AShareTakesTheFullestDeviceWithRoom) {
  Devices devices(3);
  EXPECT_EQ(devices.Take(3000), (Shares{{0, 3000}}));  // A tie of empty ones: the lowest.
  EXPECT_EQ(devices.Take(8000), (Shares{{1, 8000}}));
  EXPECT_EQ(devices.LeftOnDevice(2000), 0);
  EXPECT_EQ(devices.Take(2000), (Shares{{1, 2000}}));
  EXPECT_EQ(devices.Take(2000), (Shares{{0, 2000}}));
  EXPECT_EQ(devices.empty_devices(), 1);
  EXPECT_FALSE(devices.Fits(2 * kUnit));
}

TEST(DevicesTest, HalvesOfTwoDevicesAreNotAWhole) {
  Devices devices(2);
  devices.Take(5000);
  devices.Take(6000);
  EXPECT_EQ(devices.free(), 9000);
  EXPECT_FALSE(devices.Fits(kUnit));
  EXPECT_FALSE(devices.Fits(6000));
  EXPECT_TRUE(devices.Fits(5000));
}

TEST(DevicesTest, CountIsWhatTakingOneByOneGives) {
  for (const int64_t gpus : {int64_t{2500}, int64_t{3000}, int64_t{6000}, kUnit, 2 * kUnit}) {
    Devices devices(4);
    devices.Take(3000);
    const int64_t count = devices.Count(gpus, 100);
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(devices.Fits(gpus));
      devices.Take(gpus);
    }
    EXPECT_FALSE(devices.Fits(gpus)) << gpus;
  }
  EXPECT_EQ(Devices(4).Count(kUnit, 3), 3);
  EXPECT_EQ(Devices(0).Count(0, 3), 3);
}

TEST(DevicesTest, TakesExactlyOrNothing) {
  Devices devices(2);
  EXPECT_TRUE(devices.TakeExactly({{1, 4000}}));
  EXPECT_FALSE(devices.TakeExactly({{0, kUnit}, {1, 7000}}));
  EXPECT_FALSE(devices.TakeExactly({{2, 1000}}));
  EXPECT_FALSE(devices.TakeExactly({{-1, 1000}}));
  EXPECT_FALSE(devices.TakeExactly({{0, -1000}}));
  EXPECT_EQ(devices.free(0), kUnit);
  EXPECT_EQ(devices.free(1), 6000);
}

TEST(DevicesTest, OutKeepsAsideWhatIsGivenBack) {
  Devices devices(2);
  const GpuShares half = devices.Take(5000);
  devices.SetOut(0, true);
  EXPECT_EQ(devices.free(0), 0);
  EXPECT_EQ(devices.free(), Amount::kUnit);
  EXPECT_EQ(devices.kept_aside(), 5000);
  EXPECT_EQ(devices.Take(5000)[0].device, 1);  // The rest of the first is not handed out.
  EXPECT_FALSE(devices.Fits(Amount::kUnit));
  const Devices copy = devices;
  devices.Give(half);
  EXPECT_EQ(devices.free(0), 0);
  EXPECT_EQ(devices.kept_aside(), Amount::kUnit);
  EXPECT_EQ(copy.kept_aside(), 5000);  // A copy is one of its own.
  devices.SetOut(0, false);
  EXPECT_EQ(devices.free(0), Amount::kUnit);
  EXPECT_EQ(devices.kept_aside(), 0);
}

}  // namespace
}  // namespace muster::sched
