#include "runtime/worker/start_failure.h"

#include "absl/strings/str_cat.h"

namespace muster::worker {

std::string ExplainStartFailure(const std::string& failure, const std::string& how,
                                const std::string& last_stderr) {
  if (!failure.empty()) return failure;
  // glibc: "score: error while loading shared libraries: libfoo.so.3: cannot open shared object
  // file: ..."
  const std::string loading = "error while loading shared libraries: ";
  const size_t begin = last_stderr.find(loading);
  if (begin != std::string::npos) {
    const size_t name = begin + loading.size();
    const size_t colon = last_stderr.find(':', name);
    const std::string library = last_stderr.substr(name, colon - name);
    if (last_stderr.find("No such file", name) != std::string::npos)
      return absl::StrCat(library, " is not there");
    const size_t end = last_stderr.find('\n', name);
    return last_stderr.substr(name, end - name);
  }
  std::string text = how == "exit status 0"
                         ? "it ended before muster::Init was called; main() must call it first"
                         : absl::StrCat("it ended before it was ready: ", how);
  if (!last_stderr.empty()) absl::StrAppend(&text, ". Last lines of its stderr: ", last_stderr);
  return text;
}

}  // namespace muster::worker
