// Collectives: what the ranks of a group do together. Every rank calls the same operations in the
// same order; each returns when this rank's part is done.
//
//   muster::Collectives collectives = muster::CurrentGroup().collectives;
//   absl::Status status = collectives.AllReduceSum(gradients.data(), gradients.size());
//
// Errors: kAborted when a rank has died or made no progress for the timeout, naming it where that
// is
//   known. From then on every call gives the same error: a group's communicator is rebuilt, in the
//   group's next generation, never repaired. kInvalidArgument for arguments that are wrong here.
// Thread-safety: one operation at a time. Abort() may be called from any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace muster {

// Where ranks find each other: keys and values, empty at the start of a generation.
// Thread-safety: implementations allow concurrent calls.
class Store {
 public:
  virtual ~Store() = default;
  virtual absl::Status Set(const std::string& key, const std::string& value) = 0;
  // Waits until the key is there. kDeadlineExceeded when it is not there in time, kAborted when the
  // store knows that a rank has died.
  virtual absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) = 0;
};

// A store in a directory, for ranks on one machine. The directory is made if it is not there; give
// each generation a new one.
absl::StatusOr<std::unique_ptr<Store>> OpenFileStore(const std::string& directory);

class Communicator;  // runtime/collective/communicator.h

// A handle: copies mean the same group. The last copy's end waits for the other ranks' (at most 2
// s).
class Collectives {
 public:
  Collectives() = default;  // A group of one: everything is done at once.
  explicit Collectives(std::shared_ptr<Communicator> communicator)
      : communicator_(std::move(communicator)) {}

  int rank() const;
  int size() const;

  // data[i] becomes the sum of every rank's data[i], the same bits on every rank. `n` must be the
  // same on every rank.
  absl::Status AllReduceSum(float* data, size_t n);
  // Every rank's `bytes` bytes at `data` become those of rank `root`.
  absl::Status Broadcast(void* data, size_t bytes, int root = 0);
  // Returns when every rank has called it.
  absl::Status Barrier();
  // Ends what is under way, here and on the other ranks, with kAborted and `why`.
  void Abort(const std::string& why);

 private:
  std::shared_ptr<Communicator> communicator_;
};

struct CollectiveOptions {
  int rank = 0;
  int size = 1;
  std::shared_ptr<Store> store = nullptr;
  std::string host = "127.0.0.1";  // An address of this machine that the other ranks can reach.
  std::string name = {};           // For people: who this rank is ("node 6f1c2a"); pid if empty.
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration timeout = absl::Seconds(60);  // How long an operation waits for another rank.
};

// Connects all ranks with each other over TCP (Gloo). Takes until the last rank has come.
absl::StatusOr<Collectives> ConnectCollectives(const CollectiveOptions& options);

}  // namespace muster
