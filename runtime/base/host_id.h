// Whether two processes see the same machine: they can meet on an abstract Unix socket (network
// namespace), know each other's pids (pid namespace) and open each other's files (mount namespace).
//
// Two processes of one machine have the same HostId; two pods on it, or any two machines, do not.
// Thread-safety: any thread.
#pragma once

#include <string>

namespace muster {

std::string
HostId();  // "9a3c...-4026531841-4026531836-4026531840": boot id, then the three namespaces.

}  // namespace muster
