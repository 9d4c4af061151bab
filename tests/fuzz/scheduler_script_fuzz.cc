// Whatever script is given, it is refused with its line or runs, with the scheduler's invariants
// checked after each event; what it prints, written into the script, is what it then expects.
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "scheduler/base/check.h"
#include "scheduler/script/script.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kSizeMax = 4096;
  if (size > kSizeMax) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<muster::sched::Script> script = muster::sched::ParseScript(text);
  if (!script.ok()) return 0;
  // Large groups of tiny bundles are legal, and slow under the fuzzer.
  for (const muster::sched::ScriptStatement& statement : script->statements) {
    const auto* event = std::get_if<decltype(muster::sched::Event::what)>(&statement.what);
    if (event == nullptr) continue;
    const auto* requested = std::get_if<muster::sched::Requested>(event);
    const auto* joined = std::get_if<muster::sched::NodeJoined>(event);
    if (requested != nullptr && requested->spec->bundles > 64) return 0;
    if (joined != nullptr) {
      for (const muster::sched::HeldLease& held : joined->held) {
        if (held.spec->bundles > 64) return 0;
      }
    }
  }
  const std::vector<std::vector<std::string>> printed = RunScript(*script);
  MUSTER_CHECK(printed == RunScript(*script));
  const absl::StatusOr<muster::sched::Script> again =
      muster::sched::ParseScript(RewriteScript(*script, printed));
  MUSTER_CHECK(again.ok());
  MUSTER_CHECK(DiffScript(*again, printed).empty());
  return 0;
}
