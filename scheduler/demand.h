// What the work that is asked for looks like: how often each shape (GPUs, CPUs, which kinds of GPU)
// was requested so far, and from that the typical shapes that packing.h reckons with. It knows what
// was requested, placed or not, and nothing else: no future and no file.
//
// The kind of a node is its value of kKindLabel; a request's kinds are what its selector says about
// that label. Only requests for GPUs count, each bundle of them once, by their first choice.
//
// Invariants: each shape that is known has a count above 0; there are at most kShapesMax of them,
//   and a new one beyond is not counted until others are forgotten. Once kHalveAt bundles have been
//   counted all counts are halved, so that what was long ago matters less and less.
// The typical shapes stay until the demand has drifted from what they were made from: until the
// parts that shapes have in the sum of weights differ by kDriftPpm in sum (a shape of which the
// mean memory has changed by an eighth counts as another). So what is derived from them stays known
// for long. It is looked at whenever about an eighth has been added. Cost: Count() of a shape that
// is known O(1); a look O(shapes). Thread-safety: none.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/types/span.h"
#include "scheduler/choice.h"
#include "scheduler/label_selector.h"
#include "scheduler/resources.h"

namespace muster::sched {

inline constexpr char kKindLabel[] = "ray.io/accelerator-type";

struct DemandShape {
  int64_t gpus = 0;  // 1/10000, above 0.
  int64_t cpus = 0;
  LabelRequirement kinds{};  // Of kKindLabel; its key is empty where any kind will do.

  bool Accepts(const std::string* kind) const { return kinds.key.empty() || kinds.Matches(kind); }
  // What one request of it weighs. A shape of n > 1 whole GPUs is harder to place: (n + 1) / 2
  // times as much as one of one GPU or a share.
  int64_t weight() const {
    const int64_t whole = gpus / Amount::kUnit;
    return whole > 1 ? whole + 1 : 2;
  }
  friend bool operator==(const DemandShape& a, const DemandShape& b) {
    return a.gpus == b.gpus && a.cpus == b.cpus && a.kinds == b.kinds;
  }
  friend bool operator<(const DemandShape& a, const DemandShape& b) {
    return std::tie(a.gpus, a.cpus, a.kinds) < std::tie(b.gpus, b.cpus, b.kinds);
  }
};

// How often, and the memory of all of these together; now, and when the typical shapes were made.
struct DemandCount {
  int64_t count = 0;
  int64_t memory_mib = 0;
  int64_t typical_count = 0;
  int64_t typical_memory_mib = 0;
};

// What a class adds to the demand with each request: looked up once.
class DemandUses {
 public:
  explicit DemandUses(const RequestSpec& spec);
  bool empty() const { return uses_.empty(); }

 private:
  friend class Demand;
  struct Use {
    DemandShape shape{};
    int64_t memory_mib = 0;
    int64_t bundles = 0;
    DemandCount* counted = nullptr;
  };
  std::vector<Use> uses_;
  uint64_t generation_ = 0;  // Of the demand's shapes, when `counted` was looked up.
};

class Demand {
 public:
  static constexpr size_t kShapesMax = 4096;
  static constexpr int64_t kHalveAt = 65536;
  static constexpr int64_t kDriftPpm = 62'500;

  void Count(DemandUses& uses);

  // Changes with the typical shapes.
  uint64_t version() const { return version_; }
  const absl::btree_map<DemandShape, std::unique_ptr<DemandCount>>& shapes() const {
    return shapes_;
  }

  // For snapshots: false where it is there already, or contradicts the above.
  bool Restore(const DemandShape& shape, const DemandCount& count);
  void Restored();  // Once all are there.

  void CheckInvariants() const;

 private:
  void Look();
  bool Drifted() const;

  absl::btree_map<DemandShape, std::unique_ptr<DemandCount>> shapes_;
  uint64_t generation_ = 1;  // Changes when shapes are forgotten.
  uint64_t version_ = 1;
  int64_t counted_ = 0;    // Of all shapes.
  int64_t next_look_ = 1;  // Follows from counted_.
};

// The typical shapes of a Demand, made for quick sums: the most frequent ones up to kMax, with
// weights that add up to kWeight at most. The memory of a shape is the mean of what was asked for.
class TypicalShapes {
 public:
  static constexpr size_t kMax = 128;
  static constexpr int64_t kWeight = 65536;
  using Set = std::array<uint64_t, kMax / 64>;  // A bit for each shape.

  TypicalShapes() = default;
  explicit TypicalShapes(const Demand& demand);

  size_t size() const { return shapes_.size(); }

  // The shapes that nodes of a kind may hold; null: nodes without the label.
  Set OfKind(const std::string* kind) const;

  // How much of what is free of a node no typical shape can use, weighted; in 1/10000 GPU times
  // kWeight. Of the GPUs that are free, a shape that has no room there can use none, and another
  // none of those devices that have too little left for it.
  //   `whole`: empty devices. `left`: what is free of each device in use in part, least first.
  // Source: Weng et al., "Beware of Fragmentation" (USENIX ATC'23), F(M) of a node, with memory.
  int64_t Waste(const Set& kind, int64_t cpus, int64_t memory_bytes, int64_t whole,
                absl::Span<const uint16_t> left) const;

 private:
  struct Shape {
    DemandShape shape{};
    int64_t memory_bytes = 0;
    int64_t weight = 0;
  };
  struct Steps {  // Sets that grow with an amount.
    std::vector<int64_t> from{};
    std::vector<Set> sets{};
    void Make(std::vector<std::pair<int64_t, size_t>> shapes);  // By amount.
    const Set& At(int64_t amount) const;
  };
  int64_t WeightOf(const Set& set) const;

  std::vector<Shape> shapes_;
  int64_t all_ = 0;  // Weight.
  Steps by_cpus_;
  Steps by_memory_;
  Steps by_whole_;  // Shapes of whole GPUs; of shares, from one on.
  Steps by_share_;  // Shapes of shares.
  std::array<std::array<uint32_t, 256>, kMax / 8> weights_{};  // By eight shapes.
};

}  // namespace muster::sched
