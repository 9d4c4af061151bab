#include "runtime/base/random.h"

#include <sys/random.h>

#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

void FillRandom(char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t got = getrandom(bytes, count, 0);
    if (got < 0 && errno == EINTR) continue;
    MUSTER_CHECK(got > 0);
    bytes += got;
    count -= static_cast<size_t>(got);
  }
}

}  // namespace

uint64_t RandomId() {
  uint64_t id = 0;
  while (id == 0) FillRandom(reinterpret_cast<char*>(&id), sizeof(id));
  return id;
}

std::string RandomHex(size_t bytes) {
  std::string random(bytes, '\0');
  FillRandom(random.data(), random.size());
  return Hex(random);
}

std::string Hex(uint64_t value) { return absl::StrCat(absl::Hex(value, absl::kZeroPad16)); }
std::string Hex(absl::string_view bytes) { return absl::BytesToHexString(bytes); }

}  // namespace muster
