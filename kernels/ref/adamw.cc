#include "kernels/adamw.h"

#include <cmath>
#include <cstddef>

#include "kernels/require.h"

namespace muster::kernels::ref {

void AdamWStep(const AdamWConfig& config, std::span<const double> g, std::span<double> w,
               std::span<double> m, std::span<double> v) {
  Require(g.size() == w.size() && m.size() == w.size() && v.size() == w.size(),
          "adamw: g, w, m and v have one length");
  Require(config.step >= 1, "adamw: steps count from 1");
  const double correction1 = 1 - std::pow(config.beta1, static_cast<double>(config.step));
  const double correction2 = 1 - std::pow(config.beta2, static_cast<double>(config.step));
  for (size_t i = 0; i < w.size(); ++i) {
    const double gradient = g[i] * config.gradient_scale;
    m[i] = config.beta1 * m[i] + (1 - config.beta1) * gradient;
    v[i] = config.beta2 * v[i] + (1 - config.beta2) * gradient * gradient;
    const double pace = m[i] / correction1 / (std::sqrt(v[i] / correction2) + config.epsilon);
    w[i] -= config.learning_rate * (pace + config.weight_decay * w[i]);
  }
}

}  // namespace muster::kernels::ref
