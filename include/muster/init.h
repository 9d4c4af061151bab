// Joining a cluster and leaving it. One process has at most one connection.
#pragma once

#include "absl/status/status.h"
#include "muster/options.h"

namespace muster {

// Call it first in main(). Connects to --muster-address= or MUSTER_ADDRESS; without either it
// starts a cluster on this machine. Takes the --muster-... flags out of argv:
//   --muster-address=HOST:PORT   the head
//   --muster-reconnect=60s       how long to wait for a head that is away
//   --muster-num-cpus=N  --muster-num-gpus=N  --muster-labels=K=V,...   what the cluster on this
//   machine says it has
// Ends the program with one line when it cannot connect (exit code 3) or a flag is wrong (2). In an
// executor it serves tasks and never returns.
void Init(int& argc, char** argv);

// The same, for programs that go on without a cluster. Give it argc and argv (InitOptions) so that
// flags count. Errors: kInvalidArgument for wrong flags and options, kUnavailable when there is no
// head, kFailedPrecondition when this
//   process is connected already or the head speaks another protocol.
absl::Status TryInit(InitOptions options = {});

// Ends what this process has submitted, and a cluster that Init() started. Also runs at exit; twice
// is harmless.
void Shutdown();

bool IsInitialized();

}  // namespace muster
