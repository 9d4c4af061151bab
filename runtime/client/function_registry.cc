#include "runtime/client/function_registry.h"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/mutex.h"
#include "scheduler/base/check.h"

namespace muster {
namespace client {
namespace {

constexpr int kOffsetBits = 48;
constexpr uint64_t kOffsetMask = (uint64_t{1} << kOffsetBits) - 1;

struct Registry {
  Mutex mutex;
  std::map<uint64_t, internal::Function> functions ABSL_GUARDED_BY(mutex);
  std::map<internal::Invoker, uint64_t> keys ABSL_GUARDED_BY(mutex);
};

// Made by whichever static member registers first, and never destroyed: tasks may run until the
// last moment.
Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

struct Image {
  uintptr_t address = 0;  // Looked for; 0: the program itself, which the loader names first.
  bool found = false;
  bool main = true;
  uintptr_t base = 0;
  std::string file_name = {};
  std::string build_id = {};
};

bool Holds(const dl_phdr_info& info, uintptr_t address) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    const uintptr_t begin = info.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && begin <= address && address - begin < segment.p_memsz) {
      return true;
    }
  }
  return false;
}

std::string BuildIdOf(const dl_phdr_info& info) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the loader says where it is as a number.
    const auto* const notes = reinterpret_cast<const char*>(info.dlpi_addr + segment.p_vaddr);
    std::string id = BuildIdInNotes(std::string_view(notes, segment.p_memsz));
    if (!id.empty()) return id;
  }
  return "";
}

int LookAtImage(dl_phdr_info* info, size_t /*size*/, void* data) {
  Image& image = *static_cast<Image*>(data);
  if (image.address != 0 && !Holds(*info, image.address)) {
    image.main = false;
    return 0;
  }
  image.found = true;
  image.base = info->dlpi_addr;
  image.file_name = info->dlpi_name;
  image.build_id = BuildIdOf(*info);
  return 1;
}

// FNV-1a: the same in every process.
uint64_t TagOf(const Image& image) {
  std::string_view name = image.file_name;
  name.remove_prefix(name.rfind('/') + 1);  // All of it where there is no slash.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : image.build_id.empty() ? name : std::string_view(image.build_id)) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  const uint64_t tag = (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) & 0xffff;
  return tag == 0 ? 1 : tag;  // 0 is the program.
}

uint64_t KeyInImage(internal::Invoker invoker) {
  Image image = {.address = reinterpret_cast<uintptr_t>(invoker)};
  dl_iterate_phdr(&LookAtImage, &image);
  MUSTER_CHECK(image.found);
  const uint64_t offset = image.address - image.base;
  MUSTER_CHECK(offset <= kOffsetMask);
  return image.main ? offset : (TagOf(image) << kOffsetBits) | offset;
}

size_t PaddedTo4(size_t size) { return (size + 3) & ~size_t{3}; }

}  // namespace

std::string BuildIdInNotes(std::string_view notes) {
  ElfW(Nhdr) header;
  while (notes.size() >= sizeof(header)) {
    std::memcpy(&header, notes.data(), sizeof(header));
    notes.remove_prefix(sizeof(header));
    const size_t name_size = PaddedTo4(header.n_namesz);
    const size_t id_size = header.n_descsz;
    if (name_size > notes.size() || id_size > notes.size() - name_size) return "";
    const std::string_view name = notes.substr(0, header.n_namesz);
    if (header.n_type == NT_GNU_BUILD_ID && name == std::string_view("GNU\0", 4)) {
      return absl::BytesToHexString(absl::string_view(notes.data() + name_size, id_size));
    }
    notes.remove_prefix(std::min(notes.size(), name_size + PaddedTo4(id_size)));
  }
  return "";
}

absl::StatusOr<internal::Function> FindFunction(uint64_t key) {
  Registry& registry = TheRegistry();
  const MutexLock lock(&registry.mutex);
  const auto found = registry.functions.find(key);
  if (found == registry.functions.end()) {
    return absl::NotFoundError(absl::StrCat(
        "this program has no remote function with the key ", absl::Hex(key),
        ": was it built like the driver, and is the shared library with the function loaded?"));
  }
  return found->second;
}

std::optional<uint64_t> KeyOf(internal::Invoker invoker) {
  Registry& registry = TheRegistry();
  const MutexLock lock(&registry.mutex);
  const auto found = registry.keys.find(invoker);
  if (found == registry.keys.end()) return std::nullopt;
  return found->second;
}

std::vector<RegisteredFunction> AllFunctions() {
  Registry& registry = TheRegistry();
  const MutexLock lock(&registry.mutex);
  std::vector<RegisteredFunction> all;
  all.reserve(registry.functions.size());
  for (const auto& [key, function] : registry.functions) {
    all.push_back({.key = key, .function = function});
  }
  return all;
}

const std::string& MainImageBuildId() {
  static const std::string* const id = [] {
    Image image;
    dl_iterate_phdr(&LookAtImage, &image);
    return new std::string(std::move(image.build_id));
  }();
  return *id;
}

}  // namespace client

namespace internal {

uint64_t RegisterFunction(Invoker invoker, std::string name) {
  client::Registry& registry = client::TheRegistry();
  const uint64_t key = client::KeyInImage(invoker);
  const MutexLock lock(&registry.mutex);
  const auto [at, added] =
      registry.functions.insert({key, Function{.invoker = invoker, .name = std::move(name)}});
  // The same invoker may come twice: a linker that folds equal code makes one of two functions that
  // do the same.
  MUSTER_CHECK(added || at->second.invoker == invoker);
  registry.keys[invoker] = key;
  return key;
}

}  // namespace internal
}  // namespace muster
