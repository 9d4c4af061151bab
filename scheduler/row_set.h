// Sets of rows. A row is a node's place in the index (see NodeRows): 64 rows make a block, a word
// of bits, and one bit of the summary stands for a block that may have a member.
//
// RowSet changes often (who has a label's value, who has so much free); MatchedRows is what a
// selector matches: built at once, then corrected row by row, and small where it matches little.
// Both are walked in order of row.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace muster::sched {

using Row = uint32_t;
using Words = std::vector<uint64_t>;  // Bits.

inline constexpr Row kBlock = 64;
inline constexpr Row kNoRow = ~Row{0};
inline constexpr size_t kFewBlocks = 32;  // Bits of so many are no more work than a short list.

inline bool HasBit(const Words& words, size_t bit) {
  return bit / kBlock < words.size() && (words[bit / kBlock] >> (bit % kBlock) & 1) != 0;
}
inline void SetBit(Words& words, size_t bit) {
  if (bit / kBlock >= words.size()) words.resize(bit / kBlock + 1);
  words[bit / kBlock] |= uint64_t{1} << (bit % kBlock);
}
inline int LowestBit(uint64_t word) { return std::countr_zero(word); }

// How many bits are set; std::popcount is a call into the compiler's library where the instruction
// is not known to be there.
inline size_t CountBits(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return word * 0x0101010101010101u >> 56;
}

class RowSet {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool Contains(Row row) const;
  void Add(Row row);     // REQUIRES: not there.
  void Remove(Row row);  // REQUIRES: there.

  // A list where the set is small and spread over many blocks, else bits.
  bool listed() const { return listed_; }
  const std::vector<Row>& list() const { return list_; }  // In order.
  const Words& words() const { return words_; }           // By block.
  const Words& summary() const { return summary_; }       // A bit for each block that is not 0.

  void AddTo(Words& words) const;       // REQUIRES: large enough.
  void RemoveFrom(Words& words) const;  // REQUIRES: large enough.

 private:
  static constexpr size_t kListMax = 32;
  void AddToList(Row row);
  void SetBits(Row row);
  void Spread();  // From a list to bits.
  void Gather();  // From bits to a list.

  // Here rather than behind a pointer: a search reads the bits of many sets, each once.
  size_t size_ = 0;
  Words words_;
  Words summary_;
  std::vector<Row> list_;
  bool listed_ = true;
};

class MatchedRows {
 public:
  void Build(const Words& words);  // A bit for each row.
  void Set(Row row, bool matched);
  bool Contains(Row row) const;

  bool listed() const { return listed_; }
  const std::vector<Row>& list() const { return list_; }
  // A bit for each block that may have a member.
  const Words& summary() const { return summary_; }
  bool dense() const { return dense_; }
  const Words& words() const { return words_; }  // By block. REQUIRES: dense().
  // REQUIRES: !listed(), and its bit in summary().
  uint64_t word(size_t block) const { return words_[dense_ ? block : Place(block)]; }
  template <typename Visit>
  void ForEach(Visit&& visit) const;  // visit(row)
  size_t bytes() const;

 private:
  static constexpr size_t kListMax = 96;
  static constexpr size_t kDenseFactor = 4;  // One block in so many has a member: all get a word.
  size_t Place(size_t block) const {         // In words_, where it is not dense.
    const uint64_t before = summary_[block / kBlock] & ((uint64_t{1} << (block % kBlock)) - 1);
    return ranks_[block / kBlock] + CountBits(before);
  }

  bool listed_ = true;
  bool dense_ = false;
  std::vector<Row> list_;  // In order.
  Words summary_;
  std::vector<uint32_t> ranks_;  // By word of the summary: how many words come before its own.
  Words words_;                  // Dense: of all blocks. Else of those in the summary only.
};

template <typename Visit>
void MatchedRows::ForEach(Visit&& visit) const {
  for (const Row row : list_) visit(row);
  for (size_t i = 0; i < summary_.size(); ++i) {
    for (uint64_t some = summary_[i]; some != 0; some &= some - 1) {
      const size_t block = i * kBlock + LowestBit(some);
      for (uint64_t bits = word(block); bits != 0; bits &= bits - 1) {
        visit(static_cast<Row>(block * kBlock + LowestBit(bits)));
      }
    }
  }
}

// The rows that both have, in order: visit(row) until it returns false. False: `visit` did not want
// more.
template <typename Visit>
bool VisitCommon(const RowSet& bucket, const MatchedRows& matched, Visit&& visit) {
  if (bucket.listed()) {
    for (const Row row : bucket.list()) {
      if (matched.Contains(row) && !visit(row)) return false;
    }
    return true;
  }
  if (matched.listed()) {
    for (const Row row : matched.list()) {
      if (bucket.Contains(row) && !visit(row)) return false;
    }
    return true;
  }
  const size_t summaries = std::min(bucket.summary().size(), matched.summary().size());
  for (size_t i = 0; i < summaries; ++i) {
    for (uint64_t both = bucket.summary()[i] & matched.summary()[i]; both != 0; both &= both - 1) {
      const size_t block = i * kBlock + LowestBit(both);
      uint64_t word = bucket.words()[block] & matched.word(block);
      for (; word != 0; word &= word - 1) {
        if (!visit(static_cast<Row>(block * kBlock + LowestBit(word)))) return false;
      }
    }
  }
  return true;
}

}  // namespace muster::sched
