// Which functions this program can run remotely, and what each is called on the wire.
//
// A function's key is the offset of its invoker from the base of the image that holds it, in the
// low 48 bits. In the program itself the bits above are 0; in a shared library they are a tag made
// of the library's build id (of its file name where it has none), so that offsets of different
// libraries do not clash. Driver and executor are the same binary, which MainImageBuildId() proves,
// and so agree on keys wherever the loader has put the images.
//
// Thread-safety: all functions may be called from any thread. Functions register at load, before
// main() or in dlopen().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/internal/runtime.h"

namespace muster::client {

struct RegisteredFunction {
  uint64_t key = 0;
  internal::Function function;
};

// Errors: kNotFound where no function of this program has the key.
absl::StatusOr<internal::Function> FindFunction(uint64_t key);

// The key of a registered function's invoker; nullopt where it was never registered.
std::optional<uint64_t> KeyOf(internal::Invoker invoker);

std::vector<RegisteredFunction> AllFunctions();  // By key.

// The linker's build id of the program (not of its libraries), in hex; empty where it was linked
// without one.
const std::string& MainImageBuildId();

// The path-free part: the id in the notes of an image (a PT_NOTE segment), in hex; empty where
// there is none or the notes are damaged.
std::string BuildIdInNotes(std::string_view notes);

}  // namespace muster::client
