#include "examples/train_gpt/model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "examples/train_gpt/random.h"
#include "gtest/gtest.h"

namespace train_gpt {
namespace {

constexpr ModelConfig kTiny = {.layers = 2, .heads = 2, .width = 16, .context = 8};

std::vector<uint8_t> Bytes(size_t n, uint64_t seed) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(RandomBits({seed, i}) % 256);
  return bytes;
}

TEST(GptTest, KnowsNothingAtFirst) {
  Gpt model(kTiny, 1);
  EXPECT_NEAR(model.Loss(Bytes(32, 1), Bytes(32, 2)), std::log(256.0), 0.05);
}

TEST(GptTest, AboutAMillionParametersByDefault) {
  Gpt model({}, 1);
  EXPECT_EQ(model.parameters().size(), 867072U);
  size_t sum = 0;
  for (const Gpt::Tensor& tensor : model.tensors()) {
    EXPECT_EQ(tensor.begin, sum);
    sum += tensor.size;
  }
  EXPECT_EQ(sum, model.parameters().size());
}

TEST(GptTest, TheSeedDecidesTheStart) {
  Gpt a(kTiny, 1);
  Gpt b(kTiny, 1);
  Gpt c(kTiny, 2);
  EXPECT_TRUE(std::equal(a.parameters().begin(), a.parameters().end(), b.parameters().begin()));
  EXPECT_FALSE(std::equal(a.parameters().begin(), a.parameters().end(), c.parameters().begin()));
}

// Along random directions, tensor by tensor, so that no part's gradient can be wrong unseen.
TEST(GptTest, GradientsMatchCentralDifferencesInEveryTensor) {
  Gpt model(kTiny, 3);
  // Away from the start, where many gradients are nearly zero.
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    model.parameters()[i] += static_cast<float>(0.1 * RandomNormal(9, 9, i));
  }
  const std::vector<uint8_t> inputs = Bytes(24, 1);
  const std::vector<uint8_t> targets = Bytes(24, 2);
  model.LossAndGradients(inputs, targets, 1.0 / 24);
  const std::vector<float> kept(model.parameters().begin(), model.parameters().end());
  for (const Gpt::Tensor& tensor : model.tensors()) {
    SCOPED_TRACE(tensor.begin);
    const std::span<float> gradients = model.gradients().subspan(tensor.begin, tensor.size);
    double norm = 0;
    for (const float g : gradients) norm += static_cast<double>(g) * g;
    norm = std::sqrt(norm);
    ASSERT_TRUE(norm > 1e-6) << "no gradient reaches it";
    const double step = 2e-3;
    const auto loss_at = [&](double way) {
      for (size_t i = 0; i < tensor.size; ++i) {
        model.parameters()[tensor.begin + i] =
            kept[tensor.begin + i] + static_cast<float>(way * gradients[i] / norm);
      }
      return model.Loss(inputs, targets);
    };
    const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
    loss_at(0);
    EXPECT_TRUE(std::abs(slope - norm) <= 0.01 * norm + 2e-4) << slope << ", gradient " << norm;
  }
}

TEST(GptTest, GradientsAddUpOverCallsAndScaleWithTheWeight) {
  Gpt model(kTiny, 4);
  const std::vector<uint8_t> inputs = Bytes(16, 1);
  const std::vector<uint8_t> targets = Bytes(16, 2);
  model.LossAndGradients(inputs, targets, 1.0);
  const std::vector<float> once(model.gradients().begin(), model.gradients().end());
  model.LossAndGradients(inputs, targets, 2.0);
  for (size_t i = 0; i < once.size(); ++i) {
    ASSERT_TRUE(std::abs(model.gradients()[i] - 3 * once[i]) <= 1e-4F * (1 + std::abs(once[i])));
  }
}

TEST(GptTest, GuessesAreChancesAndDoNotSeeTheFuture) {
  Gpt model(kTiny, 5);
  const std::vector<uint8_t> text = Bytes(20, 1);
  const std::vector<float> chances = model.NextByte(text);
  EXPECT_NEAR(std::accumulate(chances.begin(), chances.end(), 0.0), 1.0, 1e-5);
  // The window's last bytes alone decide.
  EXPECT_EQ(chances, model.NextByte(std::span(text).last(8)));
  EXPECT_NE(chances, model.NextByte(std::span(text).first(12)));
}

TEST(GptTest, BadSizesAreNamed) {
  EXPECT_EQ(WhatIsWrongWith({}), "");
  EXPECT_NE(WhatIsWrongWith({.heads = 3}).find("not a multiple of 3"), std::string::npos);
  EXPECT_NE(WhatIsWrongWith({.layers = 0}), "");
}

}  // namespace
}  // namespace train_gpt
