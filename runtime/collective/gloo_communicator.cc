#include "runtime/collective/gloo_communicator.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/mutex.h"

namespace muster {
namespace {

constexpr char kFailureKey[] = "failure";
constexpr std::chrono::milliseconds kFarewell = std::chrono::seconds(2);
constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 365);
constexpr uint64_t kWatchSlot = 0;

std::string NameKey(int rank) { return absl::StrCat("name/", rank); }

std::chrono::milliseconds Milliseconds(absl::Duration duration) {
  return std::max(absl::ToChronoMilliseconds(duration), std::chrono::milliseconds(1));
}

// "[./gloo/transport/tcp/pair.cc:598] Connection closed" without the place in Gloo's sources.
std::string WithoutSourceLine(absl::string_view what) {
  const size_t end = what.find("] ");
  if (!what.empty() && what[0] == '[' && end != absl::string_view::npos)
    what.remove_prefix(end + 2);
  return std::string(what);
}

// Keeps SIGPIPE from this thread and those it starts: Gloo writes to sockets without MSG_NOSIGNAL,
// and the application's own handling of the signal is not ours to change.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  ~WithoutSigpipe() {
    const timespec at_once = {};
    if (!was_pending_) sigtimedwait(&sigpipe_, nullptr, &at_once);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;

 private:
  sigset_t sigpipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

// Shows our store to Gloo, which reports errors by throwing and asks for many keys at once.
class RendezvousStore : public gloo::rendezvous::Store {
 public:
  RendezvousStore(muster::Store& store, absl::Duration timeout)
      : store_(store), deadline_(absl::Now() + timeout) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    const absl::Status status =
        store_.Set(absl::StrCat("rank/", key), std::string(data.begin(), data.end()));
    if (!status.ok()) Throw(status);
  }
  std::vector<char> get(const std::string& key) override {
    const absl::StatusOr<std::string> value = store_.Get(absl::StrCat("rank/", key), TimeLeft());
    if (absl::IsDeadlineExceeded(value.status())) {
      Throw(absl::DeadlineExceededError(absl::StrCat("rank ", key, " has not come")));
    }
    if (!value.ok()) Throw(value.status());
    return {value->begin(), value->end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override {
    wait(keys);
  }

  const absl::Status& status() const { return status_; }  // Why it threw; OK if it did not.

 private:
  absl::Duration TimeLeft() const {
    return std::max(deadline_ - absl::Now(), absl::ZeroDuration());
  }
  [[noreturn]] void Throw(const absl::Status& status) {
    status_ = status;
    throw std::runtime_error(std::string(status.message()));
  }

  muster::Store& store_;
  const absl::Time deadline_;
  absl::Status status_;
};

using Buffer = gloo::transport::UnboundBuffer;

// The algorithms are ours, over Gloo's connections and buffers: Gloo's own wait inside buffers that
// nobody else can reach, and when a connection breaks with a message half through, Gloo 0.5 forgets
// to wake who waits for that message. Here every wait is on a buffer of ours, which a watcher can
// abort.
class GlooCommunicator : public Communicator {
 public:
  GlooCommunicator(const CollectiveOptions& options,
                   std::shared_ptr<gloo::rendezvous::Context> context)
      : options_(options), context_(std::move(context)), timeout_(Milliseconds(options.timeout)) {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      watches_.push_back(context_->createUnboundBuffer(&nothing_, 1));
    }
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      Buffer* const watch = watches_[watchers_.size()].get();
      watchers_.emplace_back([this, peer, watch] { Watch(peer, *watch); });
    }
  }

  // Gloo closes connections without sending what is still in their buffers, so nobody leaves while
  // another may wait for that; nor stays for long if the others do not come.
  ~GlooCommunicator() override {
    {
      MutexLock lock(&mutex_);
      leaving_ = true;
    }
    timeout_ = std::min(timeout_, kFarewell);
    Sync().IgnoreError();
    Break("this rank has left");
    for (std::thread& watcher : watchers_) watcher.join();
  }
  GlooCommunicator(const GlooCommunicator&) = delete;
  GlooCommunicator& operator=(const GlooCommunicator&) = delete;

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  // A ring. Each rank sums one share of the data, which comes round to it through all the others;
  // then the sums go round.
  absl::Status AllReduceSum(std::span<float> data) override {
    const size_t n = data.size();
    std::vector<float> arrived(n / static_cast<size_t>(size()) + 1);
    const std::unique_ptr<Buffer> whole = context_->createUnboundBuffer(data.data(), 4 * n);
    const std::unique_ptr<Buffer> share =
        context_->createUnboundBuffer(arrived.data(), 4 * arrived.size());
    const int right = Ring(1);
    const int left = Ring(-1);
    return Do("all-reduce", {whole.get(), share.get()}, Slot(kAllReduce, n), [&](Move move) {
      for (int step = 0; step < size() - 1; ++step) {
        const Range sent = Share(Ring(-step), n);
        const Range summed = Share(Ring(-step - 1), n);
        move.to = {.peer = right, .buffer = whole.get(), .range = sent.Bytes()};
        move.from = {.peer = left, .buffer = share.get(), .range = {0, summed.Bytes().size()}};
        if (!Done(move)) return false;
        for (size_t i = summed.begin; i < summed.end; ++i) data[i] += arrived[i - summed.begin];
      }
      for (int step = 0; step < size() - 1; ++step) {
        const Range sent = Share(Ring(1 - step), n);
        const Range got = Share(Ring(-step), n);
        move.to = {.peer = right, .buffer = whole.get(), .range = sent.Bytes()};
        move.from = {.peer = left, .buffer = whole.get(), .range = got.Bytes()};
        if (!Done(move)) return false;
      }
      return true;
    });
  }

  // A tree: who has the data sends it on, so twice as many ranks have it after each round.
  absl::Status Broadcast(std::span<std::byte> data, int root) override {
    const std::unique_ptr<Buffer> buffer = context_->createUnboundBuffer(data.data(), data.size());
    const int place = (rank() - root + size()) % size();
    const uint64_t slot = Slot(kBroadcast + static_cast<uint64_t>(root), data.size());
    return Do("broadcast", {buffer.get()}, slot, [&](Move move) {
      for (int have = 1; have < size(); have *= 2) {
        move.to = move.from = {};
        if (place < have && place + have < size()) {
          move.to = {.peer = Ring(have), .buffer = buffer.get(), .range = {0, data.size()}};
        } else if (place >= have && place < 2 * have) {
          move.from = {.peer = Ring(-have), .buffer = buffer.get(), .range = {0, data.size()}};
        }
        if (!Done(move)) return false;
      }
      return true;
    });
  }

  absl::Status Barrier() override { return Sync(); }

  void Abort(const std::string& why) override {
    const std::string message = absl::StrCat(Name(rank()), ": ", why);
    if (status().ok()) options_.store->Set(kFailureKey, message).IgnoreError();
    Break(message);
  }

 private:
  static constexpr uint64_t kAllReduce = 1;
  static constexpr uint64_t kBarrier = 2;
  static constexpr uint64_t kBroadcast = 3;  // Plus the root.

  struct Range {
    size_t begin = 0;
    size_t end = 0;
    size_t size() const { return end - begin; }
    Range Bytes() const { return {begin * sizeof(float), end * sizeof(float)}; }
  };
  struct End {
    int peer = 0;
    Buffer* buffer = nullptr;
    Range range = {};  // In bytes.
  };
  // A message out, a message in, or both at once.
  struct Move {
    uint64_t slot = 0;
    End to = {};
    End from = {};
  };

  // Each round a rank hears from one twice as far away, so in the end from all.
  absl::Status Sync() {
    char sent = 0;
    char arrived = 0;
    const std::unique_ptr<Buffer> out = context_->createUnboundBuffer(&sent, 1);
    const std::unique_ptr<Buffer> in = context_->createUnboundBuffer(&arrived, 1);
    return Do("barrier", {out.get(), in.get()}, Slot(kBarrier, 1), [&](Move move) {
      for (int distance = 1; distance < size(); distance *= 2) {
        move.to = {.peer = Ring(distance), .buffer = out.get(), .range = {0, 1}};
        move.from = {.peer = Ring(-distance), .buffer = in.get(), .range = {0, 1}};
        if (!Done(move)) return false;
      }
      return true;
    });
  }

  int Ring(int steps) const { return (rank() + steps % size() + size()) % size(); }
  Range Share(int owner, size_t n) const {
    const auto place = static_cast<size_t>(owner);
    const auto ranks = static_cast<size_t>(size());
    return {n * place / ranks, n * (place + 1) / ranks};
  }
  // Messages meet where slots are equal. Ranks that disagree on what comes next, or on its size, so
  // wait for each other until the timeout instead of reading each other's data wrongly.
  uint64_t Slot(uint64_t kind, size_t n) {
    ++operations_;
    uint64_t slot = operations_ * 0x9e3779b97f4a7c15U;
    slot = (slot ^ (slot >> 29U) ^ kind) * 0xbf58476d1ce4e5b9U;
    return (slot ^ (slot >> 32U) ^ n) | 1U;  // Never kWatchSlot.
  }

  // Runs `body`, whose waits are on `buffers`, so that Break() can end it.
  template <typename Body>
  absl::Status Do(absl::string_view name, std::vector<Buffer*> buffers, uint64_t slot,
                  const Body& body) {
    {
      MutexLock lock(&mutex_);
      if (!status_.ok()) return status_;
      buffers_ = std::move(buffers);
    }
    const WithoutSigpipe without_sigpipe;
    bool done = false;
    try {
      done = body(Move{.slot = slot});
    } catch (const std::exception& error) {
      Report(waiting_for_, absl::StrCat(WithoutSourceLine(error.what()), " (in ", name, ")"));
    }
    MutexLock lock(&mutex_);
    buffers_.clear();
    return done ? absl::OkStatus() : status_;
  }

  // False if it was aborted.
  bool Done(const Move& move) {
    const bool sends = move.to.range.size() > 0;
    if (sends) {
      waiting_for_ = move.to.peer;
      move.to.buffer->send(move.to.peer, move.slot, move.to.range.begin, move.to.range.size());
    }
    if (move.from.range.size() > 0) {
      waiting_for_ = move.from.peer;
      move.from.buffer->recv(move.from.peer, move.slot, move.from.range.begin,
                             move.from.range.size());
      if (!move.from.buffer->waitRecv(nullptr, timeout_)) return false;
    }
    waiting_for_ = move.to.peer;
    return !sends || move.to.buffer->waitSend(nullptr, timeout_);
  }

  // Waits for a message that `peer` never sends: only the end of the connection ends this, or
  // Break().
  void Watch(int peer, Buffer& watch) {
    try {
      watch.recv(peer, kWatchSlot, 0, 1);
      watch.waitRecv(nullptr, kForever);
    } catch (const std::exception& error) {
      const std::string what = WithoutSourceLine(error.what());
      // A wait that times out breaks all of Gloo's connections; whose wait it was reports it.
      if (what.find("Application timeout") == std::string::npos) Report(peer, what);
    }
  }

  // Something broke between us and `peer`. A note that another rank left is nearer to the cause.
  void Report(int peer, const std::string& what) {
    std::string message = absl::StrCat(Name(peer), ": ", what);
    bool leaving = false;
    {
      MutexLock lock(&mutex_);
      leaving = leaving_;
    }
    if (!leaving) {
      const absl::StatusOr<std::string> note =
          options_.store->Get(kFailureKey, absl::ZeroDuration());
      if (note.ok()) {
        message = *note;
      } else if (absl::IsAborted(note.status())) {
        message = std::string(note.status().message());
      } else {
        options_.store->Set(kFailureKey, message).IgnoreError();  // Best effort.
      }
    }
    Break(message);
  }

  // From here on every call fails. Wakes who waits, here and, by closing the connections,
  // elsewhere.
  void Break(const std::string& message) {
    {
      MutexLock lock(&mutex_);
      if (!status_.ok()) return;
      status_ = absl::AbortedError(message);
      for (Buffer* buffer : buffers_) {
        buffer->abortWaitSend();
        buffer->abortWaitRecv();
      }
      for (const std::unique_ptr<Buffer>& watch : watches_) watch->abortWaitRecv();
    }
    const WithoutSigpipe without_sigpipe;
    try {
      context_->closeConnections();
    } catch (const std::exception&) {
      // Closed already.
    }
  }

  absl::Status status() {
    MutexLock lock(&mutex_);
    return status_;
  }

  // "rank 2 (node 6f1c2a)"
  std::string Name(int rank) {
    const absl::StatusOr<std::string> name =
        options_.store->Get(NameKey(rank), absl::ZeroDuration());
    return name.ok() ? absl::StrCat("rank ", rank, " (", *name, ")") : absl::StrCat("rank ", rank);
  }

  const CollectiveOptions options_;
  const std::shared_ptr<gloo::rendezvous::Context> context_;
  // Of the thread that calls operations.
  std::chrono::milliseconds timeout_;
  uint64_t operations_ = 0;
  int waiting_for_ = 0;  // Whom to name if it fails now.

  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Buffer*> buffers_ ABSL_GUARDED_BY(mutex_);  // Of the operation under way.
  std::vector<std::unique_ptr<Buffer>> watches_;
  std::vector<std::thread> watchers_;
  char nothing_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> ConnectGloo(const CollectiveOptions& options) {
  const std::string name = options.name.empty() ? absl::StrCat("pid ", getpid()) : options.name;
  if (absl::Status status = options.store->Set(NameKey(options.rank), name); !status.ok()) {
    return status;
  }
  RendezvousStore store(*options.store, options.connect_timeout);
  const WithoutSigpipe without_sigpipe;  // Inherited by the device's thread.
  try {
    gloo::transport::tcp::attr address;
    address.hostname = options.host;
    std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(address);
    auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.size);
    context->setTimeout(Milliseconds(options.connect_timeout / 5));  // Gloo multiplies by 5 here.
    context->connectFullMesh(store, device);
    return std::make_unique<GlooCommunicator>(options, std::move(context));
  } catch (const std::exception& error) {
    const std::string where = absl::StrCat("rank ", options.rank, " of ", options.size,
                                           " cannot connect with the others from ", options.host);
    if (!store.status().ok()) {
      return absl::Status(store.status().code(),
                          absl::StrCat(where, ": ", store.status().message()));
    }
    return absl::AbortedError(absl::StrCat(where, ": ", WithoutSourceLine(error.what())));
  }
}

}  // namespace muster
