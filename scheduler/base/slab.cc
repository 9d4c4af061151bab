#include "scheduler/base/slab.h"

#include <sys/mman.h>

namespace muster {
namespace {

std::align_val_t AlignmentOf(size_t bytes) {
  return std::align_val_t{bytes >= kLargePage ? kLargePage : 64};
}

}  // namespace

void* AllocateChunk(size_t bytes) {
  void* const chunk = ::operator new(bytes, AlignmentOf(bytes));
  // Advice only: where the kernel has no large page to give, nothing else changes.
  if (bytes >= kLargePage) madvise(chunk, bytes, MADV_HUGEPAGE);
  return chunk;
}

void FreeChunk(void* chunk, size_t bytes) { ::operator delete(chunk, AlignmentOf(bytes)); }

}  // namespace muster
