// Gpt is a small byte-level transformer: embedding, blocks of attention and a two-layer network,
// each after a layer norm and beside a residual stream, a last layer norm, and a guess over 256
// bytes.
//
// All parameters lie in one array and all gradients in another of the same layout, so that summing
// over ranks, clipping, saving and the optimizer's step are one pass each.
// Thread-safety: none; one model per thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace train_gpt {

struct ModelConfig {
  int layers = 4;
  int heads = 4;
  int width = 128;
  int context = 64;

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// Empty if the sizes make sense, else what is wrong with them.
std::string WhatIsWrongWith(const ModelConfig& config);

class Gpt {
 public:
  static constexpr size_t kVocabulary = 256;

  // REQUIRES: WhatIsWrongWith(config) is empty.
  Gpt(const ModelConfig& config, uint64_t seed);

  const ModelConfig& config() const { return config_; }
  std::span<float> parameters() { return parameters_; }
  std::span<float> gradients() { return gradients_; }

  // A stretch of the parameters that the optimizer treats alike.
  struct Tensor {
    size_t begin = 0;
    size_t size = 0;
    bool decays = false;  // Matrices do, biases and norms do not.
  };
  const std::vector<Tensor>& tensors() const { return tensors_; }

  // Mean loss in nats per byte of guessing targets[i] after inputs[..i], each sequence alone.
  // REQUIRES: both hold sequences * context bytes.
  double Loss(std::span<const uint8_t> inputs, std::span<const uint8_t> targets);
  // As Loss(); then adds the gradient of `weight` times the summed loss to gradients().
  double LossAndGradients(std::span<const uint8_t> inputs, std::span<const uint8_t> targets,
                          double weight);
  // The chances of each byte to follow `text`, whose last `context` bytes count. REQUIRES: not
  // empty.
  std::vector<float> NextByte(std::span<const uint8_t> text);

 private:
  struct Block {
    Tensor norm1_scale, norm1_shift, qkv_weight, qkv_bias, out_weight, out_bias;
    Tensor norm2_scale, norm2_shift, up_weight, up_bias, down_weight, down_bias;
  };
  // What a block's forward pass leaves for its backward pass.
  struct BlockState {
    std::vector<float> input, mean1, rstd1, normed1, qkv, chances, attended;
    std::vector<float> middle, mean2, rstd2, normed2, up, active;
  };

  Tensor Add(size_t size, bool decays);
  std::span<const float> Weights(const Tensor& tensor) const {
    return std::span(parameters_).subspan(tensor.begin, tensor.size);
  }
  std::span<float> Gradients(const Tensor& tensor) {
    return std::span(gradients_).subspan(tensor.begin, tensor.size);
  }

  void Resize(size_t sequences, size_t context);
  void Forward(std::span<const uint8_t> inputs);
  void ForwardBlock(const Block& block, BlockState& state, std::span<float> stream);
  void Backward(std::span<const uint8_t> inputs, std::span<const uint8_t> targets, double weight);
  void BackwardBlock(const Block& block, BlockState& state);

  const ModelConfig config_;
  const size_t width_;
  std::vector<Tensor> tensors_;
  std::vector<float> parameters_;
  std::vector<float> gradients_;
  Tensor token_table_, position_table_, last_scale_, last_shift_, head_weight_;
  std::vector<Block> blocks_;

  size_t sequences_ = 0;  // Of the buffers below.
  size_t context_ = 0;
  std::vector<BlockState> states_;
  std::vector<float> stream_, branch_, last_mean_, last_rstd_, last_normed_, logits_, losses_;
  std::vector<float> d_stream_, d_branch_, d_wide_, d_qkv_, scratch_;
};

}  // namespace train_gpt
