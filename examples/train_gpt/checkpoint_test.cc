#include "examples/train_gpt/checkpoint.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace train_gpt {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string directory = (std::filesystem::temp_directory_path() / "checkpoint_XXXXXX").string();
    ASSERT_NE(mkdtemp(directory.data()), nullptr);
    directory_ = directory;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static Checkpoint Example(int64_t step, size_t n = 100) {
    Checkpoint checkpoint = {.model = {.layers = 1, .heads = 2, .width = 4, .context = 8},
                             .seed = 7,
                             .text_checksum = 0xfedcba9876543210U,
                             .step = step,
                             .parameters = {},
                             .first_moment = std::vector<float>(n, 0.25F),
                             .second_moment = std::vector<float>(n, -0.0F)};
    for (size_t i = 0; i < n; ++i) {
      checkpoint.parameters.push_back(1.0F / static_cast<float>(i + 1));
    }
    return checkpoint;
  }
  std::string PathOf(int64_t step) const {
    return absl::StrCat(directory_, "/step-", absl::Dec(step, absl::kZeroPad8), ".ckpt");
  }
  size_t Files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }

  std::string directory_;
  std::vector<std::string> warnings_;
};

TEST_F(CheckpointTest, WhatIsSavedIsLoaded) {
  const std::string directory = directory_ + "/made/on/the/way";
  ASSERT_TRUE(SaveCheckpoint(directory, Example(3)).ok());
  const absl::StatusOr<Checkpoint> loaded = LoadNewestCheckpoint(directory, warnings_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->model, Example(3).model);
  EXPECT_EQ(loaded->seed, 7U);
  EXPECT_EQ(loaded->text_checksum, 0xfedcba9876543210U);
  EXPECT_EQ(loaded->step, 3);
  EXPECT_EQ(loaded->parameters, Example(3).parameters);
  EXPECT_EQ(loaded->first_moment, Example(3).first_moment);
  EXPECT_TRUE(std::signbit(loaded->second_moment[0]));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(CheckpointTest, TheNewestTwoAreKept) {
  for (const int64_t step : {5, 10, 99999, 100000}) {
    ASSERT_TRUE(SaveCheckpoint(directory_, Example(step)).ok());
  }
  EXPECT_EQ(Files(), 2U);
  EXPECT_EQ(LoadNewestCheckpoint(directory_, warnings_)->step, 100000);
  EXPECT_TRUE(LoadCheckpoint(PathOf(99999)).ok());
}

TEST_F(CheckpointTest, NoneIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(LoadNewestCheckpoint(directory_, warnings_).status()));
  EXPECT_TRUE(absl::IsNotFound(LoadNewestCheckpoint("/no/such", warnings_).status()));
}

TEST_F(CheckpointTest, EveryWayOfBeingDamagedIsSeenAndTheOneBeforeIsUsed) {
  ASSERT_TRUE(SaveCheckpoint(directory_, Example(1)).ok());
  ASSERT_TRUE(SaveCheckpoint(directory_, Example(2)).ok());
  std::ifstream in(PathOf(2), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::vector<std::string> bad = {"", "train_gpt checkpoint, version ", good + "x"};
  for (size_t i = 1; i < good.size(); i = i * 3 / 2 + 1) bad.push_back(good.substr(0, i));
  for (size_t i = 0; i < good.size(); i += 13) {
    bad.push_back(good);
    bad.back()[i] = static_cast<char>(bad.back()[i] ^ 0x10);
  }
  for (const std::string& content : bad) {
    std::ofstream(PathOf(2), std::ios::binary) << content;
    const absl::Status status = LoadCheckpoint(PathOf(2)).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << content.size();
    ASSERT_THAT(std::string(status.message()), HasSubstr(PathOf(2)));
    warnings_.clear();
    const absl::StatusOr<Checkpoint> previous = LoadNewestCheckpoint(directory_, warnings_);
    ASSERT_TRUE(previous.ok());
    ASSERT_EQ(previous->step, 1);
    ASSERT_THAT(warnings_, SizeIs(1));
  }
}

TEST_F(CheckpointTest, AForeignFileAndAnotherVersionAreCalledThat) {
  std::ofstream(PathOf(1)) << "PK\x03\x04 something else altogether, and long enough";
  EXPECT_THAT(std::string(LoadCheckpoint(PathOf(1)).status().message()),
              HasSubstr("not a checkpoint of train_gpt"));
  std::ofstream(PathOf(1)) << "train_gpt checkpoint, version 9, little endian\nabc";
  EXPECT_THAT(std::string(LoadCheckpoint(PathOf(1)).status().message()), HasSubstr("version 9"));
  const absl::Status none = LoadNewestCheckpoint(directory_, warnings_).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kDataLoss);
}

TEST_F(CheckpointTest, AFullDiskIsAnErrorThatLosesNothing) {
  ASSERT_TRUE(SaveCheckpoint(directory_, Example(1)).ok());
  // A limit on file sizes stands in for the full disk: write() fails half through.
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {.rlim_cur = 10000, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const absl::Status status = SaveCheckpoint(directory_, Example(2, 5000));
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot write"));
  EXPECT_EQ(Files(), 1U);
  EXPECT_EQ(LoadNewestCheckpoint(directory_, warnings_)->step, 1);
}

TEST_F(CheckpointTest, ADirectoryThatCannotBeMadeIsNamed) {
  EXPECT_THAT(std::string(SaveCheckpoint("/proc/no/such", Example(1)).message()),
              HasSubstr("/proc/no/such"));
}

}  // namespace
}  // namespace train_gpt
