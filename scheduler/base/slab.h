// Where many objects of one type live: close together, each at one address for life, in chunks that
// grow to what a large page of memory holds. A search that jumps from one to another misses the
// processor's caches and page tables less often than among objects allocated one by one.
//
// Thread-safety: none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#include "scheduler/base/check.h"

namespace muster {

// Memory for a slab; chunks of kLargePage bytes and more are aligned to it, and the kernel is asked
// to back them by large pages.
inline constexpr size_t kLargePage = size_t{2} << 20;
void* AllocateChunk(size_t bytes);
void FreeChunk(void* chunk, size_t bytes);

template <typename T>
class Slab {
 public:
  Slab() = default;
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  ~Slab() {  // REQUIRES: all are deleted.
    MUSTER_CHECK(live_ == 0);
    for (const Chunk& chunk : chunks_) FreeChunk(chunk.memory, chunk.bytes);
  }

  template <typename... Args>
  T* New(Args&&... args) {
    if (free_.empty()) Grow();
    void* const place = free_.back();
    free_.pop_back();
    ++live_;
    return new (place) T(std::forward<Args>(args)...);
  }
  void Delete(T* object) {
    object->~T();
    free_.push_back(object);
    --live_;
  }

 private:
  struct Chunk {
    void* memory = nullptr;
    size_t bytes = 0;
  };
  static constexpr size_t kFirstChunk = size_t{16} << 10;

  void Grow() {
    static_assert(alignof(T) <= 64 && sizeof(T) <= kFirstChunk);
    const size_t bytes =
        chunks_.empty() ? kFirstChunk : std::min(2 * chunks_.back().bytes, kLargePage);
    chunks_.push_back({.memory = AllocateChunk(bytes), .bytes = bytes});
    const size_t count = bytes / sizeof(T);
    free_.reserve(free_.size() + count);
    for (size_t i = count; i > 0; --i) {  // The first is handed out first.
      free_.push_back(static_cast<char*>(chunks_.back().memory) + (i - 1) * sizeof(T));
    }
  }

  std::vector<Chunk> chunks_;
  std::vector<void*> free_;
  size_t live_ = 0;
};

}  // namespace muster
