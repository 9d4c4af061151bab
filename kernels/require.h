// Require(): the one check of the kernels. A broken precondition is our own mistake, so it ends the
// process with the sentence that was broken, in every build.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace muster::kernels {

inline void Require(bool holds, const char* sentence) {
  if (holds) return;
  std::fprintf(stderr, "kernels: required: %s\n", sentence);
  std::abort();
}

}  // namespace muster::kernels
