// The head's port, before gRPC: accepts connections, and hands over those that begin like HTTP/2.
// What begins otherwise is closed with a warning, and so is what then breaks HTTP/2's rules or asks
// for nothing.
//
// gRPC closes broken connections without a word; a second descriptor of each, on which nothing is
// read, shows when that happens. Thread-safety: NoteCall from any thread, the rest from one.
// `hand_over` runs on the gate's own thread.
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

  Gate(Reactor& reactor, int listener, HandOver hand_over);  // Takes `listener`.
  ~Gate();       // Closes the listener and what was not handed over.
  void Start();  // Accepts from here on.

  // A call came in on the connection of `peer`, as gRPC names it ("ipv4:127.0.0.1:4711").
  void NoteCall(absl::string_view peer);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace muster
