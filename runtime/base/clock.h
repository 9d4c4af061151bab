// The time that shells stamp on events and that reactors go by: it never jumps or runs backwards.
//
// It equals the wall clock when the process starts and then advances with CLOCK_MONOTONIC, so that
// it can be shown to people; it means nothing in another process.
// Thread-safety: any thread.
#pragma once

#include "absl/time/time.h"

namespace muster {

absl::Time MonotonicNow();

}  // namespace muster
