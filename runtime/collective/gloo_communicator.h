// GlooCommunicator is the communicator of ranks without GPUs: Gloo's algorithms over TCP.
//
// How a death is named. Every pair of ranks has a connection, and a thread on each side that waits
// for its end. When a rank dies its sockets close, and who sees that first writes who died into the
// store, ends its own operation and closes its own connections; ranks that see only this find the
// note in the store and tell of the rank that died, not of the messenger.
//   connect:  name/<r> -> who it is, rank/<...> -> Gloo's addresses
//   failure:  failure  -> "rank 2 (node 6f1c2a, pid 812): connection closed"
// A rank that stops without dying (or a machine that vanishes) is noticed by the timeout only.
// Gloo throws; nothing thrown leaves this file.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "muster/collective.h"
#include "runtime/collective/communicator.h"

namespace muster {

absl::StatusOr<std::unique_ptr<Communicator>> ConnectGloo(const CollectiveOptions& options);

}  // namespace muster
