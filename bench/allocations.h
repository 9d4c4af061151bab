// How much memory the program has allocated with new, and how often. Include it in one file of a
// program: it replaces the global operators.
#pragma once

#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <new>

namespace muster::bench {

// As the allocator counts them, its rounding included; but what is aligned as it was asked for:
// what the allocator keeps beside a large page depends on where the heap happens to begin.
inline int64_t allocated_bytes = 0;
inline int64_t allocations = 0;

}  // namespace muster::bench

void* operator new(size_t size) {
  void* const memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  muster::bench::allocated_bytes += static_cast<int64_t>(malloc_usable_size(memory)) + 8;
  ++muster::bench::allocations;
  return memory;
}
void* operator new(size_t size, std::align_val_t alignment) {
  const size_t unit = static_cast<size_t>(alignment);
  void* const memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
  if (memory == nullptr) std::abort();
  muster::bench::allocated_bytes += static_cast<int64_t>(size) + 8;
  ++muster::bench::allocations;
  return memory;
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  muster::bench::allocated_bytes -= static_cast<int64_t>(malloc_usable_size(memory)) + 8;
  std::free(memory);
}
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete(void* memory, size_t size, std::align_val_t) noexcept {
  if (memory == nullptr) return;
  muster::bench::allocated_bytes -= static_cast<int64_t>(size) + 8;
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept { operator delete(memory); }
void operator delete[](void* memory, size_t) noexcept { operator delete(memory); }
