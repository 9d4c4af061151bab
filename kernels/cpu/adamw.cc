#include "kernels/adamw.h"

#include <cmath>
#include <cstddef>

#include "kernels/cpu/simd.h"
#include "kernels/require.h"

namespace muster::kernels::cpu {

MUSTER_SIMD
void AdamWStep(const AdamWConfig& config, std::span<const float> g, std::span<float> w,
               std::span<float> m, std::span<float> v) {
  Require(g.size() == w.size() && m.size() == w.size() && v.size() == w.size(),
          "adamw: g, w, m and v have one length");
  Require(config.step >= 1, "adamw: steps count from 1");
  const auto step = static_cast<double>(config.step);
  const auto beta1 = static_cast<float>(config.beta1);
  const auto beta2 = static_cast<float>(config.beta2);
  const auto rest1 = static_cast<float>(1 - config.beta1);
  const auto rest2 = static_cast<float>(1 - config.beta2);
  const auto correction2 = static_cast<float>(1 / (1 - std::pow(config.beta2, step)));
  const auto pace = static_cast<float>(config.learning_rate / (1 - std::pow(config.beta1, step)));
  const auto keep = static_cast<float>(1 - config.learning_rate * config.weight_decay);
  const auto epsilon = static_cast<float>(config.epsilon);
  const auto scale = static_cast<float>(config.gradient_scale);
  const float* gradient = g.data();
  float* weight = w.data();
  float* first = m.data();
  float* second = v.data();
  const size_t n = w.size();
  for (size_t i = 0; i < n; ++i) {
    const float d = gradient[i] * scale;
    const float mean = beta1 * first[i] + rest1 * d;
    const float square = beta2 * second[i] + rest2 * d * d;
    first[i] = mean;
    second[i] = square;
    weight[i] = keep * weight[i] - pace * mean / (std::sqrt(square * correction2) + epsilon);
  }
}

}  // namespace muster::kernels::cpu
