// NVIDIA's management library, loaded at run time: it comes with the driver, or is not there.
// Thread-safety: as a std::unique_ptr; the dynamic loader's own for the rest.
#pragma once

#include <dlfcn.h>

#include <memory>
#include <string>

namespace muster::worker::nvml {

struct CloseLibrary {
  void operator()(void* handle) const { dlclose(handle); }
};
using Library = std::unique_ptr<void, CloseLibrary>;  // Null: dlerror() says why.

inline Library Load(const std::string& name) {
  return Library(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
}

// False: the library has no such function, and `function` is null.
template <typename Function>
bool Find(const Library& library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library.get(), name));
  return function != nullptr;
}

}  // namespace muster::worker::nvml
