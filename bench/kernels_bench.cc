// The kernels of training at the sizes examples/train_gpt uses: 768 rows (12 sequences of 64 bytes)
// of width 128, one thread. Counters: flops for what arithmetic bounds, bytes for what memory
// bounds, and "of_bound", the share of the bound below.
//
// The bounds are measured here, first: a 1024-cube matrix product for arithmetic, a sum of two
// arrays of 64 MiB for memory. A kernel whose data fit the cache can be above the memory bound.

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <functional>
#include <limits>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/layernorm.h"
#include "kernels/linear.h"
#include "kernels/residual.h"

namespace {

namespace cpu = muster::kernels::cpu;

constexpr size_t kRows = 768;
constexpr size_t kWidth = 128;
constexpr size_t kVocabulary = 256;
constexpr size_t kParameters = 867072;

std::vector<float> Values(size_t n) {
  std::vector<float> values(n);
  uint64_t state = n;
  for (float& value : values) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    value = static_cast<float>(state >> 40U) * 0x1p-23F - 1.0F;
  }
  return values;
}

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double BestSeconds(const std::function<void()>& work) {
  work();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5; ++i) {
    const double start = CpuSeconds();
    work();
    best = std::min(best, CpuSeconds() - start);
  }
  return best;
}

double ArithmeticBound() {
  static const double kFlopsPerSecond = [] {
    cpu::SetGemmThreads(1);
    const std::vector<float> x = Values(1 << 20);
    std::vector<float> y(1 << 20);
    return 2.0 * (1 << 30) / BestSeconds([&] {
             cpu::LinearForward({.rows = 1024, .in = 1024, .out = 1024}, x, x, {}, y);
           });
  }();
  return kFlopsPerSecond;
}

double MemoryBound() {
  static const double kBytesPerSecond = [] {
    const size_t n = 16U << 20U;
    const std::vector<float> x(n, 1);
    std::vector<float> y(n);
    return 12.0 * static_cast<double>(n) / BestSeconds([&] { cpu::ResidualForward(x, x, y); });
  }();
  return kBytesPerSecond;
}

void Report(benchmark::State& state, const char* what, double per_iteration, double bound) {
  const double total = per_iteration * static_cast<double>(state.iterations());
  state.counters[what] = benchmark::Counter(total, benchmark::Counter::kIsRate);
  state.counters["bound"] = benchmark::Counter(bound);
}
void ReportFlops(benchmark::State& state, double flops) {
  Report(state, "flops", flops, ArithmeticBound());
}
void ReportBytes(benchmark::State& state, double bytes) {
  Report(state, "bytes", bytes, MemoryBound());
}

void BM_LinearForward(benchmark::State& state) {
  const auto in = static_cast<size_t>(state.range(0));
  const auto out = static_cast<size_t>(state.range(1));
  const std::vector<float> x = Values(kRows * in);
  const std::vector<float> w = Values(in * out);
  const std::vector<float> b = Values(out);
  std::vector<float> y(kRows * out);
  ArithmeticBound();
  for (auto _ : state) {
    cpu::LinearForward({.rows = kRows, .in = in, .out = out}, x, w, b, y);
    benchmark::ClobberMemory();
  }
  ReportFlops(state, 2.0 * static_cast<double>(kRows * in * out));
}
BENCHMARK(BM_LinearForward)->Args({128, 384})->Args({128, 512})->Args({512, 128})->Args({128, 256});

void BM_LinearBackward(benchmark::State& state) {
  const auto in = static_cast<size_t>(state.range(0));
  const auto out = static_cast<size_t>(state.range(1));
  const std::vector<float> x = Values(kRows * in);
  const std::vector<float> w = Values(in * out);
  const std::vector<float> dy = Values(kRows * out);
  std::vector<float> dx(x.size());
  std::vector<float> dw(w.size());
  std::vector<float> db(out);
  ArithmeticBound();
  for (auto _ : state) {
    cpu::LinearBackward({.rows = kRows, .in = in, .out = out}, x, w, dy, dx, dw, db);
    benchmark::ClobberMemory();
  }
  ReportFlops(state, 4.0 * static_cast<double>(kRows * in * out));
}
BENCHMARK(BM_LinearBackward)->Args({128, 384})->Args({128, 512})->Args({512, 128});

constexpr muster::kernels::AttentionShape kAttention = {
    .batch = 12, .context = 64, .heads = 4, .head_size = 32};

void BM_AttentionForward(benchmark::State& state) {
  const std::vector<float> qkv = Values(kRows * 3 * kWidth);
  std::vector<float> p(kAttention.probabilities());
  std::vector<float> y(kRows * kWidth);
  ArithmeticBound();
  for (auto _ : state) {
    cpu::AttentionForward(kAttention, qkv, p, y);
    benchmark::ClobberMemory();
  }
  ReportFlops(state, 4.0 * static_cast<double>(kRows * kAttention.context * kWidth));
}
BENCHMARK(BM_AttentionForward);

void BM_AttentionBackward(benchmark::State& state) {
  const std::vector<float> qkv = Values(kRows * 3 * kWidth);
  const std::vector<float> dy = Values(kRows * kWidth);
  std::vector<float> p(kAttention.probabilities());
  std::vector<float> y(dy.size());
  std::vector<float> d_qkv(qkv.size());
  std::vector<float> scratch(kAttention.context * kAttention.context);
  cpu::AttentionForward(kAttention, qkv, p, y);
  ArithmeticBound();
  for (auto _ : state) {
    cpu::AttentionBackward(kAttention, qkv, p, dy, d_qkv, scratch);
    benchmark::ClobberMemory();
  }
  ReportFlops(state, 8.0 * static_cast<double>(kRows * kAttention.context * kWidth));
}
BENCHMARK(BM_AttentionBackward);

void BM_GeluForward(benchmark::State& state) {
  const std::vector<float> x = Values(kRows * 4 * kWidth);
  std::vector<float> y(x.size());
  MemoryBound();
  for (auto _ : state) {
    cpu::GeluForward(x, y);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 8.0 * static_cast<double>(x.size()));
}
BENCHMARK(BM_GeluForward);

void BM_GeluBackward(benchmark::State& state) {
  const std::vector<float> x = Values(kRows * 4 * kWidth);
  const std::vector<float> dy = Values(x.size());
  std::vector<float> dx(x.size());
  MemoryBound();
  for (auto _ : state) {
    cpu::GeluBackward(x, dy, dx);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 12.0 * static_cast<double>(x.size()));
}
BENCHMARK(BM_GeluBackward);

void BM_LayerNormForward(benchmark::State& state) {
  const std::vector<float> x = Values(kRows * kWidth);
  const std::vector<float> gamma = Values(kWidth);
  std::vector<float> mean(kRows);
  std::vector<float> rstd(kRows);
  std::vector<float> y(x.size());
  MemoryBound();
  for (auto _ : state) {
    cpu::LayerNormForward({.rows = kRows, .width = kWidth}, x, gamma, gamma, mean, rstd, y);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 8.0 * static_cast<double>(x.size()));
}
BENCHMARK(BM_LayerNormForward);

void BM_LayerNormBackward(benchmark::State& state) {
  const std::vector<float> x = Values(kRows * kWidth);
  const std::vector<float> gamma = Values(kWidth);
  std::vector<float> mean(kRows);
  std::vector<float> rstd(kRows, 1);
  std::vector<float> dx(x.size());
  std::vector<float> d_gamma(kWidth);
  std::vector<float> d_beta(kWidth);
  MemoryBound();
  for (auto _ : state) {
    cpu::LayerNormBackward({.rows = kRows, .width = kWidth}, x, gamma, mean, rstd, x, dx, d_gamma,
                           d_beta);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 16.0 * static_cast<double>(x.size()));
}
BENCHMARK(BM_LayerNormBackward);

void BM_CrossEntropyForward(benchmark::State& state) {
  const std::vector<float> logits = Values(kRows * kVocabulary);
  const std::vector<uint8_t> targets(kRows, 32);
  std::vector<float> p(logits.size());
  std::vector<float> losses(kRows);
  MemoryBound();
  for (auto _ : state) {
    cpu::CrossEntropyForward({.rows = kRows, .vocabulary = kVocabulary}, logits, targets, p,
                             losses);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 8.0 * static_cast<double>(logits.size()));
}
BENCHMARK(BM_CrossEntropyForward);

void BM_Embedding(benchmark::State& state) {
  const std::vector<uint8_t> tokens(kRows, 32);
  const std::vector<float> token_table = Values(kVocabulary * kWidth);
  const std::vector<float> position_table = Values(64 * kWidth);
  std::vector<float> y(kRows * kWidth);
  MemoryBound();
  for (auto _ : state) {
    cpu::EmbeddingForward(
        {.rows = kRows, .context = 64, .vocabulary = kVocabulary, .width = kWidth}, tokens,
        token_table, position_table, y);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 12.0 * static_cast<double>(y.size()));
}
BENCHMARK(BM_Embedding);

void BM_AdamW(benchmark::State& state) {
  const std::vector<float> g = Values(kParameters);
  std::vector<float> w = Values(kParameters);
  std::vector<float> m(kParameters);
  std::vector<float> v(kParameters);
  MemoryBound();
  for (auto _ : state) {
    cpu::AdamWStep({.weight_decay = 0.1}, g, w, m, v);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 28.0 * static_cast<double>(kParameters));
}
BENCHMARK(BM_AdamW);

}  // namespace

BENCHMARK_MAIN();
