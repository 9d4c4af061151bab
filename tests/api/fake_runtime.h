// The library behind the public headers, played inside one process: calls run in threads, on the
// serialized bytes, as an executor would run them. For tests of the headers; nothing is scheduled.
#pragma once

#include <string>
#include <vector>

#include "muster/internal/runtime.h"

namespace muster::fake {

// What Submit() and SubmitGroup() were given, oldest first.
std::vector<TaskOptions> SubmittedOptions();
// Calls whose function is called `name` do not start before Release(name) (nor end, for Get).
void Hold(const std::string& name);
void Release(const std::string& name);
// Waits for all threads and forgets everything but the registrations.
void Reset();

}  // namespace muster::fake
