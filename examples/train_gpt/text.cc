#include "examples/train_gpt/text.h"

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace train_gpt {
namespace {

// One verse a line, never wrapped: "Ge1:1 In the beginning ...".
constexpr char kBibleCommand[] = "bible -f -l100000 gen1:1-rev22:21 2>/dev/null </dev/null";

absl::StatusOr<std::string> Bible() {
  FILE* pipe = popen(kBibleCommand, "r");
  if (pipe == nullptr) return absl::UnavailableError("cannot start the command bible");
  std::string text;
  std::array<char, 1 << 16> block;
  while (const size_t n = fread(block.data(), 1, block.size(), pipe)) text.append(block.data(), n);
  if (pclose(pipe) != 0 || text.empty()) {
    return absl::NotFoundError(
        "the command bible is not here: install the package bible-kjv, or name a file with --text");
  }
  return text;
}

// Verse numbers are noise to a small model, and to who reads its samples.
std::string WithoutReferences(const std::string& text) {
  std::string verses;
  verses.reserve(text.size());
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    const size_t blank = text.find(' ', begin);
    const size_t colon = text.find(':', begin);
    const bool has_reference = blank < end && colon < blank;
    const size_t from = has_reference ? blank + 1 : begin;
    if (end > from) verses.append(text, from, end - from).push_back('\n');
    begin = end + 1;
  }
  return verses;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read the text ", path));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) return absl::DataLossError(absl::StrCat("reading ", path, " failed"));
  return text;
}

}  // namespace

std::span<const uint8_t> Text::training() const {
  return std::span(bytes).first(bytes.size() - held_out().size());
}

std::span<const uint8_t> Text::held_out() const { return std::span(bytes).last(bytes.size() / 20); }

absl::StatusOr<Text> LoadText(const std::string& path, size_t bytes_min) {
  absl::StatusOr<std::string> raw = path.empty() ? Bible() : ReadFile(path);
  if (!raw.ok()) return raw.status();
  const std::string content = path.empty() ? WithoutReferences(*raw) : *std::move(raw);
  Text text;
  text.bytes.assign(content.begin(), content.end());
  if (text.held_out().size() < bytes_min) {
    return absl::InvalidArgumentError(absl::StrCat("the text ", path, " has ", text.bytes.size(),
                                                   " bytes, and needs ", bytes_min * 20,
                                                   " for this context"));
  }
  text.checksum = Checksum(text.bytes);
  return text;
}

uint64_t Checksum(std::span<const uint8_t> bytes, uint64_t start) {
  uint64_t sum = start;
  for (const uint8_t byte : bytes) sum = (sum ^ byte) * 0x100000001b3U;
  return sum;
}

}  // namespace train_gpt
