// The node of the lowest id among the rows that a bucket and a selector have in common.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "scheduler/node_rows.h"
#include "scheduler/row_set.h"

namespace muster::sched {

// A row and its node's id; kNoRow: none.
struct LowestRow {
  Row row = kNoRow;
  NodeId id{};
};

// Which of 64 words have a bit in common: without a branch for each, so that several are looked at
// at once.
inline uint64_t NonZeroOfBoth(const uint64_t* a, const uint64_t* b) {
  uint64_t blocks = 0;
  for (int from = 0; from < 64; from += 8) {
    uint64_t any = 0;
    for (int i = from; i < from + 8; ++i) any |= a[i] & b[i];
    if (any == 0) continue;
    for (int i = from; i < from + 8; ++i) {
      blocks |= static_cast<uint64_t>((a[i] & b[i]) != 0 ? 1 : 0) << i;
    }
  }
  return blocks;
}

inline constexpr int kMissedMax = 3;

// Lowers `best` to the row of the lowest id, below that of `best`, that both have and for which
// ok(row). Where rows are ordered it looks no further than it must. False: there was none lower.
template <typename Ok>
bool FindLowestId(const NodeRows& rows, const RowSet& bucket, const MatchedRows& matched,
                  LowestRow& best, Ok&& ok) {
  bool found = false;
  const auto look = [&](Row row) {
    const NodeId id = rows.id(row);
    if ((best.row != kNoRow && !(id < best.id)) || !ok(row)) return false;
    best = {.row = row, .id = id};
    found = true;
    return true;
  };
  if (bucket.listed() || matched.listed() || !rows.ordered()) {
    VisitCommon(bucket, matched, [&](Row row) {
      look(row);
      return true;
    });
    return found;
  }
  const size_t summaries = std::min(bucket.summary().size(), matched.summary().size());
  for (size_t i = 0; i < summaries; ++i) {
    uint64_t both = bucket.summary()[i] & matched.summary()[i];
    const size_t first = i * kBlock;
    for (int missed = 0; both != 0; both &= both - 1) {
      const size_t block = first + LowestBit(both);
      // Ids rise from block to block, and within each.
      if (best.row != kNoRow && best.id < rows.first_id(block)) return found;
      uint64_t word = bucket.words()[block] & matched.word(block);
      // After a few in vain all the others at once; the lowest is the one that was in vain.
      if (word == 0 && ++missed == kMissedMax && matched.dense() &&
          bucket.words().size() >= first + kBlock && matched.words().size() >= first + kBlock) {
        both &= NonZeroOfBoth(bucket.words().data() + first, matched.words().data() + first) |
                uint64_t{1} << LowestBit(both);
      }
      for (; word != 0; word &= word - 1) {
        if (look(static_cast<Row>(block * kBlock + LowestBit(word)))) break;
      }
    }
  }
  return found;
}

}  // namespace muster::sched
