// Sending for memory before it is needed, so that several misses pass at the same time.
#pragma once

#include <cstdint>

namespace muster::sched {

// Asks for `count` cache lines from `first` on, to be written to. Any address will do, none among
// them: nothing is read, and lines beyond the object only cost their place in the cache.
inline void PrefetchLines(const void* first, int count) {
  const auto begin = reinterpret_cast<uintptr_t>(first);
  for (int line = 0; line < count; ++line) {
    __builtin_prefetch(reinterpret_cast<const void*>(begin + static_cast<uintptr_t>(line) * 64), 1);
  }
}

}  // namespace muster::sched
