#include "scheduler/risen_rows.h"

#include <gtest/gtest.h>

namespace muster::sched {
namespace {

FreeKey KeyWith(int gpus) {
  return FreeKey::Of(/*has_gpus=*/true, gpus * Amount::kUnit, gpus, 8 * Amount::kUnit, 0);
}

Resources Gpus(int gpus) {
  Resources needs;
  needs.gpus = gpus * Amount::kUnit;
  return needs;
}

MatchedRows Rows(uint64_t bits) {
  MatchedRows matched;
  matched.Build({bits});
  return matched;
}

TEST(RisenRowsTest, OnlyMatchedRowsThatMayHoldItCount) {
  RisenRows risen;
  const uint64_t before = risen.count();
  risen.Note(3, KeyWith(2));
  EXPECT_TRUE(risen.Any(before, Rows(1 << 3), Gpus(2)));
  EXPECT_FALSE(risen.Any(before, Rows(1 << 3), Gpus(3)));
  EXPECT_FALSE(risen.Any(before, Rows(1 << 4), Gpus(1)));
  EXPECT_FALSE(risen.Any(risen.count(), Rows(1 << 3), Gpus(1)));
}

TEST(RisenRowsTest, WhatIsForgottenMayHaveBeenAnything) {
  RisenRows risen;
  const uint64_t before = risen.count();
  for (int i = 0; i < 10'000; ++i) risen.Note(3, KeyWith(0));
  EXPECT_EQ(risen.count(), before + 10'000);
  EXPECT_TRUE(risen.Any(before, Rows(1 << 4), Gpus(1)));
  EXPECT_FALSE(risen.Any(risen.count() - 1, Rows(1 << 3), Gpus(1)));
  const uint64_t then = risen.count();
  risen.Note(3, KeyWith(8));
  risen.Clear();
  EXPECT_EQ(risen.count(), then + 1);
  EXPECT_TRUE(risen.Any(then, Rows(1 << 4), Gpus(1)));
}

}  // namespace
}  // namespace muster::sched
