#include "examples/train_gpt/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "examples/train_gpt/checkpoint.h"
#include "examples/train_gpt/local.h"
#include "examples/train_gpt/text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace train_gpt {
namespace {

using ::testing::HasSubstr;

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string directory = (std::filesystem::temp_directory_path() / "trainer_XXXXXX").string();
    ASSERT_NE(mkdtemp(directory.data()), nullptr);
    directory_ = directory;
    std::ofstream text(directory_ + "/text");
    for (int i = 0; i < 2000; ++i)
      text << "the " << i % 7 << " quick foxes and " << i % 5 << " dogs\n";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  TrainConfig Tiny(const std::string& checkpoints) const {
    TrainConfig config;
    config.text = directory_ + "/text";
    config.checkpoints = checkpoints.empty() ? "" : directory_ + "/" + checkpoints;
    config.steps = 40;
    config.checkpoint_every = 10;
    config.warm_up = 5;
    config.batch = 5;  // Not a multiple of the ranks.
    config.layers = 1;
    config.heads = 2;
    config.width = 16;
    config.context = 16;
    config.sample_bytes = 20;
    config.report_every_s = 0;
    return config;
  }
  std::vector<float> Parameters(const std::string& checkpoints) {
    std::vector<std::string> warnings;
    const auto loaded = LoadNewestCheckpoint(directory_ + "/" + checkpoints, warnings);
    return loaded.ok() ? loaded->parameters : std::vector<float>();
  }

  std::string directory_;
};

TEST_F(TrainerTest, LearnsARegularText) {
  TrainConfig config = Tiny("");
  config.steps = 150;
  config.learning_rate = 1e-2;
  double first = 0;
  const auto report = Train(config, {}, [&](const Progress& progress) {
    if (progress.step == 1) first = progress.loss;
  });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_NEAR(first, std::log(256.0), 0.1);
  EXPECT_LT(report->last_loss, 1.5);
  EXPECT_LT(report->held_out_loss, 1.5);
  EXPECT_EQ(report->steps_done, 150);
  EXPECT_EQ(report->sample.size(), 20U);
}

TEST_F(TrainerTest, AResumedRunEndsBitForBitAsOneThatWasNotInterrupted) {
  ASSERT_TRUE(Train(Tiny("whole"), {}, nullptr).ok());
  // Interrupted: as if killed after the checkpoint of step 30 was written, and that one was
  // damaged.
  ASSERT_TRUE(Train(Tiny("resumed"), {}, nullptr).ok());
  const std::string resumed = directory_ + "/resumed/step-000000";
  std::filesystem::remove(resumed + "40.ckpt");
  std::string notes;
  const auto report =
      Train(Tiny("resumed"), {}, [&](const Progress& progress) { notes += progress.note; });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->first_step, 30);
  EXPECT_EQ(report->steps_done, 10);
  EXPECT_THAT(notes, HasSubstr("resumed from step 30"));
  EXPECT_EQ(Parameters("whole"), Parameters("resumed"));
  ASSERT_FALSE(Parameters("whole").empty());
}

TEST_F(TrainerTest, RanksSumToWhatOneRankWouldHaveDone) {
  ASSERT_TRUE(Train(Tiny("one"), {}, nullptr).ok());
  const auto reports = TrainLocally(Tiny("three"), {.ranks = 3}, nullptr);
  ASSERT_TRUE(reports.ok()) << reports.status();
  ASSERT_EQ(reports->size(), 3U);
  EXPECT_EQ((*reports)[2].rank, 2);
  EXPECT_EQ((*reports)[2].size, 3);
  const std::vector<float> one = Parameters("one");
  const std::vector<float> three = Parameters("three");
  ASSERT_EQ(one.size(), three.size());
  ASSERT_FALSE(one.empty());
  for (size_t i = 0; i < one.size(); ++i) {
    ASSERT_TRUE(std::abs(one[i] - three[i]) <= 2e-3F) << i;  // Sums rounded in another order.
  }
}

TEST_F(TrainerTest, AKilledRankComesBackAndTheRunEndsAsIfNothingHadHappened) {
  const auto calm = TrainLocally(Tiny("calm"), {.ranks = 2}, nullptr);
  ASSERT_TRUE(calm.ok()) << calm.status();
  std::string notes;
  const auto report = TrainLocally(Tiny("killed"), {.ranks = 2, .kill_at_step = 15},
                                   [&](const Progress& now) { notes += now.note + "\n"; });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->front().generation, 1) << notes;
  EXPECT_GE(report->front().first_step, 10) << notes;
  EXPECT_THAT(notes, HasSubstr("starting generation 1"));
  EXPECT_EQ(Parameters("calm"), Parameters("killed"));
  EXPECT_EQ(calm->front().held_out_loss, report->front().held_out_loss);
  EXPECT_EQ(calm->front().sample, report->front().sample);
}

TEST_F(TrainerTest, AnotherRunsCheckpointIsRefused) {
  ASSERT_TRUE(Train(Tiny("checkpoints"), {}, nullptr).ok());
  TrainConfig other = Tiny("checkpoints");
  other.seed = 2;
  const absl::Status status = Train(other, {}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("another model, seed or text"));
}

TEST_F(TrainerTest, ARunGoesOnWhenACheckpointCannotBeWritten) {
  TrainConfig config = Tiny("");
  config.checkpoints = "/proc/no/such";
  std::string notes;
  const auto report = Train(config, {}, [&](const Progress& progress) { notes += progress.note; });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->steps_done, 40);
  EXPECT_THAT(notes, HasSubstr("checkpoint not written"));
}

TEST_F(TrainerTest, WhatIsWrongIsSaid) {
  TrainConfig config = Tiny("");
  config.heads = 3;
  EXPECT_THAT(std::string(Train(config, {}, nullptr).status().message()),
              HasSubstr("multiple of 3"));
  config = Tiny("");
  config.text = directory_ + "/nowhere";
  EXPECT_THAT(std::string(Train(config, {}, nullptr).status().message()), HasSubstr("nowhere"));
  const absl::Status ranks = TrainLocally(config, {.ranks = 2}, nullptr).status();
  EXPECT_THAT(std::string(ranks.message()), HasSubstr("nowhere"));
  std::ofstream(directory_ + "/short") << "too short";
  config.text = directory_ + "/short";
  EXPECT_EQ(Train(config, {}, nullptr).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(TrainerTest, TheHeldOutTextIsNeverTrainedOn) {
  Text text;
  text.bytes.resize(1000);
  EXPECT_EQ(text.held_out().size(), 50U);
  EXPECT_EQ(text.training().size(), 950U);
  EXPECT_EQ(text.training().data() + 950, text.held_out().data());
}

TEST(GenerateTest, TheSameSeedSaysTheSameAndZeroTemperatureTheLikeliest) {
  Gpt model({.layers = 1, .heads = 1, .width = 8, .context = 8}, 1);
  EXPECT_EQ(Generate(model, "a", 30, 1.0, 5), Generate(model, "a", 30, 1.0, 5));
  EXPECT_NE(Generate(model, "a", 30, 1.0, 5), Generate(model, "a", 30, 1.0, 6));
  const std::string likeliest = Generate(model, "a", 1, 0, 5);
  const std::vector<uint8_t> prompt = {'a'};
  const std::vector<float> chances = model.NextByte(prompt);
  EXPECT_EQ(static_cast<uint8_t>(likeliest[0]),
            std::max_element(chances.begin(), chances.end()) - chances.begin());
}

}  // namespace
}  // namespace train_gpt
