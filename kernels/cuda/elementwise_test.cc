#include "kernels/cuda/elementwise.h"

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "kernels/gelu.h"
#include "kernels/test_util.h"

namespace muster::kernels {
namespace {

// Device memory that starts as a copy of `values`.
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<float>& values) : size_(values.size()) {
    EXPECT_EQ(cudaMalloc(&data_, (size_ + 1) * sizeof(float)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, values.data(), size_ * sizeof(float), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  float* get() const { return static_cast<float*>(data_); }
  std::vector<float> Read() const {
    std::vector<float> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, size_ * sizeof(float), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return values;
  }

 private:
  size_t size_ = 0;
  void* data_ = nullptr;
};

class CudaElementwiseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaSuccess && devices > 0) return;
    const char* required = std::getenv("MUSTER_REQUIRE_GPU");
    if (required != nullptr && std::string(required) == "1") {
      FAIL() << "MUSTER_REQUIRE_GPU=1, and CUDA says: " << cudaGetErrorString(error);
    }
    GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

TEST_F(CudaElementwiseTest, GeluMatchesReference) {
  for (const size_t n : kSizes) {
    SCOPED_TRACE(n);
    TestRandom random(n + 1);
    const std::vector<float> x = random.Floats(n, -12, 12);
    const std::vector<float> dy = random.Floats(n, -1, 1);
    const DeviceArray device_x(x);
    const DeviceArray device_d(dy);
    const DeviceArray device_y(x);
    std::vector<double> want(n);
    ASSERT_TRUE(cuda::GeluForward(n, device_x.get(), device_y.get(), nullptr).ok());
    ref::GeluForward(Doubles(x), want);
    ExpectNear(device_y.Read(), want, 1e-6);
    ASSERT_TRUE(
        cuda::GeluBackward(n, device_x.get(), device_d.get(), device_d.get(), nullptr).ok());
    ref::GeluBackward(Doubles(x), Doubles(dy), want);
    ExpectNear(device_d.Read(), want, 1e-6);
  }
}

TEST_F(CudaElementwiseTest, GeluKeepsExtremesAndNaN) {
  const DeviceArray x({1e4F, -1e4F, 0, std::numeric_limits<float>::quiet_NaN()});
  ASSERT_TRUE(cuda::GeluForward(4, x.get(), x.get(), nullptr).ok());
  const std::vector<float> y = x.Read();
  EXPECT_EQ(y[0], 1e4F);
  EXPECT_NEAR(y[1], 0, 1e-30);
  EXPECT_EQ(y[2], 0);
  EXPECT_TRUE(std::isnan(y[3]));
}

TEST_F(CudaElementwiseTest, AdamWMatchesReference) {
  for (const size_t n : kSizes) {
    for (const int64_t step : {1, 1000}) {
      SCOPED_TRACE(::testing::Message() << n << " at step " << step);
      TestRandom random(n + 1);
      const std::vector<float> g = random.Floats(n, -1, 1);
      const std::vector<float> w = random.Floats(n, -1, 1);
      const std::vector<float> m = random.Floats(n, -1e-2, 1e-2);
      const std::vector<float> v = random.Floats(n, 1e-4, 1e-3);
      const DeviceArray device_g(g);
      const DeviceArray device_w(w);
      const DeviceArray device_m(m);
      const DeviceArray device_v(v);
      const AdamWConfig config = {
          .learning_rate = 1e-2, .weight_decay = 0.1, .gradient_scale = 0.5, .step = step};
      ASSERT_TRUE(cuda::AdamWStep(config, n, device_g.get(), device_w.get(), device_m.get(),
                                  device_v.get(), nullptr)
                      .ok());
      std::vector<double> want_w = Doubles(w);
      std::vector<double> want_m = Doubles(m);
      std::vector<double> want_v = Doubles(v);
      ref::AdamWStep(config, Doubles(g), want_w, want_m, want_v);
      ExpectNear(device_w.Read(), want_w, 2e-6, 1e-2);
      ExpectNear(device_m.Read(), want_m, 2e-6, 1e-2);
      ExpectNear(device_v.Read(), want_v, 2e-6, 1e-2);
    }
  }
}

}  // namespace
}  // namespace muster::kernels
