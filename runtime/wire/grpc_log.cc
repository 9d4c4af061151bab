#include "runtime/wire/grpc_log.h"

#include <grpc/support/log.h>

#include "runtime/base/log.h"

namespace muster {
namespace {

void LogGrpcLine(gpr_log_func_args* line) {
  const LogLevel level =
      line->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  Log(level, "gRPC: ", line->message);
}

}  // namespace

void RouteGrpcLog() {
  static const bool routed = [] {
    gpr_set_log_function(LogGrpcLine);
    return true;
  }();
  (void)routed;
}

}  // namespace muster
