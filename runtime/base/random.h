// Random numbers from the kernel, for ids and tokens.
// Errors: a kernel without getrandom ends the process.
// Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

uint64_t RandomId();                       // Never 0.
std::string RandomHex(size_t bytes);       // 2 * bytes digits.
std::string Hex(uint64_t value);           // 16 digits.
std::string Hex(absl::string_view bytes);  // 2 digits a byte.

}  // namespace muster
