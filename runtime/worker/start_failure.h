// Why an executor did not come up, in words a user can act on.
#pragma once

#include <string>

namespace muster::worker {

// `failure` is what the executor said of itself ("" if nothing), `how` how it ended, `last_stderr`
// its last lines. "libfoo.so.3 is not there" where the dynamic linker missed a library.
std::string ExplainStartFailure(const std::string& failure, const std::string& how,
                                const std::string& last_stderr);

}  // namespace muster::worker
