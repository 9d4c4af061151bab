// Sets of rows. A row is a node's place in the index (see NodeRows): 64 rows make a block, a word
// of bits, and one bit of the summary stands for a block that may have a member.
//
// RowSet changes often (who has a label's value, who has so much free); MatchedRows is what a
// selector matches: built at once, then corrected row by row, and small where it matches little.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace muster::sched {

using Row = uint32_t;
using Words = std::vector<uint64_t>;  // Bits.

inline constexpr Row kBlock = 64;
inline constexpr Row kNoRow = ~Row{0};

inline bool HasBit(const Words& words, size_t bit) {
  return bit / kBlock < words.size() && (words[bit / kBlock] >> (bit % kBlock) & 1) != 0;
}
inline void SetBit(Words& words, size_t bit) {
  if (bit / kBlock >= words.size()) words.resize(bit / kBlock + 1);
  words[bit / kBlock] |= uint64_t{1} << (bit % kBlock);
}
inline int LowestBit(uint64_t word) { return std::countr_zero(word); }

class RowSet {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool Contains(Row row) const;
  void Add(Row row);     // REQUIRES: not there.
  void Remove(Row row);  // REQUIRES: there.

  // A list where the set is small, else bits.
  bool listed() const { return bits_ == nullptr; }
  const std::vector<Row>& list() const { return list_; }   // In order.
  const Words& words() const { return bits_->words; }      // By block.
  const Words& summary() const { return bits_->summary; }  // A bit for each block that is not 0.

  void AddTo(Words& words) const;       // REQUIRES: large enough.
  void RemoveFrom(Words& words) const;  // REQUIRES: large enough.

 private:
  static constexpr size_t kListMax = 32;
  struct Bits {
    Words words;
    Words summary;
  };
  void Spread();  // From a list to bits.

  size_t size_ = 0;
  std::vector<Row> list_;
  std::unique_ptr<Bits> bits_;
};

class MatchedRows {
 public:
  void Build(const Words& words);  // A bit for each row.
  void Set(Row row, bool matched);
  bool Contains(Row row) const;

  bool listed() const { return listed_; }
  const std::vector<Row>& list() const { return list_; }
  // A bit for each block that has a word. The word may have become 0.
  const Words& summary() const { return summary_; }
  uint64_t word(size_t block) const {  // REQUIRES: !listed(), and its bit in summary().
    const uint64_t before = summary_[block / kBlock] & ((uint64_t{1} << (block % kBlock)) - 1);
    return words_[ranks_[block / kBlock] + static_cast<size_t>(std::popcount(before))];
  }
  size_t bytes() const;

 private:
  static constexpr size_t kListMax = 32;
  size_t Place(size_t block) const;  // In words_. REQUIRES: its bit in summary().

  bool listed_ = true;
  std::vector<Row> list_;  // In order.
  Words summary_;
  std::vector<uint32_t> ranks_;  // By word of the summary: how many words come before its own.
  Words words_;                  // Of the blocks in the summary only.
};

}  // namespace muster::sched
