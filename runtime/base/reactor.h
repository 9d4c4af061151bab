// A Reactor waits for file descriptors and timers with epoll. At any time at most one thread polls
// it (has the role); whoever must wait for something the reactor will bring takes the role itself,
// so that a reply is handled on the thread that waits for it, without a hop. When nobody waits, an
// optional background thread takes over after a few milliseconds.
//
// Callbacks run on the polling thread, one at a time, without any lock of the reactor held. They
// may call Add, Modify, Remove and At for any descriptor, their own included.
// Thread-safety: all members may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace muster {

class Reactor {
 public:
  struct Options {
    bool background_thread = false;
    // How long a waiting thread polls without sleeping, while `RunUntil` says that a reply is on
    // its way.
    absl::Duration spin = absl::ZeroDuration();
  };
  explicit Reactor(Options options);
  ~Reactor();  // Stops the background thread. REQUIRES: no thread is in RunUntil().
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  using Callback = std::function<void(uint32_t epoll_events)>;
  // Level-triggered; `events` as EPOLLIN | EPOLLOUT. The descriptor stays the caller's.
  void Add(int fd, uint32_t events, Callback callback);
  void Modify(int fd, uint32_t events);
  void Remove(int fd);  // No callback of it starts after this returns, unless called from another
                        // thread than the poller while one runs.

  // Timers: `callback` runs once, at or after `when`. Gives an id for CancelTimer (a timer that has
  // run is ignored).
  uint64_t At(absl::Time when, std::function<void()> callback);
  void CancelTimer(uint64_t id);

  // Polls, or waits for the thread that polls, until `done()` or the deadline. `done` is called
  // often, from this thread, without locks; it must be cheap. `spin`: a reply is expected soon.
  // Returns done().
  // Where the deadline has passed, what is ready is handled once, without a wait.
  bool RunUntil(absl::FunctionRef<bool()> done, absl::Time deadline, bool spin = false);
  // Makes every RunUntil() look at its `done` again.
  void Wake();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster
