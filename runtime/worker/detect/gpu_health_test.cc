#include "runtime/worker/detect/gpu_health.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/worker/detect/testing/fake_nvml.h"

namespace muster::worker {
namespace {

class GpuHealthTest : public ::testing::TestWithParam<const char*> {
 protected:
  GpuHealthTest() : handle_(dlopen(GetParam(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
    nvml_ = reinterpret_cast<FakeNvmlStateFn>(dlsym(handle_, kFakeNvmlStateFunction))();
    *nvml_ = FakeNvml{};
    nvml_->gpus = {{.name = "NVIDIA L4", .uuid = "GPU-a"}, {.name = "NVIDIA L4", .uuid = "GPU-b"}};
    devices_ = {{.id = "GPU-a", .index = 0}, {.id = "GPU-b", .index = 1}};
  }
  ~GpuHealthTest() override {
    health_.reset();
    EXPECT_EQ(nvml_->open, 0);
    EXPECT_EQ(nvml_->event_sets, 0);
    dlclose(handle_);
  }
  void Open() {
    health_ = GpuHealth::Open(devices_, notes_, GetParam());
    ASSERT_NE(health_, nullptr);
  }
  std::string Found() {
    std::string text;
    for (const GpuTrouble& trouble : health_->Wait(absl::ZeroDuration())) {
      absl::StrAppend(&text, trouble.device, " ", trouble.reason, "; ");
    }
    return text;
  }

  void* handle_ = nullptr;
  FakeNvml* nvml_ = nullptr;
  std::vector<GpuDevice> devices_;
  std::vector<std::string> notes_;
  std::unique_ptr<GpuHealth> health_;
};

TEST_P(GpuHealthTest, CriticalErrorsAreToldOnceOfTheirGpu) {
  Open();
  EXPECT_EQ(Found(), "");
  nvml_->xids = {{1, 79}, {1, 48}};
  EXPECT_EQ(Found(), "1 xid 79; ");
  nvml_->xids = {{1, 79}, {0, 48}};
  EXPECT_EQ(Found(), "0 xid 48; ");
}

TEST_P(GpuHealthTest, ErrorsOfProgramsAreNone) {
  Open();
  nvml_->xids = {{0, 13}, {0, 31}, {1, 43}, {1, 45}, {0, 68}, {0, 109}};
  EXPECT_EQ(Found(), "");
}

TEST_P(GpuHealthTest, AllInstancesOfADividedGpuAreTold) {
  devices_ = {
      {.id = "MIG-1", .index = 1}, {.id = "MIG-2", .index = 1}, {.id = "GPU-a", .index = 0}};
  Open();
  nvml_->xids = {{1, 79}};
  EXPECT_EQ(Found(), "0 xid 79; 1 xid 79; ");
}

TEST_P(GpuHealthTest, LostGpuIsTold) {
  Open();
  nvml_->gpus[0].handle_rc = nvml::kGpuIsLost;
  EXPECT_EQ(Found(), "0 GPU is lost; ");
  EXPECT_EQ(Found(), "");
}

TEST_P(GpuHealthTest, GpuThatTellsNothingIsNoted) {
  nvml_->listen_rc = nvml::kNotSupported;
  Open();
  EXPECT_EQ(notes_, (std::vector<std::string>{"the driver tells no errors of GPU 0",
                                              "the driver tells no errors of GPU 1"}));
}

TEST_P(GpuHealthTest, NothingIsWatchedWithoutRealDevices) {
  devices_ = {{.id = "0", .pretended = true}};
  EXPECT_EQ(GpuHealth::Open(devices_, notes_, GetParam()), nullptr);
  devices_ = {{.id = "GPU-a"}};
  EXPECT_EQ(GpuHealth::Open(devices_, notes_, "libno-such-driver.so.1"), nullptr);
  nvml_->init_rc = nvml::kDriverNotLoaded;
  EXPECT_EQ(GpuHealth::Open(devices_, notes_, GetParam()), nullptr);
  EXPECT_EQ(notes_,
            std::vector<std::string>{"GPUs are not watched: the NVIDIA driver does not answer"});
}

INSTANTIATE_TEST_SUITE_P(Drivers, GpuHealthTest,
                         ::testing::Values(FAKE_NVML, FAKE_NVML_BEFORE_MIG));

using GpuHealthOfToday = GpuHealthTest;

TEST_P(GpuHealthOfToday, RowsThatCannotBeRemappedAreTold) {
  Open();
  nvml_->gpus[1].remapping_failed = true;
  EXPECT_EQ(Found(), "1 rows could not be remapped; ");
}

INSTANTIATE_TEST_SUITE_P(Driver, GpuHealthOfToday, ::testing::Values(FAKE_NVML));

}  // namespace
}  // namespace muster::worker
