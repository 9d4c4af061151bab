#include "scheduler/demand.h"

#include <gtest/gtest.h>

namespace muster::sched {
namespace {

constexpr int64_t kGib = int64_t{1} << 30;

DemandUses Uses(int gpus, int64_t memory_gib = 0) {
  RequestSpec spec;
  Choice choice;
  choice.resources.gpus = gpus * Amount::kUnit;
  choice.resources.memory_bytes = memory_gib * kGib;
  spec.choices = {choice};
  return DemandUses(spec);
}

class DemandTest : public ::testing::Test {
 protected:
  // `of_a` in a hundred of `a`, the others of `b`. True: the typical shapes changed.
  bool Count(int hundreds, DemandUses& a, int of_a, DemandUses& b) {
    const uint64_t version = demand_.version();
    for (int i = 0; i < hundreds * 100; ++i) demand_.Count(i % 100 < of_a ? a : b);
    demand_.CheckInvariants();
    return demand_.version() != version;
  }

  Demand demand_;
  DemandUses one_ = Uses(1);
  DemandUses eight_ = Uses(8);
};

TEST_F(DemandTest, MoreOfTheSameChangesNothing) {
  EXPECT_TRUE(Count(20, one_, 80, eight_));
  EXPECT_FALSE(Count(200, one_, 80, eight_));
}

TEST_F(DemandTest, AnotherMixIsTypicalOnceItWeighsEnough) {
  EXPECT_TRUE(Count(20, one_, 80, eight_));
  EXPECT_TRUE(Count(40, one_, 20, eight_));
}

TEST_F(DemandTest, MoreMemoryOfAShapeIsAnotherMix) {
  DemandUses small = Uses(1, 16);
  DemandUses large = Uses(1, 64);
  EXPECT_TRUE(Count(20, small, 100, large));
  EXPECT_TRUE(Count(20, small, 50, large));
  EXPECT_EQ(demand_.shapes().size(), 1u);
}

TEST_F(DemandTest, HalvingKeepsWhatIsTypicalUntilAShapeIsForgotten) {
  DemandUses rare = Uses(4);
  demand_.Count(rare);
  const auto halve = [&] {
    const DemandCount& first = *demand_.shapes().begin()->second;  // Of `one_`.
    int64_t before = 0;
    do {
      before = first.count;
      demand_.Count(one_);
      demand_.Count(eight_);
    } while (first.count >= before);
    demand_.CheckInvariants();
  };
  Count(20, one_, 50, eight_);
  while (demand_.shapes().size() == 3) halve();  // `rare` was typical once.
  const uint64_t version = demand_.version();
  halve();
  halve();
  EXPECT_EQ(demand_.version(), version);
}

TEST_F(DemandTest, LoadedFromASnapshotItGoesOnAlike) {
  Count(13, one_, 70, eight_);
  Demand twin;
  for (const auto& [shape, count] : demand_.shapes()) ASSERT_TRUE(twin.Restore(shape, *count));
  twin.Restored();
  DemandUses twin_one = Uses(1);
  DemandUses twin_eight = Uses(8);
  const uint64_t apart = demand_.version() - twin.version();
  for (int i = 0; i < 5000; ++i) {
    demand_.Count(i % 3 == 0 ? one_ : eight_);
    twin.Count(i % 3 == 0 ? twin_one : twin_eight);
    ASSERT_EQ(demand_.version() - twin.version(), apart) << i;
  }
}

}  // namespace
}  // namespace muster::sched
