#include "runtime/base/shutdown_signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

#include "scheduler/base/check.h"

namespace muster {
namespace {

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

ShutdownSignals::ShutdownSignals(Reactor& reactor, std::function<void(int signal)> on_signal)
    : reactor_(reactor) {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = Signals();
  MUSTER_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  MUSTER_CHECK(fd_ >= 0);
  reactor_.Add(fd_, EPOLLIN, [fd = fd_, on_signal = std::move(on_signal)](uint32_t) {
    signalfd_siginfo info = {};
    while (read(fd, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      on_signal(static_cast<int>(info.ssi_signo));
    }
  });
}

ShutdownSignals::~ShutdownSignals() {
  reactor_.Remove(fd_);
  close(fd_);
  const sigset_t set = Signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void ShutdownSignals::UnblockAll() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
}

}  // namespace muster
