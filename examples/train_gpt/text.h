// The training text: any file, or the King James Bible of Debian's bible-kjv package.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace train_gpt {

struct Text {
  std::vector<uint8_t> bytes;
  uint64_t checksum = 0;  // Tells texts apart: a checkpoint goes with one.

  // The last twentieth is kept from training, to measure what was learnt and not memorised.
  std::span<const uint8_t> training() const;
  std::span<const uint8_t> held_out() const;
};

// Reads `path`; empty means the Bible, one verse a line, as printed by the command `bible`.
// Errors: kNotFound naming the file or the package, kInvalidArgument when it is shorter than
// `bytes_min`.
absl::StatusOr<Text> LoadText(const std::string& path, size_t bytes_min);

// FNV-1a, 64 bits.
uint64_t Checksum(std::span<const uint8_t> bytes, uint64_t start = 0xcbf29ce484222325U);

}  // namespace train_gpt
