// Linear is a dense layer: a matrix product and an optional bias.
//
//   y = x W^T + b
//   backward: dx = dy W,  dW += dy^T x,  db += column sums of dy
//
// Shapes: x, dx [rows, in]; W, dW [out, in]; b, db [out], or empty for no bias; y, dy [rows, out].
// dx is overwritten, the parameters' gradients are added to. An empty dx is not computed.
// REQUIRES: in, out > 0; no output overlaps an input; each dimension below 2^31 (cblas).
// Accuracy: float32 within in * 1.2e-7 * sum(|x| * |W|) of float64; exact on integers below 2^24.
// Cost: 2 * rows * in * out flops forward, twice that backward; compute-bound from about 32 rows.
// The CPU version calls OpenBLAS. SetGemmThreads() says how many threads it may use in this
// process:
//   one per rank, since ranks, not threads, fill the cores. Call it before the first product; it
//   is not thread-safe, the operations are.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace muster::kernels {

struct LinearShape {
  size_t rows = 0;
  size_t in = 0;
  size_t out = 0;
};

namespace ref {
void LinearForward(const LinearShape& shape, std::span<const double> x, std::span<const double> w,
                   std::span<const double> b, std::span<double> y);
void LinearBackward(const LinearShape& shape, std::span<const double> x, std::span<const double> w,
                    std::span<const double> dy, std::span<double> dx, std::span<double> dw,
                    std::span<double> db);
}  // namespace ref

namespace cpu {
void SetGemmThreads(int threads);
std::string GemmName();  // For people: "OpenBLAS 0.3.21 ..., kernels for Haswell".

void LinearForward(const LinearShape& shape, std::span<const float> x, std::span<const float> w,
                   std::span<const float> b, std::span<float> y);
void LinearBackward(const LinearShape& shape, std::span<const float> x, std::span<const float> w,
                    std::span<const float> dy, std::span<float> dx, std::span<float> dw,
                    std::span<float> db);
}  // namespace cpu

}  // namespace muster::kernels
