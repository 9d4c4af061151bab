// What the head's core is told and what it wants done. Messages are those of the wire: the shell
// adds which connection they came on.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/time/time.h"
#include "muster/v1/cluster.pb.h"

namespace muster::head {

using ConnectionId = uint64_t;  // 0 is none.

struct FromDriver {
  ConnectionId connection = 0;
  v1::DriverMessage message;
};
struct DriverClosed {
  ConnectionId connection = 0;
};
struct FromWorker {
  ConnectionId connection = 0;
  v1::WorkerMessage message;
};
struct WorkerClosed {
  ConnectionId connection = 0;
};
struct Asked {  // `muster explain task`; answered by Answer with the same query.
  uint64_t query = 0;
  std::string task_prefix;
};
struct NodeControl {  // An operator's, checked by HeadCore::CheckControl().
  v1::ControlNodeRequest request;
};
struct SharingControl {  // An operator's, checked by HeadCore::CheckSharing().
  v1::SetSharingRequest request;
};
struct StopAsked {};  // `muster down`: the workers are told to end.
struct Tick {};

struct Event {
  absl::Time at{};
  std::variant<FromDriver, DriverClosed, FromWorker, WorkerClosed, Asked, NodeControl,
               SharingControl, StopAsked, Tick>
      what;
};

struct ToDriver {
  ConnectionId connection = 0;
  v1::ToDriver message;
};
struct ToWorker {
  ConnectionId connection = 0;
  v1::ToWorker message;
};
struct CloseConnection {  // After what was sent before it.
  ConnectionId connection = 0;
};
struct Answer {
  uint64_t query = 0;
  v1::ExplainReply reply;
};
struct Say {  // A line for the log.
  bool warning = false;
  std::string text;
};

using Action = std::variant<ToDriver, ToWorker, CloseConnection, Answer, Say>;

}  // namespace muster::head
