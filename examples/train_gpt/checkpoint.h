// Checkpoints: all a run needs to go on as if nothing had happened, in a directory.
//
// File step-00000500.ckpt: a header line of text naming format and version, then numbers and arrays
// in the machine's byte order (the header says which), then a checksum of all before it. A file
// appears whole, by rename after fsync, or not at all; the newest two are kept, so a damaged one
// costs one interval and not the run. Errors name the file and what is wrong with it.
// Thread-safety: none; one writer per directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/train_gpt/model.h"

namespace train_gpt {

struct Checkpoint {
  ModelConfig model;
  uint64_t seed = 0;
  uint64_t text_checksum = 0;
  int64_t step = 0;  // Steps done.
  std::vector<float> parameters;
  std::vector<float> first_moment;
  std::vector<float> second_moment;
};

// Makes the directory if it is not there. When it fails (a full disk, say) the older ones are
// intact.
absl::Status SaveCheckpoint(const std::string& directory, const Checkpoint& checkpoint);

// kDataLoss when the file is cut short, changed or not one of ours.
absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& path);

// The newest checkpoint that can be read; what was wrong with newer ones is added to `warnings`.
// kNotFound when the directory has none, kDataLoss when it has only unreadable ones.
absl::StatusOr<Checkpoint> LoadNewestCheckpoint(const std::string& directory,
                                                std::vector<std::string>& warnings);

}  // namespace train_gpt
