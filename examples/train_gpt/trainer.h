// Training, data-parallel: each rank takes its part of each step's batch, and the gradients are
// summed.
//
// The batch of a step is a function of seed and step alone, and so are the parts; the state at a
// step is therefore the same whatever happened before it: a run that was killed and goes on from a
// checkpoint ends as one that was not (bit for bit on the same number of ranks and kind of CPU).
// Rank 0 reads and writes checkpoints and tells the others; only its machine needs the directory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "examples/train_gpt/model.h"
#include "muster/collective.h"

namespace train_gpt {

// Plain values only: it travels to the ranks as a task's argument.
struct TrainConfig {
  std::string text = {};          // A file; empty for the Bible.
  std::string checkpoints = {};   // A directory that rank 0 can reach; empty for none.
  int64_t steps = 1000;           // Altogether, resumed ones included.
  int64_t checkpoint_every = 50;  // Steps.
  int64_t warm_up = 100;          // Steps until the learning rate is full.
  double learning_rate = 2e-3;    // Falls to a tenth at the end, along a cosine.
  double weight_decay = 0.1;
  double gradient_norm_max = 1.0;
  uint64_t seed = 1;
  int batch = 24;  // Sequences per step, all ranks together.
  int layers = 4;
  int heads = 4;
  int width = 128;
  int context = 64;
  int sample_bytes = 400;
  double temperature = 0.7;
  double report_every_s = 2.0;
};

struct RankReport {
  double held_out_loss = 0;  // Nats per byte on text not trained on; rank 0 only.
  double last_loss = 0;      // Of the last step, over all ranks.
  int64_t first_step = 0;    // Resumed from: steps that were done before this generation.
  int64_t steps_done = 0;    // In this generation.
  int64_t parameters = 0;
  double seconds = 0;
  double tokens_per_second = 0;  // All ranks together.
  std::string sample = {};       // Rank 0 only.
  int rank = 0;
  int size = 1;
  int generation = 0;
  std::string node = {};  // Filled in by who knows: the caller.
  int choice = 0;
  int64_t pid = 0;
};

struct Progress {
  int64_t step = 0;
  int64_t steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  std::string note = {};  // Instead of the numbers: "resumed from step 500", warnings.
};

// Trains from the newest checkpoint, or from the start if there is none, to config.steps.
// `progress` may be empty; rank 0 calls it about every report_every_s seconds.
// Errors: kAborted when another rank died (start again, as the next generation), kInvalidArgument
// and kNotFound for a bad config or text, kFailedPrecondition when the checkpoint is of another
// model, seed or text, and what went wrong with writing a checkpoint.
absl::StatusOr<RankReport> Train(const TrainConfig& config, muster::Collectives collectives,
                                 const std::function<void(const Progress&)>& progress);

// `bytes` bytes that follow `prompt`, drawn at `temperature`: 0 takes the likeliest byte each time.
std::string Generate(Gpt& model, const std::string& prompt, int bytes, double temperature,
                     uint64_t seed);

}  // namespace train_gpt
