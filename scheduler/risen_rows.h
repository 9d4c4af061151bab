// The last rows of which what is free came to hold more: who found no room before asks whether any
// of them may have some now, and need not search again where none has.
//
// Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scheduler/free_key.h"
#include "scheduler/row_set.h"

namespace muster::sched {

class RisenRows {
 public:
  void Note(Row row, FreeKey key) {
    risen_.push_back({.row = row, .key = key});
    if (risen_.size() < kKept) return;
    risen_.erase(risen_.begin(), risen_.begin() + kKept / 2);
    forgotten_ += kKept / 2;
  }
  void Clear() {  // Before rows are given to other nodes.
    forgotten_ += risen_.size();
    risen_.clear();
  }

  // How many were noted.
  uint64_t count() const { return forgotten_ + risen_.size(); }

  // Whether a row of `matched` is among those noted since then that may hold `needs`. True also
  // where they are too many to look at.
  bool Any(uint64_t since, const MatchedRows& matched, const Resources& needs) const {
    if (since < forgotten_ || count() - since > LookedAt(matched)) return true;
    const FreeKey::Least least = FreeKey::LeastFor(needs);
    for (size_t i = since - forgotten_; i < risen_.size(); ++i) {
      if (risen_[i].key.MayHold(least) && matched.Contains(risen_[i].row)) return true;
    }
    return false;
  }

 private:
  static constexpr size_t kKept = 4096;
  // More cost about as much as a search, which costs the less the fewer blocks there are.
  static size_t LookedAt(const MatchedRows& matched) {
    return matched.listed() ? 64 : 16 + 4 * matched.summary().size();
  }
  struct Risen {
    Row row = 0;
    FreeKey key;
  };
  std::vector<Risen> risen_;  // Oldest first; what is older is forgotten.
  uint64_t forgotten_ = 0;
};

}  // namespace muster::sched
