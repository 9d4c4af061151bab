#include "runtime/worker/detect/gpus.h"

#include <dlfcn.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/worker/detect/testing/fake_nvml.h"
#include "runtime/worker/detect/visible_devices.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr unsigned long long kGiB = 1ull << 30;  // NOLINT(google-runtime-int)

class GpusTest : public ::testing::Test {
 protected:
  explicit GpusTest(const char* library = FAKE_NVML) : library_(library) {
    handle_ = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) {
      ADD_FAILURE() << dlerror();
      return;
    }
    const auto function = reinterpret_cast<FakeNvmlStateFn>(dlsym(handle_, kFakeNvmlStateFunction));
    state_ = function();
    *state_ = FakeNvml{};
  }
  ~GpusTest() override {
    EXPECT_EQ(state_->open, 0) << "NVML was not shut down";
    dlclose(handle_);
  }

  Gpus Detect() const { return DetectGpus(library_); }

  const std::string library_;
  void* handle_ = nullptr;
  FakeNvml* state_ = nullptr;
};

class OldDriverTest : public GpusTest {
 protected:
  OldDriverTest() : GpusTest(FAKE_NVML_BEFORE_MIG) {}
};

std::vector<std::string> Ids(const Gpus& gpus) {
  std::vector<std::string> ids;
  for (const GpuDevice& device : gpus.devices) ids.push_back(device.id);
  return ids;
}

FakeDevice A100InSlices() {
  return {.name = "NVIDIA A100-SXM4-40GB",
          .uuid = "GPU-b",
          .memory_bytes = 40 * kGiB,
          .mig = true,
          .slots = {{.name = "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
                     .uuid = "MIG-b0",
                     .memory_bytes = 20 * kGiB},
                    {},
                    {.name = "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
                     .uuid = "MIG-b2",
                     .memory_bytes = 5 * kGiB}}};
}

TEST_F(GpusTest, EachGpuIsADevice) {
  state_->gpus = {{.name = "NVIDIA L4", .uuid = "GPU-a", .memory_bytes = 24 * kGiB},
                  {.name = "Tesla T4", .uuid = "GPU-b", .memory_bytes = 16 * kGiB}};
  const Gpus gpus = Detect();
  ASSERT_THAT(Ids(gpus), ElementsAre("GPU-a", "GPU-b"));
  EXPECT_EQ(gpus.devices[0].model, "NVIDIA L4");
  EXPECT_EQ(gpus.devices[0].memory_bytes, 24 * kGiB);
  EXPECT_EQ(gpus.devices[1].index, 1);
  EXPECT_EQ(gpus.devices[1].gpu_id, "GPU-b");
  EXPECT_FALSE(gpus.devices[1].pretended);
  EXPECT_THAT(gpus.notes, IsEmpty());
}

TEST_F(GpusTest, MigInstancesStandForTheirGpu) {
  state_->gpus = {{.name = "NVIDIA L4", .uuid = "GPU-a", .memory_bytes = 24 * kGiB},
                  A100InSlices()};
  const Gpus gpus = Detect();
  ASSERT_THAT(Ids(gpus), ElementsAre("GPU-a", "MIG-b0", "MIG-b2"));
  const GpuDevice& slice = gpus.devices[2];
  EXPECT_EQ(slice.gpu_id, "GPU-b");
  EXPECT_EQ(slice.index, 1);
  EXPECT_EQ(slice.model, "NVIDIA A100-SXM4-40GB");
  EXPECT_EQ(slice.mig_profile, "1g.5gb");
  EXPECT_EQ(slice.memory_bytes, 5 * kGiB);
  EXPECT_THAT(gpus.notes, IsEmpty());
}

TEST_F(GpusTest, MigModeWithoutInstancesOffersNothing) {
  state_->gpus = {{.name = "NVIDIA H100", .uuid = "GPU-a", .mig = true, .slots = {{}, {}}}};
  const Gpus gpus = Detect();
  EXPECT_THAT(gpus.devices, IsEmpty());
  EXPECT_THAT(
      gpus.notes,
      ElementsAre("GPU 0 (GPU-a) is not offered: its MIG mode is on, but it has no instances"));
}

TEST_F(GpusTest, AFailingInstanceIsLeftOut) {
  FakeDevice gpu = A100InSlices();
  gpu.slots[0].uuid_rc = nvml::kGpuIsLost;
  gpu.slots[2].handle_rc = nvml::kGpuIsLost;
  state_->gpus = {gpu};
  Gpus gpus = Detect();
  EXPECT_THAT(gpus.devices, IsEmpty());
  EXPECT_THAT(gpus.notes,
              ElementsAre("MIG instance 0 of GPU 0 (GPU-b) is not offered: GPU is lost (15)",
                          "MIG instance 2 of GPU 0 (GPU-b) is not offered: GPU is lost (15)"));
  gpu.mig_count_rc = nvml::kGpuIsLost;
  state_->gpus = {gpu};
  gpus = Detect();
  EXPECT_THAT(gpus.devices, IsEmpty());
  EXPECT_THAT(gpus.notes,
              ElementsAre(HasSubstr("its MIG instances cannot be counted: GPU is lost")));
}

TEST_F(GpusTest, ALostGpuIsLeftOutAndTheOthersStay) {
  state_->gpus = {{.name = "NVIDIA L4", .uuid = "GPU-a", .handle_rc = nvml::kGpuIsLost},
                  {.name = "NVIDIA L4", .uuid = "GPU-b", .uuid_rc = nvml::kGpuIsLost},
                  {.name = "NVIDIA L4", .uuid = "GPU-c"}};
  const Gpus gpus = Detect();
  EXPECT_THAT(Ids(gpus), ElementsAre("GPU-c"));
  EXPECT_EQ(gpus.devices[0].index, 2);
  EXPECT_THAT(gpus.notes, ElementsAre("GPU 0 is not offered: GPU is lost (15)",
                                      "GPU 1 is not offered: GPU is lost (15)"));
}

TEST_F(GpusTest, UnknownMemoryIsZeroAndOnlyAFailureIsNoted) {
  state_->gpus = {{.name = "NVIDIA GB10", .uuid = "GPU-a", .memory_rc = nvml::kNotSupported},
                  {.name = "NVIDIA L4", .uuid = "GPU-b", .memory_rc = nvml::kGpuIsLost}};
  const Gpus gpus = Detect();
  EXPECT_EQ(gpus.devices.size(), 2);
  EXPECT_EQ(gpus.devices[0].memory_bytes, 0);
  EXPECT_THAT(gpus.notes, ElementsAre("GPU 1 (GPU-b) does not say its memory: GPU is lost (15)"));
}

TEST_F(GpusTest, ADriverThatFailsMeansNoGpusAndOneLine) {
  state_->init_rc = nvml::kDriverNotLoaded;
  EXPECT_THAT(Detect().notes,
              ElementsAre("no GPUs: the NVIDIA driver does not answer: Some error (9)"));
  state_->init_rc = nvml::kSuccess;
  state_->count_rc = nvml::kDriverNotLoaded;
  EXPECT_THAT(Detect().notes, ElementsAre("no GPUs: NVML cannot count them: Some error (9)"));
  state_->count_rc = nvml::kSuccess;
  EXPECT_THAT(Detect().notes, ElementsAre("no GPUs: the NVIDIA driver finds none"));
}

TEST_F(GpusTest, AnOverlongAnswerIsAnErrorOfThatGpu) {
  state_->gpus = {{.name = std::string(96, 'x'), .uuid = "GPU-a"}};
  EXPECT_THAT(Detect().notes, ElementsAre("GPU 0 is not offered: Some error (7)"));
}

TEST_F(OldDriverTest, DriversBeforeMigStillHaveGpus) {
  state_->gpus = {{.name = "Tesla V100-SXM2-16GB", .uuid = "GPU-a", .mig = true}};
  EXPECT_THAT(Ids(Detect()), ElementsAre("GPU-a"));
}

TEST(NoDriverTest, MeansNoGpusAndOneLine) {
  Gpus gpus = DetectGpus("libno-such-driver.so.1");
  EXPECT_THAT(gpus.devices, IsEmpty());
  EXPECT_THAT(gpus.notes,
              ElementsAre(StartsWith("no GPUs: no NVIDIA driver here (libno-such-driver")));
  gpus = DetectGpus("libm.so.6");
  EXPECT_THAT(gpus.notes, ElementsAre("no GPUs: libm.so.6 has no nvmlInit_v2"));
}

TEST(AcceleratorTypeTest, IsRaysShortName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"NVIDIA L4", "L4"},
      {"NVIDIA L40S", "L40S"},
      {"NVIDIA A10G", "A10G"},
      {"Tesla T4", "T4"},
      {"Tesla P4", "P4"},
      {"Tesla K80", "K80"},
      {"Tesla V100-SXM2-16GB", "V100"},
      {"Tesla P100-PCIE-16GB", "P100"},
      {"NVIDIA A100-SXM4-80GB", "A100"},
      {"NVIDIA A100-SXM4-40GB", "A100"},
      {"A100-SXM4-40GB", "A100-SXM4-40GB"},
      {"NVIDIA H100 80GB HBM3", "H100"},
      {"NVIDIA H200", "H200"},
      {"NVIDIA H20", "H20"},
      {"NVIDIA B200", "B200"},
      {"NVIDIA GH200 480GB", "GH200"},
      {"NVIDIA GB200", "GB200"},
      {"NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"},
      {"NVIDIA RTX 6000 Ada Generation", "RTX-6000"},
      {"NVIDIA RTX A6000", "RTX-A6000"},
      {"NVIDIA GeForce RTX 4090", "GeForce-RTX-4090"},
      {"NVIDIA TITAN V", "TITAN-V"},
      {"", ""},
      {"NVIDIA ", ""}};
  for (const auto& [model, type] : cases) EXPECT_EQ(AcceleratorType(model), type) << model;
}

TEST(AcceleratorTypeTest, IsAlwaysALegalLabelValue) {
  EXPECT_EQ(AcceleratorType("Some (new) GPU\t#9!"), "Some--new--GPU--9");
  EXPECT_EQ(AcceleratorType(std::string(80, 'x')), std::string(63, 'x'));
  EXPECT_EQ(AcceleratorType("NVIDIA ***"), "");
}

// --- What the environment lets through ---

Gpus FourGpusAndSlices() {
  Gpus gpus;
  for (int i = 0; i < 3; ++i) {
    GpuDevice device;
    device.id = device.gpu_id = "GPU-" + std::string(3, static_cast<char>('a' + i));
    device.index = i;
    gpus.devices.push_back(device);
  }
  for (const char* id : {"MIG-dd0", "MIG-dd1"}) {
    GpuDevice device;
    device.id = id;
    device.gpu_id = "GPU-abd";
    device.index = 3;
    gpus.devices.push_back(device);
  }
  return gpus;
}

std::vector<std::string> CudaSees(const std::string& visible) {
  return Ids(Restrict(FourGpusAndSlices(), {.cuda = visible}));
}

std::vector<std::string> NvidiaSees(const std::string& visible) {
  return Ids(Restrict(FourGpusAndSlices(), {.nvidia = visible}));
}

TEST(VisibleDevicesTest, NothingSetMeansAll) {
  const Gpus gpus = Restrict(FourGpusAndSlices(), {});
  EXPECT_EQ(gpus.devices.size(), 5);
  EXPECT_THAT(gpus.notes, IsEmpty());
}

TEST(VisibleDevicesTest, CudaTakesIndexesUuidsAndPrefixesInOrder) {
  EXPECT_THAT(CudaSees("2,0"), ElementsAre("GPU-ccc", "GPU-aaa"));
  EXPECT_THAT(CudaSees("GPU-bbb, 1 ,GPU-c"), ElementsAre("GPU-bbb", "GPU-ccc"));
  EXPECT_THAT(CudaSees("MIG-dd1"), ElementsAre("MIG-dd1"));
  EXPECT_THAT(CudaSees("3"), ElementsAre("MIG-dd0", "MIG-dd1"));
  EXPECT_THAT(CudaSees("GPU-abd"), ElementsAre("MIG-dd0", "MIG-dd1"));
  EXPECT_THAT(CudaSees(""), IsEmpty());
  EXPECT_THAT(CudaSees("NoDevFiles"), IsEmpty());
}

TEST(VisibleDevicesTest, CudasListEndsAtWhatNamesNoDevice) {
  EXPECT_THAT(CudaSees("0,-1,1"), ElementsAre("GPU-aaa"));
  EXPECT_THAT(CudaSees("0,9"), ElementsAre("GPU-aaa"));
  EXPECT_THAT(CudaSees("GPU-a"), IsEmpty());  // Two begin so.
  EXPECT_THAT(CudaSees("G"), IsEmpty());
  EXPECT_THAT(CudaSees(",0"), IsEmpty());
  const Gpus gpus = Restrict(FourGpusAndSlices(), {.cuda = "0,9"});
  EXPECT_THAT(
      gpus.notes,
      ElementsAre("CUDA_VISIBLE_DEVICES=0,9: \"9\" names no GPU here; the list ends before it, "
                  "as in CUDA",
                  "offers 1 of 5 GPUs: CUDA_VISIBLE_DEVICES=0,9"));
}

TEST(VisibleDevicesTest, NvidiasUuidsCountAndItsOtherWordsDoNot) {
  EXPECT_THAT(NvidiaSees("GPU-ccc,MIG-dd0"), ElementsAre("GPU-ccc", "MIG-dd0"));
  EXPECT_THAT(NvidiaSees("GPU-abd"), ElementsAre("MIG-dd0", "MIG-dd1"));
  for (const char* acted_upon : {"all", "void", "none", "", "1", "0,2", "3:0"}) {
    EXPECT_EQ(NvidiaSees(acted_upon).size(), 5) << acted_upon;
  }
}

TEST(VisibleDevicesTest, BothTogetherRestrict) {
  const Gpus gpus = Restrict(FourGpusAndSlices(), {.cuda = "1,2", .nvidia = "GPU-bbb"});
  EXPECT_THAT(Ids(gpus), ElementsAre("GPU-bbb"));
}

}  // namespace
}  // namespace muster::worker
