#include "runtime/worker/detect/detect_node.h"

#include <dlfcn.h>

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/worker/detect/testing/fake_nvml.h"
#include "runtime/worker/detect/testing/temp_dir.h"

namespace muster::worker {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

constexpr int64_t kGiB = int64_t{1} << 30;

// A machine of 8 CPUs and 4 GiB, with two L4 unless the test says otherwise.
class DetectNodeTest : public ::testing::Test {
 protected:
  DetectNodeTest() : handle_(dlopen(FAKE_NVML, RTLD_NOW | RTLD_LOCAL)) {
    root_.Write("proc/meminfo", "MemTotal: 4194304 kB\n");
    if (handle_ == nullptr) {
      ADD_FAILURE() << dlerror();
      return;
    }
    nvml_ = reinterpret_cast<FakeNvmlStateFn>(dlsym(handle_, kFakeNvmlStateFunction))();
    *nvml_ = FakeNvml{};
    nvml_->gpus = {{.name = "NVIDIA L4", .uuid = "GPU-a"}, {.name = "NVIDIA L4", .uuid = "GPU-b"}};
    options_.root = root_.path();
    options_.affinity_cpus = 8;
    options_.nvml_library = FAKE_NVML;
    options_.environment = [this](const std::string& name) -> std::optional<std::string> {
      const auto it = variables_.find(name);
      if (it == variables_.end()) return std::nullopt;
      return it->second;
    };
  }
  ~DetectNodeTest() override { dlclose(handle_); }

  DetectedNode Detect() {
    const absl::StatusOr<DetectedNode> node = DetectNode(options_);
    EXPECT_TRUE(node.ok()) << node.status();
    return node.value_or(DetectedNode{});
  }
  std::string Error() { return std::string(DetectNode(options_).status().message()); }

  TempDir root_;
  void* handle_;
  FakeNvml* nvml_ = nullptr;
  std::map<std::string, std::string> variables_;
  DetectOptions options_;
};

TEST_F(DetectNodeTest, DetectsAllThatIsNotGiven) {
  const DetectedNode node = Detect();
  EXPECT_EQ(node.resources.cpus, 8 * sched::Amount::kUnit);
  EXPECT_EQ(node.resources.memory_bytes, 4 * kGiB);
  EXPECT_EQ(node.resources.gpu_devices, 2);
  ASSERT_EQ(node.gpus.size(), 2);
  EXPECT_EQ(node.gpus[1].id, "GPU-b");
  EXPECT_THAT(node.labels, UnorderedElementsAre(Pair("ray.io/accelerator-type", "L4"),
                                                Pair("ray.io/accelerator", "L4")));
  EXPECT_THAT(node.notes, IsEmpty());
}

TEST_F(DetectNodeTest, WhatIsGivenStands) {
  options_.cpus = 5000;
  options_.gpus = 1;
  options_.memory_bytes = kGiB;
  options_.custom = {{"license", 20000}};
  options_.labels = "ray.io/accelerator-type=L4-special";
  const DetectedNode node = Detect();
  EXPECT_EQ(node.resources.cpus, 5000);
  EXPECT_EQ(node.resources.memory_bytes, kGiB);
  EXPECT_THAT(node.resources.custom, UnorderedElementsAre(Pair("license", 20000)));
  ASSERT_EQ(node.gpus.size(), 1);
  EXPECT_EQ(node.gpus[0].id, "GPU-a");
  EXPECT_EQ(node.labels.at("ray.io/accelerator"), "L4-special");
}

TEST_F(DetectNodeTest, NoGpusWantedMeansTheDriverIsNotAsked) {
  options_.gpus = 0;
  options_.nvml_library = "libno-such-driver.so.1";
  const DetectedNode node = Detect();
  EXPECT_THAT(node.gpus, IsEmpty());
  EXPECT_THAT(node.labels, IsEmpty());
  EXPECT_THAT(node.notes, IsEmpty());
}

TEST_F(DetectNodeTest, NoDriverMeansNoGpusAndOneLine) {
  options_.nvml_library = "libno-such-driver.so.1";
  const DetectedNode node = Detect();
  EXPECT_EQ(node.resources.gpu_devices, 0);
  EXPECT_THAT(node.notes, ElementsAre(StartsWith("no GPUs: no NVIDIA driver here")));
}

TEST_F(DetectNodeTest, MoreGpusThanThereAreArePretended) {
  options_.gpus = 3;
  const DetectedNode node = Detect();
  ASSERT_EQ(node.gpus.size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(node.gpus[i].pretended);
    EXPECT_EQ(node.gpus[i].id, std::to_string(i));
  }
  EXPECT_THAT(node.labels, IsEmpty());  // Of no type but what a label says.
  EXPECT_THAT(node.notes, ElementsAre("offers 3 pretended GPUs: 2 here"));
}

TEST_F(DetectNodeTest, PretendedGpusLeaveTheDriverAlone) {
  options_.gpus = 1;
  options_.pretend_gpus = true;
  const DetectedNode node = Detect();
  ASSERT_EQ(node.gpus.size(), 1);
  EXPECT_TRUE(node.gpus[0].pretended);
  EXPECT_THAT(node.notes, IsEmpty());
}

TEST_F(DetectNodeTest, MoreGpusThanTheEnvironmentLeavesAreRefused) {
  variables_["CUDA_VISIBLE_DEVICES"] = "1";
  EXPECT_EQ(Detect().gpus.at(0).id, "GPU-b");
  options_.gpus = 2;
  EXPECT_EQ(Error(), "gpus=2: CUDA_VISIBLE_DEVICES=1 leaves only 1");
}

TEST_F(DetectNodeTest, OfSeveralTypesTheFirstNamesTheNode) {
  nvml_->gpus[1].name = "Tesla T4";
  const DetectedNode node = Detect();
  EXPECT_EQ(node.labels.at("ray.io/accelerator-type"), "L4");
  EXPECT_THAT(
      node.notes,
      ElementsAre("GPUs of several types (L4, T4): ray.io/accelerator-type names the first only"));
  variables_["CUDA_VISIBLE_DEVICES"] = "1";
  EXPECT_EQ(Detect().labels.at("ray.io/accelerator-type"), "T4");
}

TEST_F(DetectNodeTest, MigInstancesAreDevicesOfTheirGpusType) {
  nvml_->gpus = {{.name = "NVIDIA A100-SXM4-40GB",
                  .uuid = "GPU-a",
                  .mig = true,
                  .slots = {{.name = "NVIDIA A100-SXM4-40GB MIG 1g.5gb", .uuid = "MIG-0"},
                            {.name = "NVIDIA A100-SXM4-40GB MIG 1g.5gb", .uuid = "MIG-1"}}}};
  const DetectedNode node = Detect();
  EXPECT_EQ(node.resources.gpu_devices, 2);
  EXPECT_EQ(node.labels.at("ray.io/accelerator-type"), "A100");
}

TEST_F(DetectNodeTest, BadOptionsAreErrors) {
  options_.gpus = -1;
  EXPECT_EQ(Error(), "gpus=-1: must be from 0 to 4096");
  options_.gpus = 0;
  options_.cpus = -1;
  EXPECT_THAT(Error(), HasSubstr("cpus="));
  options_.cpus = std::nullopt;
  options_.labels = "zone";
  EXPECT_THAT(Error(), StartsWith("--labels: "));
  options_.labels.clear();
  options_.root = root_.path() + "/nowhere";
  EXPECT_EQ(DetectNode(options_).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DetectNodeTest, NotesOfAllPartsAreKept) {
  root_.Write("proc/self/cgroup", "0::/\n");
  root_.Write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  root_.Write("sys/fs/cgroup/cpu.max", "garbage\n");
  nvml_->gpus[0].handle_rc = nvml::kGpuIsLost;
  EXPECT_THAT(Detect().notes, ElementsAre(HasSubstr("cpu.max says \"garbage\""),
                                          HasSubstr("GPU 0 is not offered")));
}

TEST(ThisNodeTest, IsDetectedWithoutOptions) {
  const absl::StatusOr<DetectedNode> node = DetectNode({});
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_GE(node->resources.cpus, sched::Amount::kUnit);
  EXPECT_GT(node->resources.memory_bytes, 0);
  if (node->gpus.empty()) {
    EXPECT_THAT(node->notes, Contains(StartsWith("no GPUs: ")));
  }
}

}  // namespace
}  // namespace muster::worker
