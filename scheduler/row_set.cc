#include "scheduler/row_set.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace muster::sched {

bool RowSet::Contains(Row row) const {
  if (listed()) return std::binary_search(list_.begin(), list_.end(), row);
  return HasBit(words_, row);
}

void RowSet::Add(Row row) {
  ++size_;
  const bool far = row / kBlock >= kFewBlocks;
  if (listed() && (size_ > kListMax || (size_ == 1 && !far))) {
    Spread();
  } else if (!listed() && far && size_ <= kListMax && words_.size() <= kFewBlocks) {
    Gather();
  }
  if (listed()) {
    AddToList(row);
    return;
  }
  SetBits(row);
}

void RowSet::SetBits(Row row) {
  SetBit(words_, row);
  SetBit(summary_, row / kBlock);
}

void RowSet::AddToList(Row row) {
  if (list_.empty() || list_.back() < row) {
    list_.push_back(row);
  } else {
    list_.insert(std::lower_bound(list_.begin(), list_.end(), row), row);
  }
}

void RowSet::Remove(Row row) {
  MUSTER_CHECK(size_ > 0);
  --size_;
  if (listed()) {
    const auto found = std::lower_bound(list_.begin(), list_.end(), row);
    MUSTER_CHECK(found != list_.end());
    MUSTER_CHECK(*found == row);
    list_.erase(found);
    return;
  }
  const size_t block = row / kBlock;
  uint64_t& word = words_[block];
  word &= ~(uint64_t{1} << (row % kBlock));
  if (word == 0) summary_[block / kBlock] &= ~(uint64_t{1} << (block % kBlock));
}

void RowSet::Spread() {
  listed_ = false;
  for (const Row row : list_) SetBits(row);
  list_ = {};
}

void RowSet::Gather() {
  for (size_t block = 0; block < words_.size(); ++block) {
    for (uint64_t word = words_[block]; word != 0; word &= word - 1) {
      list_.push_back(static_cast<Row>(block * kBlock + LowestBit(word)));
    }
  }
  listed_ = true;
  words_ = {};
  summary_ = {};
}

void RowSet::AddTo(Words& words) const {
  for (const Row row : list_) SetBit(words, row);
  if (listed()) return;
  for (size_t i = 0; i < words_.size(); ++i) words[i] |= words_[i];
}

void RowSet::RemoveFrom(Words& words) const {
  for (const Row row : list_) words[row / kBlock] &= ~(uint64_t{1} << (row % kBlock));
  if (listed()) return;
  for (size_t i = 0; i < words_.size(); ++i) words[i] &= ~words_[i];
}

void MatchedRows::Build(const Words& words) {
  size_t count = 0;
  size_t blocks = 0;
  for (const uint64_t word : words) {
    count += CountBits(word);
    blocks += word != 0 ? 1 : 0;
  }
  list_.clear();
  summary_.clear();
  ranks_.clear();
  words_.clear();
  listed_ = count <= kListMax && words.size() > kFewBlocks;
  dense_ = !listed_ && blocks * kDenseFactor >= words.size();
  if (!listed_) summary_.resize((words.size() + kBlock - 1) / kBlock);
  if (dense_) {
    words_ = words;
  } else if (!listed_) {
    words_.reserve(blocks);
  }
  for (size_t block = 0; block < words.size(); ++block) {
    uint64_t word = words[block];
    if (listed_) {
      for (; word != 0; word &= word - 1) {
        list_.push_back(static_cast<Row>(block * kBlock + LowestBit(word)));
      }
      continue;
    }
    if (!dense_ && block % kBlock == 0) ranks_.push_back(static_cast<uint32_t>(words_.size()));
    if (word == 0) continue;
    SetBit(summary_, block);
    if (!dense_) words_.push_back(word);
  }
}

bool MatchedRows::Contains(Row row) const {
  if (listed_) return std::binary_search(list_.begin(), list_.end(), row);
  if (dense_) return HasBit(words_, row);
  const size_t block = row / kBlock;
  return HasBit(summary_, block) && (words_[Place(block)] >> (row % kBlock) & 1) != 0;
}

void MatchedRows::Set(Row row, bool matched) {
  if (listed_) {
    const auto found = std::lower_bound(list_.begin(), list_.end(), row);
    const bool there = found != list_.end() && *found == row;
    if (there && !matched) list_.erase(found);
    if (!there && matched) list_.insert(found, row);
    return;  // A list that has grown is spread when it is built the next time.
  }
  const size_t block = row / kBlock;
  const uint64_t bit = uint64_t{1} << (row % kBlock);
  if (HasBit(summary_, block)) {
    uint64_t& word = words_[dense_ ? block : Place(block)];
    word = matched ? word | bit : word & ~bit;
    return;
  }
  if (!matched) return;
  if (dense_) {
    SetBit(words_, row);
    SetBit(summary_, block);
    return;
  }
  while (ranks_.size() <= block / kBlock) {
    ranks_.push_back(static_cast<uint32_t>(words_.size()));
    summary_.push_back(0);
  }
  words_.insert(words_.begin() + static_cast<int64_t>(Place(block)), bit);
  SetBit(summary_, block);
  for (size_t i = block / kBlock + 1; i < ranks_.size(); ++i) ++ranks_[i];
}

size_t MatchedRows::bytes() const {
  return list_.capacity() * sizeof(Row) + ranks_.capacity() * sizeof(uint32_t) +
         (summary_.capacity() + words_.capacity()) * sizeof(uint64_t);
}

}  // namespace muster::sched
