// Messages on their way out of one stream: collected while a batch is being written, so that they
// leave as one. A batch is bounded too, in bytes, so that it stays below what the other end takes.
//
// Thread-safety: none; the stream's lock guards it.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>

namespace muster {

template <typename Batch>
class BatchQueue {
 public:
  template <typename Message>
  void Push(Message message) {
    constexpr size_t kOverhead = 8;  // Tag and length of an entry of `messages`.
    constexpr size_t kBatchBytes = size_t{4} * 1024 * 1024;
    const size_t size = message.ByteSizeLong() + kOverhead;
    if (batches_.empty() || batches_.back().bytes + size > kBatchBytes) batches_.emplace_back();
    *batches_.back().batch.add_messages() = std::move(message);
    batches_.back().bytes += size;
    bytes_ += size;
  }
  // The next batch counts in bytes() until Written().
  // REQUIRES: !empty(), and the batch before it was written.
  Batch Pop() {
    Batch batch = std::move(batches_.front().batch);
    in_flight_ = batches_.front().bytes;
    batches_.pop_front();
    return batch;
  }
  void Written() { bytes_ -= std::exchange(in_flight_, 0); }
  void Clear() {
    batches_.clear();
    bytes_ = in_flight_;
  }
  bool empty() const { return batches_.empty(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Sized {
    Batch batch;
    size_t bytes = 0;
  };
  std::deque<Sized> batches_;
  size_t bytes_ = 0;
  size_t in_flight_ = 0;
};

}  // namespace muster
