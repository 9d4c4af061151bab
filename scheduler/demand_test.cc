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

// Of each shape as many as there are in a hundred.
void CountHundreds(Demand& demand, int hundreds, DemandUses& a, int of_a, DemandUses& b) {
  for (int i = 0; i < hundreds * 100; ++i) demand.Count(i % 100 < of_a ? a : b);
  demand.CheckInvariants();
}

TEST(DemandTest, MoreOfTheSameChangesNothing) {
  Demand demand;
  DemandUses one = Uses(1);
  DemandUses eight = Uses(8);
  CountHundreds(demand, 20, one, 80, eight);
  const uint64_t version = demand.version();
  CountHundreds(demand, 200, one, 80, eight);
  EXPECT_EQ(demand.version(), version);
}

TEST(DemandTest, AnotherMixIsTypicalOnceItWeighsEnough) {
  Demand demand;
  DemandUses one = Uses(1);
  DemandUses eight = Uses(8);
  CountHundreds(demand, 20, one, 80, eight);
  const uint64_t version = demand.version();
  CountHundreds(demand, 40, one, 20, eight);
  EXPECT_GT(demand.version(), version);
}

TEST(DemandTest, MoreMemoryOfAShapeIsAnotherMix) {
  Demand demand;
  DemandUses small = Uses(1, 16);
  DemandUses large = Uses(1, 64);
  CountHundreds(demand, 20, small, 100, large);
  const uint64_t version = demand.version();
  CountHundreds(demand, 20, small, 50, large);
  EXPECT_GT(demand.version(), version);
  EXPECT_EQ(demand.shapes().size(), 1u);
}

TEST(DemandTest, HalvingKeepsWhatIsTypicalUntilAShapeIsForgotten) {
  Demand demand;
  DemandUses one = Uses(1);
  DemandUses eight = Uses(8);
  DemandUses rare = Uses(4);
  demand.Count(rare);
  const auto halve = [&] {
    const DemandCount& first = *demand.shapes().begin()->second;  // Of `one`.
    int64_t before = 0;
    do {
      before = first.count;
      demand.Count(one);
      demand.Count(eight);
    } while (first.count >= before);
    demand.CheckInvariants();
  };
  CountHundreds(demand, 20, one, 50, eight);
  while (demand.shapes().size() == 3) halve();  // `rare` was typical once.
  const uint64_t version = demand.version();
  halve();
  halve();
  EXPECT_EQ(demand.version(), version);
}

TEST(DemandTest, LoadedFromASnapshotItGoesOnAlike) {
  Demand demand;
  DemandUses one = Uses(1);
  DemandUses eight = Uses(8);
  CountHundreds(demand, 13, one, 70, eight);
  Demand twin;
  for (const auto& [shape, count] : demand.shapes()) ASSERT_TRUE(twin.Restore(shape, *count));
  twin.Restored();
  DemandUses twin_one = Uses(1);
  DemandUses twin_eight = Uses(8);
  const uint64_t apart = demand.version() - twin.version();
  for (int i = 0; i < 5000; ++i) {
    demand.Count(i % 3 == 0 ? one : eight);
    twin.Count(i % 3 == 0 ? twin_one : twin_eight);
    ASSERT_EQ(demand.version() - twin.version(), apart) << i;
  }
}

}  // namespace
}  // namespace muster::sched
