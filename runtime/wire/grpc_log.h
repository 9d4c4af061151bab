// gRPC's own log lines go into ours: its errors as warnings, the rest at debug level.
// Thread-safety: any thread; the first call counts.
#pragma once

namespace muster {

void RouteGrpcLog();

}  // namespace muster
