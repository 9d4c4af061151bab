// The --muster-... flags and variables that every program with Init() understands.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "muster/options.h"

namespace muster::client {

// Takes the --muster-... flags out of argv, up to "--", and puts what they say into `options`; the
// last of two that say the same counts. Both "--muster-address=X" and "--muster-address X" are
// understood. All else stays in argv, in its order, with a null pointer at the end.
//
// Errors: kInvalidArgument with a line that names the flag, its value and what is allowed; argc,
// argv and options
//   are then as before.
absl::Status TakeFlags(int& argc, char** argv, InitOptions& options);

// The address to use: options.address, else the value of MUSTER_ADDRESS, else empty (a cluster on
// this machine). A flag has put its value into options.address by then, and so comes first.
std::string AddressToUse(const InitOptions& options, const char* muster_address_variable);

}  // namespace muster::client
