#include "runtime/base/reactor.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

// How often the background thread looks whether it is needed: it takes a role that has lain unused
// between two looks, so that a loop of short waits never meets it.
constexpr absl::Duration kLookEvery = absl::Milliseconds(5);
constexpr int kEventsPerPoll = 64;
constexpr uint64_t kWakeId = 0;

int MakeEventFd() {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  MUSTER_CHECK(fd >= 0);
  return fd;
}
void WriteEvent(int fd) {
  const uint64_t one = 1;
  MUSTER_CHECK(write(fd, &one, sizeof(one)) == static_cast<ssize_t>(sizeof(one)));
}
void DrainEvent(int fd) {
  uint64_t count = 0;
  while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) {
  }
}

// Never negative, rounded up to `unit` by the kernel or here: a timer may be late, not early.
timespec ToTimeout(absl::Duration wait) {
  return absl::ToTimespec(std::max(wait, absl::ZeroDuration()));
}
int ToTimeoutMs(absl::Duration wait) {
  if (wait > absl::Hours(1)) return 3600 * 1000;
  return static_cast<int>(absl::ToInt64Milliseconds(
      absl::Ceil(std::max(wait, absl::ZeroDuration()), absl::Milliseconds(1))));
}

}  // namespace

class Reactor::Impl {
 public:
  explicit Impl(Options options);
  ~Impl();

  void Add(int fd, uint32_t events, Callback callback) ABSL_LOCKS_EXCLUDED(mutex_);
  void Modify(int fd, uint32_t events) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t At(absl::Time when, std::function<void()> callback) ABSL_LOCKS_EXCLUDED(mutex_);
  void CancelTimer(uint64_t id) ABSL_LOCKS_EXCLUDED(mutex_);
  bool RunUntil(absl::FunctionRef<bool()> done, absl::Time deadline, bool spin)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Who polls. kIdleBackground sleeps without having begun anything, so that a thread in RunUntil()
  // may take the role from it at once.
  enum class Role { kFree, kRunner, kIdleBackground, kBusyBackground };
  struct Handler {
    int fd;
    Callback callback;
  };
  using Timers = std::map<std::pair<absl::Time, uint64_t>, std::function<void()>>;
  using Events = std::array<epoll_event, kEventsPerPoll>;

  bool TakeRole() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LeaveRole() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One wait for events and all callbacks that follow. REQUIRES: the caller has the role.
  void PollOnce(absl::Time deadline, bool spin, uint64_t seen)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int Spin(Events& events, absl::Time deadline, uint64_t seen) ABSL_LOCKS_EXCLUDED(mutex_);
  int Sleep(Events& events, absl::Time until) ABSL_LOCKS_EXCLUDED(mutex_);
  void RunCallbacks(const Events& events, int count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunTimers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Time FirstTimer() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the sleep of the thread that polls, if it sleeps.
  void Interrupt() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void RunBackground() ABSL_LOCKS_EXCLUDED(mutex_);
  void AwaitFreeRole() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PollInBackground() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const int epoll_fd_;
  const int wake_fd_;   // In the epoll set: ends the sleep of whoever polls.
  const int evict_fd_;  // Ends the background thread's sleep only.
  std::atomic<bool> has_pwait2_{true};

  Mutex mutex_;
  CondVar changed_;  // For threads in RunUntil() that do not poll.
  Role role_ ABSL_GUARDED_BY(mutex_) = Role::kFree;
  int waiters_ ABSL_GUARDED_BY(mutex_) = 0;  // On changed_.
  // The thread with the role sleeps until then; in the past: it does not sleep.
  absl::Time asleep_until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool wake_written_ ABSL_GUARDED_BY(mutex_) = false;
  bool evict_written_ ABSL_GUARDED_BY(mutex_) = false;
  // Moves after each round of callbacks and each Wake(): what `done` looks at may have changed.
  std::atomic<uint64_t> epoch_{0};
  std::atomic<std::thread::id> poller_{};  // Set while callbacks run.

  absl::flat_hash_map<uint64_t, std::shared_ptr<Handler>> handlers_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<int, uint64_t> id_of_fd_ ABSL_GUARDED_BY(mutex_);
  Timers timers_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, absl::Time> when_of_timer_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = kWakeId;

  CondVar background_changed_;
  uint64_t sessions_ ABSL_GUARDED_BY(mutex_) =
      0;  // How often a thread in RunUntil() took the role.
  bool background_parked_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread background_;
};

Reactor::Impl::Impl(Options options)
    : options_(options),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(MakeEventFd()),
      evict_fd_(MakeEventFd()) {
  MUSTER_CHECK(epoll_fd_ >= 0);
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kWakeId;
  MUSTER_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) == 0);
  if (options_.background_thread) background_ = std::thread([this] { RunBackground(); });
}

Reactor::Impl::~Impl() {
  {
    MutexLock lock(&mutex_);
    MUSTER_CHECK(role_ != Role::kRunner && waiters_ == 0);
    stopping_ = true;
    background_changed_.SignalAll();
    if (role_ == Role::kIdleBackground) WriteEvent(evict_fd_);
  }
  if (background_.joinable()) background_.join();
  close(epoll_fd_);
  close(wake_fd_);
  close(evict_fd_);
}

void Reactor::Impl::Add(int fd, uint32_t events, Callback callback) {
  MutexLock lock(&mutex_);
  const uint64_t id = ++last_id_;
  MUSTER_CHECK(id_of_fd_.emplace(fd, id).second);
  handlers_.emplace(id, std::make_shared<Handler>(Handler{fd, std::move(callback)}));
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  MUSTER_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0);
}

void Reactor::Impl::Modify(int fd, uint32_t events) {
  MutexLock lock(&mutex_);
  const auto it = id_of_fd_.find(fd);
  if (it == id_of_fd_.end()) return;
  epoll_event event = {};
  event.events = events;
  event.data.u64 = it->second;
  MUSTER_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) == 0);
}

void Reactor::Impl::Remove(int fd) {
  std::shared_ptr<Handler> removed;  // Destroyed without the lock: a callback may own things.
  MutexLock lock(&mutex_);
  const auto it = id_of_fd_.find(fd);
  if (it == id_of_fd_.end()) return;
  const auto handler = handlers_.find(it->second);
  removed = std::move(handler->second);
  handlers_.erase(handler);
  id_of_fd_.erase(it);
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
}

uint64_t Reactor::Impl::At(absl::Time when, std::function<void()> callback) {
  MutexLock lock(&mutex_);
  const uint64_t id = ++last_id_;
  timers_.emplace(std::make_pair(when, id), std::move(callback));
  when_of_timer_.emplace(id, when);
  if (when < asleep_until_) Interrupt();
  return id;
}

void Reactor::Impl::CancelTimer(uint64_t id) {
  std::function<void()> cancelled;  // Destroyed without the lock.
  MutexLock lock(&mutex_);
  const auto it = when_of_timer_.find(id);
  if (it == when_of_timer_.end()) return;
  const auto timer = timers_.find({it->second, id});
  cancelled = std::move(timer->second);
  timers_.erase(timer);
  when_of_timer_.erase(it);
}

void Reactor::Impl::Wake() {
  MutexLock lock(&mutex_);
  epoch_.fetch_add(1);
  if (waiters_ > 0) changed_.SignalAll();
  if (role_ == Role::kRunner) Interrupt();
}

void Reactor::Impl::Interrupt() {
  if (asleep_until_ == absl::InfinitePast() || wake_written_) return;
  wake_written_ = true;
  WriteEvent(wake_fd_);
}

bool Reactor::Impl::TakeRole() {
  if (role_ == Role::kRunner || role_ == Role::kBusyBackground) return false;
  if (role_ == Role::kIdleBackground && !evict_written_) {
    evict_written_ = true;
    WriteEvent(evict_fd_);
  }
  role_ = Role::kRunner;
  asleep_until_ = absl::InfinitePast();
  ++sessions_;
  return true;
}

void Reactor::Impl::LeaveRole() {
  role_ = Role::kFree;
  if (waiters_ > 0) changed_.SignalAll();
  if (background_parked_) background_changed_.SignalAll();
}

bool Reactor::Impl::RunUntil(absl::FunctionRef<bool()> done, absl::Time deadline, bool spin) {
  MUSTER_CHECK(poller_.load(std::memory_order_relaxed) != std::this_thread::get_id());
  bool polling = false;
  // What is ready is handled even where the deadline has passed already.
  for (bool looked = false;; looked = true) {
    const uint64_t seen = epoch_.load();
    const bool is_done = done();
    const bool over =
        !is_done && looked && deadline != absl::InfiniteFuture() && MonotonicNow() >= deadline;
    if ((is_done || over) && !polling) return is_done;
    MutexLock lock(&mutex_);
    if (is_done || over) {
      LeaveRole();
      return is_done;
    }
    if (!polling) polling = TakeRole();
    if (polling) {
      PollOnce(deadline, spin, seen);
    } else if (epoch_.load() == seen) {
      ++waiters_;
      if (deadline == absl::InfiniteFuture()) {
        changed_.Wait(&mutex_);
      } else {
        changed_.WaitFor(&mutex_, deadline - MonotonicNow());
      }
      --waiters_;
    }
  }
}

void Reactor::Impl::PollOnce(absl::Time deadline, bool spin, uint64_t seen) {
  Events events;
  const absl::Time until = std::min(deadline, FirstTimer());
  int count = 0;
  if (spin && options_.spin > absl::ZeroDuration()) {
    mutex_.Unlock();
    count = Spin(events, until, seen);
    mutex_.Lock();
  }
  if (count == 0) {
    // Under the lock: a Wake() or At() from here on finds us asleep.
    const absl::Time first = std::min(until, FirstTimer());
    const absl::Time sleep_until = epoch_.load() == seen ? first : absl::InfinitePast();
    asleep_until_ = sleep_until;
    mutex_.Unlock();
    count = Sleep(events, sleep_until);
    mutex_.Lock();
    asleep_until_ = absl::InfinitePast();
  }
  RunCallbacks(events, count);
}

int Reactor::Impl::Spin(Events& events, absl::Time deadline, uint64_t seen) {
  const absl::Time until = std::min(deadline, MonotonicNow() + options_.spin);
  for (;;) {
    const int count = epoll_wait(epoll_fd_, events.data(), kEventsPerPoll, 0);
    if (count > 0) return count;
    if (epoch_.load() != seen || MonotonicNow() >= until) return 0;
    sched_yield();
  }
}

int Reactor::Impl::Sleep(Events& events, absl::Time until) {
  int count = -1;
  if (until == absl::InfinitePast() || until == absl::InfiniteFuture()) {
    count = epoll_wait(epoll_fd_, events.data(), kEventsPerPoll,
                       until == absl::InfinitePast() ? 0 : -1);
  } else {
    const absl::Duration wait = until - MonotonicNow();
    if (has_pwait2_.load(std::memory_order_relaxed)) {
      const timespec timeout = ToTimeout(wait);
      count = epoll_pwait2(epoll_fd_, events.data(), kEventsPerPoll, &timeout, nullptr);
      if (count < 0 && errno != EINTR) has_pwait2_ = false;  // An old kernel, or a seccomp filter.
    }
    if (!has_pwait2_.load(std::memory_order_relaxed)) {
      count = epoll_wait(epoll_fd_, events.data(), kEventsPerPoll, ToTimeoutMs(wait));
    }
  }
  MUSTER_CHECK(count >= 0 || errno == EINTR);
  return std::max(count, 0);
}

void Reactor::Impl::RunCallbacks(const Events& events, int count) {
  poller_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  for (int i = 0; i < count; ++i) {
    const uint64_t id = events[i].data.u64;
    if (id == kWakeId) {
      DrainEvent(wake_fd_);
      wake_written_ = false;
      continue;
    }
    const auto it = handlers_.find(id);
    if (it == handlers_.end()) continue;  // Removed by a callback of this round.
    std::shared_ptr<Handler> handler = it->second;
    mutex_.Unlock();
    handler->callback(events[i].events);
    handler.reset();
    mutex_.Lock();
  }
  RunTimers();
  poller_.store(std::thread::id(), std::memory_order_relaxed);
  epoch_.fetch_add(1);
  if (waiters_ > 0) changed_.SignalAll();
}

void Reactor::Impl::RunTimers() {
  if (timers_.empty()) return;
  const absl::Time now = MonotonicNow();
  const uint64_t last = last_id_;  // Those that timers start are for the next round.
  while (!timers_.empty()) {
    auto due = timers_.begin();
    while (due != timers_.end() && due->first.first <= now && due->first.second > last) ++due;
    if (due == timers_.end() || due->first.first > now) return;
    std::function<void()> callback = std::move(due->second);
    when_of_timer_.erase(due->first.second);
    timers_.erase(due);
    mutex_.Unlock();
    callback();
    callback = nullptr;
    mutex_.Lock();
  }
}

absl::Time Reactor::Impl::FirstTimer() const {
  return timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first.first;
}

void Reactor::Impl::RunBackground() {
  MutexLock lock(&mutex_);
  while (!stopping_) {
    AwaitFreeRole();
    if (!stopping_) PollInBackground();
  }
}

void Reactor::Impl::AwaitFreeRole() {
  bool first = true;
  uint64_t seen = 0;
  while (!stopping_) {
    const bool untouched = !first && sessions_ == seen;
    if (role_ == Role::kFree && (untouched || sessions_ == 0)) return;
    // One long wait holds the role: it tells us when it is over.
    background_parked_ = untouched && role_ != Role::kFree;
    seen = sessions_;
    first = false;
    if (background_parked_) {
      background_changed_.Wait(&mutex_);
    } else {
      background_changed_.WaitFor(&mutex_, kLookEvery);
    }
    background_parked_ = false;
  }
}

void Reactor::Impl::PollInBackground() {
  role_ = Role::kIdleBackground;
  while (!stopping_ && role_ == Role::kIdleBackground) {
    // Sleeps in poll(), not in epoll_wait(), so that a thread that takes the role meanwhile is the
    // only one the kernel wakes for it.
    const absl::Time until = FirstTimer();
    asleep_until_ = until;
    mutex_.Unlock();
    std::array<pollfd, 2> fds = {{{epoll_fd_, POLLIN, 0}, {evict_fd_, POLLIN, 0}}};
    if (until == absl::InfiniteFuture()) {
      poll(fds.data(), fds.size(), -1);
    } else {
      const timespec timeout = ToTimeout(until - MonotonicNow());
      ppoll(fds.data(), fds.size(), &timeout, nullptr);
    }
    mutex_.Lock();
    if (role_ != Role::kIdleBackground || stopping_) break;
    asleep_until_ = absl::InfinitePast();
    role_ = Role::kBusyBackground;
    Events events;
    mutex_.Unlock();
    const int count = Sleep(events, absl::InfinitePast());
    mutex_.Lock();
    RunCallbacks(events, count);
    role_ = waiters_ > 0 ? Role::kFree : Role::kIdleBackground;
  }
  if (role_ == Role::kIdleBackground) LeaveRole();
  if (evict_written_) {
    DrainEvent(evict_fd_);
    evict_written_ = false;
  }
}

Reactor::Reactor(Options options) : impl_(std::make_unique<Impl>(options)) {}
Reactor::~Reactor() = default;
void Reactor::Add(int fd, uint32_t events, Callback callback) {
  impl_->Add(fd, events, std::move(callback));
}
void Reactor::Modify(int fd, uint32_t events) { impl_->Modify(fd, events); }
void Reactor::Remove(int fd) { impl_->Remove(fd); }
uint64_t Reactor::At(absl::Time when, std::function<void()> callback) {
  return impl_->At(when, std::move(callback));
}
void Reactor::CancelTimer(uint64_t id) { impl_->CancelTimer(id); }
bool Reactor::RunUntil(absl::FunctionRef<bool()> done, absl::Time deadline, bool spin) {
  return impl_->RunUntil(done, deadline, spin);
}
void Reactor::Wake() { impl_->Wake(); }

}  // namespace muster
