#include "examples/train_gpt/model.h"

#include <algorithm>
#include <cmath>

#include "examples/train_gpt/random.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/layernorm.h"
#include "kernels/linear.h"
#include "kernels/residual.h"

namespace train_gpt {

namespace cpu = muster::kernels::cpu;

namespace {

constexpr uint64_t kInitialWeights = 1;  // A purpose of random numbers.

}  // namespace

std::string WhatIsWrongWith(const ModelConfig& config) {
  if (config.layers < 1 || config.heads < 1 || config.width < 1 || config.context < 1) {
    return "layers, heads, width and context must be at least 1";
  }
  if (config.width % config.heads != 0) {
    return "width " + std::to_string(config.width) + " is not a multiple of " +
           std::to_string(config.heads) + " heads";
  }
  if (config.layers > 1000 || config.width > 65536 || config.context > 65536) {
    return "layers, width or context is too large";
  }
  return "";
}

Gpt::Gpt(const ModelConfig& config, uint64_t seed)
    : config_(config), width_(static_cast<size_t>(config.width)) {
  const size_t d = width_;
  token_table_ = Add(kVocabulary * d, /*decays=*/true);
  position_table_ = Add(static_cast<size_t>(config.context) * d, /*decays=*/true);
  for (int i = 0; i < config.layers; ++i) {
    Block block;
    block.norm1_scale = Add(d, false);
    block.norm1_shift = Add(d, false);
    block.qkv_weight = Add(3 * d * d, true);
    block.qkv_bias = Add(3 * d, false);
    block.out_weight = Add(d * d, true);
    block.out_bias = Add(d, false);
    block.norm2_scale = Add(d, false);
    block.norm2_shift = Add(d, false);
    block.up_weight = Add(4 * d * d, true);
    block.up_bias = Add(4 * d, false);
    block.down_weight = Add(4 * d * d, true);
    block.down_bias = Add(d, false);
    blocks_.push_back(block);
  }
  last_scale_ = Add(d, false);
  last_shift_ = Add(d, false);
  head_weight_ = Add(kVocabulary * d, true);
  gradients_.resize(parameters_.size());
  states_.resize(blocks_.size());

  // GPT-2's start: small normal weights, smaller where they add to the residual stream; norms pass
  // everything through.
  const auto fill = [&](const Tensor& tensor, double deviation) {
    for (size_t i = 0; i < tensor.size; ++i) {
      parameters_[tensor.begin + i] =
          static_cast<float>(deviation * RandomNormal(seed, kInitialWeights, tensor.begin + i));
    }
  };
  const auto ones = [&](const Tensor& tensor) {
    std::fill_n(parameters_.begin() + static_cast<std::ptrdiff_t>(tensor.begin), tensor.size, 1.0F);
  };
  for (const Tensor& tensor : tensors_) {
    if (tensor.decays) fill(tensor, 0.02);
  }
  for (const Block& block : blocks_) {
    fill(block.out_weight, 0.02 / std::sqrt(2.0 * config.layers));
    fill(block.down_weight, 0.02 / std::sqrt(2.0 * config.layers));
    ones(block.norm1_scale);
    ones(block.norm2_scale);
  }
  ones(last_scale_);
}

Gpt::Tensor Gpt::Add(size_t size, bool decays) {
  const Tensor tensor = {.begin = parameters_.size(), .size = size, .decays = decays};
  tensors_.push_back(tensor);
  parameters_.resize(parameters_.size() + size);
  return tensor;
}

void Gpt::Resize(size_t sequences, size_t context) {
  if (sequences == sequences_ && context == context_) return;
  sequences_ = sequences;
  context_ = context;
  const size_t rows = sequences * context;
  const size_t activations = rows * width_;
  for (BlockState& state : states_) {
    for (std::vector<float>* buffer :
         {&state.input, &state.normed1, &state.attended, &state.middle, &state.normed2}) {
      buffer->resize(activations);
    }
    for (std::vector<float>* buffer : {&state.mean1, &state.rstd1, &state.mean2, &state.rstd2}) {
      buffer->resize(rows);
    }
    state.qkv.resize(3 * activations);
    state.chances.resize(rows * context * static_cast<size_t>(config_.heads));
    state.up.resize(4 * activations);
    state.active.resize(4 * activations);
  }
  for (std::vector<float>* buffer : {&stream_, &branch_, &last_normed_, &d_stream_, &d_branch_}) {
    buffer->resize(activations);
  }
  for (std::vector<float>* buffer : {&last_mean_, &last_rstd_, &losses_}) buffer->resize(rows);
  logits_.resize(rows * kVocabulary);
  d_wide_.resize(4 * activations);
  d_qkv_.resize(3 * activations);
  scratch_.resize(context * context);
}

void Gpt::ForwardBlock(const Block& block, BlockState& state, std::span<float> stream) {
  const size_t rows = sequences_ * context_;
  const auto heads = static_cast<size_t>(config_.heads);
  std::copy(stream.begin(), stream.end(), state.input.begin());
  cpu::LayerNormForward({.rows = rows, .width = width_}, state.input, Weights(block.norm1_scale),
                        Weights(block.norm1_shift), state.mean1, state.rstd1, state.normed1);
  cpu::LinearForward({.rows = rows, .in = width_, .out = 3 * width_}, state.normed1,
                     Weights(block.qkv_weight), Weights(block.qkv_bias), state.qkv);
  cpu::AttentionForward(
      {.batch = sequences_, .context = context_, .heads = heads, .head_size = width_ / heads},
      state.qkv, state.chances, state.attended);
  cpu::LinearForward({.rows = rows, .in = width_, .out = width_}, state.attended,
                     Weights(block.out_weight), Weights(block.out_bias), branch_);
  cpu::ResidualForward(state.input, branch_, state.middle);
  cpu::LayerNormForward({.rows = rows, .width = width_}, state.middle, Weights(block.norm2_scale),
                        Weights(block.norm2_shift), state.mean2, state.rstd2, state.normed2);
  cpu::LinearForward({.rows = rows, .in = width_, .out = 4 * width_}, state.normed2,
                     Weights(block.up_weight), Weights(block.up_bias), state.up);
  cpu::GeluForward(state.up, state.active);
  cpu::LinearForward({.rows = rows, .in = 4 * width_, .out = width_}, state.active,
                     Weights(block.down_weight), Weights(block.down_bias), branch_);
  cpu::ResidualForward(state.middle, branch_, stream);
}

void Gpt::Forward(std::span<const uint8_t> inputs) {
  const size_t rows = sequences_ * context_;
  cpu::EmbeddingForward(
      {.rows = rows, .context = context_, .vocabulary = kVocabulary, .width = width_}, inputs,
      Weights(token_table_), Weights(position_table_).first(context_ * width_), stream_);
  for (size_t i = 0; i < blocks_.size(); ++i) ForwardBlock(blocks_[i], states_[i], stream_);
  cpu::LayerNormForward({.rows = rows, .width = width_}, stream_, Weights(last_scale_),
                        Weights(last_shift_), last_mean_, last_rstd_, last_normed_);
  cpu::LinearForward({.rows = rows, .in = width_, .out = kVocabulary}, last_normed_,
                     Weights(head_weight_), {}, logits_);
}

double Gpt::Loss(std::span<const uint8_t> inputs, std::span<const uint8_t> targets) {
  const auto context = static_cast<size_t>(config_.context);
  Resize(inputs.size() / context, context);
  Forward(inputs);
  cpu::CrossEntropyForward({.rows = inputs.size(), .vocabulary = kVocabulary}, logits_, targets,
                           logits_, losses_);
  double sum = 0;
  for (const float loss : losses_) sum += loss;
  return sum / static_cast<double>(inputs.size());
}

double Gpt::LossAndGradients(std::span<const uint8_t> inputs, std::span<const uint8_t> targets,
                             double weight) {
  const double loss = Loss(inputs, targets);
  Backward(inputs, targets, weight);
  return loss;
}

void Gpt::BackwardBlock(const Block& block, BlockState& state) {
  const size_t rows = sequences_ * context_;
  const auto heads = static_cast<size_t>(config_.heads);
  // d_stream_ is the gradient of the block's output, and so of both terms of each sum.
  cpu::LinearBackward({.rows = rows, .in = 4 * width_, .out = width_}, state.active,
                      Weights(block.down_weight), d_stream_, d_wide_, Gradients(block.down_weight),
                      Gradients(block.down_bias));
  cpu::GeluBackward(state.up, d_wide_, d_wide_);
  cpu::LinearBackward({.rows = rows, .in = width_, .out = 4 * width_}, state.normed2,
                      Weights(block.up_weight), d_wide_, d_branch_, Gradients(block.up_weight),
                      Gradients(block.up_bias));
  cpu::LayerNormBackward({.rows = rows, .width = width_}, state.middle, Weights(block.norm2_scale),
                         state.mean2, state.rstd2, d_branch_, d_stream_,
                         Gradients(block.norm2_scale), Gradients(block.norm2_shift));
  cpu::LinearBackward({.rows = rows, .in = width_, .out = width_}, state.attended,
                      Weights(block.out_weight), d_stream_, d_branch_, Gradients(block.out_weight),
                      Gradients(block.out_bias));
  cpu::AttentionBackward(
      {.batch = sequences_, .context = context_, .heads = heads, .head_size = width_ / heads},
      state.qkv, state.chances, d_branch_, d_qkv_, scratch_);
  cpu::LinearBackward({.rows = rows, .in = width_, .out = 3 * width_}, state.normed1,
                      Weights(block.qkv_weight), d_qkv_, d_branch_, Gradients(block.qkv_weight),
                      Gradients(block.qkv_bias));
  cpu::LayerNormBackward({.rows = rows, .width = width_}, state.input, Weights(block.norm1_scale),
                         state.mean1, state.rstd1, d_branch_, d_stream_,
                         Gradients(block.norm1_scale), Gradients(block.norm1_shift));
}

void Gpt::Backward(std::span<const uint8_t> inputs, std::span<const uint8_t> targets,
                   double weight) {
  const size_t rows = inputs.size();
  cpu::CrossEntropyBackward({.rows = rows, .vocabulary = kVocabulary}, logits_, targets,
                            static_cast<float>(weight), logits_);
  cpu::LinearBackward({.rows = rows, .in = width_, .out = kVocabulary}, last_normed_,
                      Weights(head_weight_), logits_, d_branch_, Gradients(head_weight_), {});
  std::fill(d_stream_.begin(), d_stream_.end(), 0.0F);
  cpu::LayerNormBackward({.rows = rows, .width = width_}, stream_, Weights(last_scale_), last_mean_,
                         last_rstd_, d_branch_, d_stream_, Gradients(last_scale_),
                         Gradients(last_shift_));
  for (size_t i = blocks_.size(); i-- > 0;) BackwardBlock(blocks_[i], states_[i]);
  cpu::EmbeddingBackward(
      {.rows = rows, .context = context_, .vocabulary = kVocabulary, .width = width_}, inputs,
      d_stream_, Gradients(token_table_), Gradients(position_table_));
}

std::vector<float> Gpt::NextByte(std::span<const uint8_t> text) {
  const std::span<const uint8_t> seen =
      text.last(std::min(text.size(), static_cast<size_t>(config_.context)));
  Resize(1, seen.size());
  Forward(seen);
  // Only the last place's guess is wanted: its loss against any target tells the chances.
  std::vector<float> chances(kVocabulary);
  float loss = 0;
  const uint8_t target = 0;
  cpu::CrossEntropyForward({.rows = 1, .vocabulary = kVocabulary},
                           std::span(logits_).last(kVocabulary), std::span(&target, 1), chances,
                           std::span(&loss, 1));
  return chances;
}

}  // namespace train_gpt
