#include "examples/train_gpt/trainer.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "examples/train_gpt/checkpoint.h"
#include "examples/train_gpt/random.h"
#include "examples/train_gpt/text.h"
#include "kernels/adamw.h"
#include "kernels/linear.h"

namespace train_gpt {
namespace {

constexpr uint64_t kBatches = 2;  // Purposes of random numbers.
constexpr uint64_t kSamples = 3;
constexpr size_t kHeldOutSequences = 128;
constexpr size_t kHeldOutAtOnce = 16;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

ModelConfig ModelOf(const TrainConfig& config) {
  return {.layers = config.layers,
          .heads = config.heads,
          .width = config.width,
          .context = config.context};
}

absl::Status Check(const TrainConfig& config, int ranks) {
  if (const std::string wrong = WhatIsWrongWith(ModelOf(config)); !wrong.empty()) {
    return absl::InvalidArgumentError(wrong);
  }
  if (config.batch < ranks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", config.batch, " sequences leaves some of ", ranks, " ranks idle"));
  }
  if (config.steps < 1 || config.checkpoint_every < 1) {
    return absl::InvalidArgumentError("steps and checkpoint_every must be at least 1");
  }
  return absl::OkStatus();
}

class Trainer {
 public:
  Trainer(const TrainConfig& config, Text text, muster::Collectives collectives)
      : config_(config),
        text_(std::move(text)),
        collectives_(std::move(collectives)),
        model_(ModelOf(config), config.seed),
        first_moment_(model_.parameters().size()),
        second_moment_(model_.parameters().size()),
        sums_(model_.parameters().size() + 1) {}

  Gpt& model() { return model_; }
  int64_t step() const { return step_; }

  // Rank 0 loads; then all ranks hold the same. `note` says what was loaded.
  absl::Status Resume(std::string& note) {
    // What rank 0 found, as a number all ranks can read: the step, or a failure.
    int64_t found = 0;
    absl::Status status = absl::OkStatus();
    if (collectives_.rank() == 0 && !config_.checkpoints.empty()) {
      status = Load(note);
      found = status.ok() ? step_ : -1;
    }
    if (absl::Status sent = collectives_.Broadcast(&found, sizeof(found)); !sent.ok()) return sent;
    if (found < 0) {
      return status.ok() ? absl::FailedPreconditionError("rank 0 cannot load its checkpoint")
                         : status;
    }
    step_ = found;
    if (step_ == 0) return absl::OkStatus();  // The start follows from the seed.
    for (const std::span<float> part :
         {model_.parameters(), std::span(first_moment_), std::span(second_moment_)}) {
      if (absl::Status sent = collectives_.Broadcast(part.data(), part.size_bytes()); !sent.ok()) {
        return sent;
      }
    }
    return absl::OkStatus();
  }

  // One step; the loss is the mean over all ranks' sequences, before it.
  absl::StatusOr<double> Step() {
    const auto context = static_cast<size_t>(config_.context);
    const auto batch = static_cast<size_t>(config_.batch);
    const auto rank = static_cast<size_t>(collectives_.rank());
    const auto ranks = static_cast<size_t>(collectives_.size());
    const size_t first = batch * rank / ranks;
    const size_t end = batch * (rank + 1) / ranks;
    DrawBatch(first, end);
    std::fill(model_.gradients().begin(), model_.gradients().end(), 0.0F);
    const double loss =
        model_.LossAndGradients(inputs_, targets_, 1.0 / static_cast<double>(batch * context));
    // One sum for everything: the loss rides behind the gradients.
    std::copy(model_.gradients().begin(), model_.gradients().end(), sums_.begin());
    sums_.back() =
        static_cast<float>(loss * static_cast<double>(end - first) / static_cast<double>(batch));
    if (absl::Status sum = collectives_.AllReduceSum(sums_.data(), sums_.size()); !sum.ok()) {
      return sum;
    }
    if (!std::isfinite(sums_.back())) {
      return absl::InternalError(absl::StrCat("the loss at step ", step_, " is not a number"));
    }
    ++step_;
    Update(std::span(sums_).first(sums_.size() - 1));
    return sums_.back();
  }

  absl::Status Save() {
    if (collectives_.rank() != 0 || config_.checkpoints.empty()) return absl::OkStatus();
    return SaveCheckpoint(config_.checkpoints,
                          {.model = model_.config(),
                           .seed = config_.seed,
                           .text_checksum = text_.checksum,
                           .step = step_,
                           .parameters = {model_.parameters().begin(), model_.parameters().end()},
                           .first_moment = first_moment_,
                           .second_moment = second_moment_});
  }

  // On evenly spaced stretches of the text that is kept from training.
  double HeldOutLoss() {
    const std::span<const uint8_t> text = text_.held_out();
    const auto context = static_cast<size_t>(config_.context);
    const size_t stride = (text.size() - context - 1) / kHeldOutSequences;
    double sum = 0;
    for (size_t i = 0; i < kHeldOutSequences; i += kHeldOutAtOnce) {
      inputs_.clear();
      targets_.clear();
      for (size_t j = i; j < i + kHeldOutAtOnce; ++j) Append(text.subspan(j * stride));
      sum += model_.Loss(inputs_, targets_);
    }
    return sum * kHeldOutAtOnce / kHeldOutSequences;
  }

 private:
  absl::Status Load(std::string& note) {
    std::vector<std::string> warnings;
    absl::StatusOr<Checkpoint> loaded = LoadNewestCheckpoint(config_.checkpoints, warnings);
    for (const std::string& warning : warnings) absl::StrAppend(&note, warning, "\n");
    if (absl::IsNotFound(loaded.status())) return absl::OkStatus();
    if (!loaded.ok()) return loaded.status();
    if (loaded->model != model_.config() || loaded->seed != config_.seed ||
        loaded->text_checksum != text_.checksum ||
        loaded->parameters.size() != model_.parameters().size()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the checkpoint of step ", loaded->step, " in ", config_.checkpoints,
                       " is of another model, seed or text; name another directory or remove it"));
    }
    std::copy(loaded->parameters.begin(), loaded->parameters.end(), model_.parameters().begin());
    first_moment_ = std::move(loaded->first_moment);
    second_moment_ = std::move(loaded->second_moment);
    step_ = loaded->step;
    absl::StrAppend(&note, "resumed from step ", step_);
    return absl::OkStatus();
  }

  // Sequences [first, end) of this step's batch.
  void DrawBatch(size_t first, size_t end) {
    const std::span<const uint8_t> text = text_.training();
    const size_t places = text.size() - static_cast<size_t>(config_.context);
    inputs_.clear();
    targets_.clear();
    for (size_t i = first; i < end; ++i) {
      Append(text.subspan(RandomBits({config_.seed, kBatches, static_cast<uint64_t>(step_), i}) %
                          places));
    }
  }

  void Append(std::span<const uint8_t> text) {
    const auto context = static_cast<std::ptrdiff_t>(config_.context);
    inputs_.insert(inputs_.end(), text.begin(), text.begin() + context);
    targets_.insert(targets_.end(), text.begin() + 1, text.begin() + 1 + context);
  }

  double LearningRate() const {
    const auto step = static_cast<double>(step_);
    if (step_ < config_.warm_up) {
      return config_.learning_rate * step / static_cast<double>(config_.warm_up);
    }
    const double way = std::min(
        1.0, static_cast<double>(step_ - config_.warm_up) /
                 static_cast<double>(std::max<int64_t>(1, config_.steps - config_.warm_up)));
    return config_.learning_rate * (0.55 + 0.45 * std::cos(std::numbers::pi * way));
  }

  void Update(std::span<const float> gradients) {
    double squares = 0;
    for (const float value : gradients) squares += static_cast<double>(value) * value;
    const double norm = std::sqrt(squares);
    muster::kernels::AdamWConfig adamw;
    adamw.learning_rate = LearningRate();
    adamw.gradient_scale =
        norm > config_.gradient_norm_max ? config_.gradient_norm_max / norm : 1.0;
    adamw.step = step_;
    for (const Gpt::Tensor& tensor : model_.tensors()) {
      adamw.weight_decay = tensor.decays ? config_.weight_decay : 0;
      muster::kernels::cpu::AdamWStep(adamw, gradients.subspan(tensor.begin, tensor.size),
                                      model_.parameters().subspan(tensor.begin, tensor.size),
                                      std::span(first_moment_).subspan(tensor.begin, tensor.size),
                                      std::span(second_moment_).subspan(tensor.begin, tensor.size));
    }
  }

  const TrainConfig config_;
  const Text text_;
  muster::Collectives collectives_;
  Gpt model_;
  std::vector<float> first_moment_;
  std::vector<float> second_moment_;
  std::vector<float> sums_;
  std::vector<uint8_t> inputs_;
  std::vector<uint8_t> targets_;
  int64_t step_ = 0;
};

}  // namespace

absl::StatusOr<RankReport> Train(const TrainConfig& config, muster::Collectives collectives,
                                 const std::function<void(const Progress&)>& progress) {
  if (absl::Status status = Check(config, collectives.size()); !status.ok()) return status;
  muster::kernels::cpu::SetGemmThreads(1);
  absl::StatusOr<Text> text =
      LoadText(config.text, static_cast<size_t>(config.context) + 1 + kHeldOutSequences);
  if (!text.ok()) return text.status();
  Trainer trainer(config, *std::move(text), collectives);
  const bool reports = collectives.rank() == 0 && progress != nullptr;
  const auto note = [&](const std::string& what) {
    if (reports) progress({.step = trainer.step(), .steps = config.steps, .note = what});
  };

  std::string resumed;
  if (absl::Status status = trainer.Resume(resumed); !status.ok()) return status;
  if (!resumed.empty()) note(resumed);
  RankReport report = {.first_step = trainer.step(),
                       .parameters = static_cast<int64_t>(trainer.model().parameters().size()),
                       .rank = collectives.rank(),
                       .size = collectives.size(),
                       .pid = getpid()};
  const double tokens_per_step = static_cast<double>(config.batch) * config.context;
  const Clock::time_point start = Clock::now();
  Clock::time_point reported = start;
  int64_t reported_step = trainer.step();
  while (trainer.step() < config.steps) {
    const absl::StatusOr<double> loss = trainer.Step();
    if (!loss.ok()) return loss.status();
    report.last_loss = *loss;
    const bool last = trainer.step() == config.steps;
    if (last || trainer.step() % config.checkpoint_every == 0) {
      // Without a new checkpoint the run is right, only more would be lost with it.
      const absl::Status saved = trainer.Save();
      if (!saved.ok()) note(absl::StrCat("checkpoint not written: ", saved.message()));
    }
    const double since = SecondsSince(reported);
    if (reports && (last || since >= config.report_every_s)) {
      progress({.step = trainer.step(),
                .steps = config.steps,
                .loss = *loss,
                .tokens_per_second =
                    static_cast<double>(trainer.step() - reported_step) * tokens_per_step / since});
      reported = Clock::now();
      reported_step = trainer.step();
    }
  }
  report.steps_done = trainer.step() - report.first_step;
  report.seconds = SecondsSince(start);
  report.tokens_per_second =
      static_cast<double>(report.steps_done) * tokens_per_step / std::max(report.seconds, 1e-9);
  if (collectives.rank() == 0) {
    report.held_out_loss = trainer.HeldOutLoss();
    report.sample =
        Generate(trainer.model(), "\n", config.sample_bytes, config.temperature, config.seed);
  }
  return report;
}

std::string Generate(Gpt& model, const std::string& prompt, int bytes, double temperature,
                     uint64_t seed) {
  std::vector<uint8_t> text(prompt.begin(), prompt.end());
  if (text.empty()) text.push_back('\n');
  std::string generated;
  for (int i = 0; i < bytes; ++i) {
    const std::vector<float> chances = model.NextByte(text);
    size_t next =
        static_cast<size_t>(std::max_element(chances.begin(), chances.end()) - chances.begin());
    if (temperature > 0) {
      // Chances to the power of 1 / temperature, as if the logits had been divided by it.
      std::vector<double> weights(chances.size());
      double sum = 0;
      for (size_t j = 0; j < chances.size(); ++j) {
        weights[j] = std::pow(static_cast<double>(chances[j]) / chances[next], 1 / temperature);
        sum += weights[j];
      }
      double left = sum * RandomUniform({seed, kSamples, static_cast<uint64_t>(i)});
      for (size_t j = 0; j < weights.size(); ++j) {
        left -= weights[j];
        if (left < 0) {
          next = j;
          break;
        }
      }
    }
    text.push_back(static_cast<uint8_t>(next));
    generated.push_back(static_cast<char>(next));
  }
  return generated;
}

}  // namespace train_gpt
