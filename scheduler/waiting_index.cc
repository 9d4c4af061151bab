#include "scheduler/waiting_index.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace muster::sched {
namespace {

void TakeAway(Words& words, const Words& those) {
  const size_t count = std::min(words.size(), those.size());
  for (size_t i = 0; i < count; ++i) words[i] &= ~those[i];
}

// Of `those`, only what is in `except` stays.
void TakeAwayExcept(Words& words, const Words& those, const Words& except) {
  const size_t both = std::min({words.size(), those.size(), except.size()});
  for (size_t i = 0; i < both; ++i) words[i] &= ~those[i] | except[i];
  const size_t count = std::min(words.size(), those.size());
  for (size_t i = both; i < count; ++i) words[i] &= ~those[i];
}

}  // namespace

void WaitingIndex::Set(SchedulingClass& of, int open) {
  while (static_cast<int>(of.waiting_bits.size()) > open) {
    Remove(of, static_cast<int>(of.waiting_bits.size()) - 1);
  }
  while (static_cast<int>(of.waiting_bits.size()) < open) {
    Add(of, static_cast<int>(of.waiting_bits.size()));
  }
}

void WaitingIndex::Add(SchedulingClass& of, int choice) {
  uint32_t bit = static_cast<uint32_t>(class_of_bit_.size());
  if (free_bits_.empty()) {
    class_of_bit_.push_back(&of);
  } else {
    bit = free_bits_.back();
    free_bits_.pop_back();
    class_of_bit_[bit] = &of;
  }
  of.waiting_bits.push_back(bit);
  Change(of, choice, bit, true);
}

void WaitingIndex::Remove(SchedulingClass& of, int choice) {
  const uint32_t bit = of.waiting_bits.back();
  of.waiting_bits.pop_back();
  Change(of, choice, bit, false);
  class_of_bit_[bit] = nullptr;
  free_bits_.push_back(bit);
}

void WaitingIndex::Change(const SchedulingClass& of, int choice, uint32_t bit, bool set) {
  Change(all_, bit, set);
  // Of a placement group's shapes, and inside one, no node is to hold all that the choice says.
  if (of.spec.is_group() || of.spec.inside.has_value()) return;
  const int64_t gpus = of.spec.choices[choice].resources.gpus;
  if (gpus > 0 && gpus < Amount::kUnit) Change(shares_, bit, set);
  for (int level = 0; level < kGpuLevels && level < gpus / Amount::kUnit; ++level) {
    Change(more_whole_[level], bit, set);
  }
  for (const IndexedRequirement& requirement : index_.requirements(of.selectors[choice])) {
    if (requirement.in.empty()) continue;
    if (asks_for_.size() <= requirement.key) asks_for_.resize(requirement.key + 1);
    Bits& asks = asks_for_[requirement.key];
    if (asks.count == 0) asked_.push_back(requirement.key);
    Change(asks, bit, set);
    if (asks.count == 0) {
      asked_.erase(std::find(asked_.begin(), asked_.end(), requirement.key));
    }
    for (const LabelValueId value : requirement.in) {
      const auto found = accepts_.try_emplace(value).first;
      Change(found->second, bit, set);
      if (found->second.count == 0) accepts_.erase(found);
    }
  }
}

void WaitingIndex::Change(Bits& bits, uint32_t bit, bool set) {
  if (set) {
    SetBit(bits.words, bit);
    ++bits.count;
  } else {
    MUSTER_CHECK(HasBit(bits.words, bit));
    bits.words[bit / kBlock] &= ~(uint64_t{1} << (bit % kBlock));
    --bits.count;
  }
}

void WaitingIndex::Candidates(const Node& node, std::vector<SchedulingClass*>& classes) {
  if (all_.count == 0) return;
  result_.assign(all_.words.begin(), all_.words.end());
  const Devices& devices = node.free.devices();
  if (devices.free() == 0) TakeAway(result_, shares_.words);
  if (devices.empty_devices() < kGpuLevels) {
    TakeAway(result_, more_whole_[devices.empty_devices()].words);
  }
  static const Words kNone;
  for (const LabelKeyId key : asked_) {
    const auto accepts = accepts_.find(node.labels.ValueOf(key));
    TakeAwayExcept(result_, asks_for_[key].words,
                   accepts == accepts_.end() ? kNone : accepts->second.words);
  }
  for (size_t i = 0; i < result_.size(); ++i) {
    for (uint64_t word = result_[i]; word != 0; word &= word - 1) {
      SchedulingClass* const of = class_of_bit_[i * kBlock + LowestBit(word)];
      if (of->candidate) continue;
      of->candidate = true;
      classes.push_back(of);
    }
  }
}

}  // namespace muster::sched
