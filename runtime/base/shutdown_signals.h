// SIGTERM and SIGINT as an event of a Reactor. SIGPIPE is ignored from here on.
//
// Make it in main(), before any thread is started: threads made before would still be ended by the
// signals. Children that are to be stopped by these signals must unblock them before exec:
// UnblockAll().
// Thread-safety: construction and destruction from one thread. At most one at a time.
#pragma once

#include <functional>

#include "runtime/base/reactor.h"

namespace muster {

class ShutdownSignals {
 public:
  // `on_signal` gets SIGTERM or SIGINT, each time one arrives, on the reactor's polling thread.
  ShutdownSignals(Reactor& reactor, std::function<void(int signal)> on_signal);
  ~ShutdownSignals();  // The signals end the process again.
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;

  // For a child between fork and exec (async-signal-safe): no signal blocked, SIGPIPE as the kernel
  // sets it.
  static void UnblockAll();

 private:
  Reactor& reactor_;
  int fd_;
};

}  // namespace muster
