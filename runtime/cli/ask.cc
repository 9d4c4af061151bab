#include "runtime/cli/ask.h"

#include <cstdio>

#include "runtime/cli/command.h"
#include "runtime/cli/output.h"

namespace muster::cli {

void AddAddress(Arguments& arguments, std::string* address) {
  arguments.Text("--address", "HOST:PORT",
                 "the head's (default: MUSTER_ADDRESS, else 127.0.0.1:6379)", address);
}

void AddJson(Arguments& arguments, bool* json) {
  arguments.Flag("--json", "print JSON, for programs", json);
}

int Failed(const absl::Status& status) {
  fprintf(stderr, "%s\n", Printable(status.message()).c_str());
  return kFailed;
}

int NoAnswer(const absl::Status& status) {
  Failed(status);
  const bool unreachable = absl::IsUnavailable(status) || absl::IsUnauthenticated(status) ||
                           absl::IsFailedPrecondition(status) || absl::IsDeadlineExceeded(status) ||
                           absl::IsUnimplemented(status);
  return unreachable ? kUnreachable : kFailed;
}

}  // namespace muster::cli
