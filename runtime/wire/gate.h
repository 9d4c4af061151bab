// The head's port, before gRPC: accepts connections, and hands over those that begin like HTTP/2.
// What begins otherwise is closed with a warning, and so is what then breaks HTTP/2's rules or asks
// for nothing.
//
// gRPC closes broken connections without a word; a second descriptor of each, on which nothing is
// read, shows when that happens.
// Thread-safety: NoteCall from any thread and at any time, the rest from one. `hand_over` runs on
// the reactor's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/base/reactor.h"

namespace muster {

class Gate {
 public:
  // Takes the descriptor of the connection. `begin` was already read.
  using HandOver = std::function<void(int fd, const std::string& begin)>;

  // Takes `listener`. REQUIRES: the reactor has a background thread.
  Gate(Reactor& reactor, int listener, HandOver hand_over);
  ~Gate();       // Stop().
  void Start();  // Accepts from here on.
  // Closes the listener and what was not handed over; says of the rest what it has not yet said.
  // Idempotent.
  void Stop();

  // A call came in on the connection of `peer`, as gRPC names it ("ipv4:127.0.0.1:4711").
  void NoteCall(absl::string_view peer);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace muster
