// The rendezvous store of running groups: key-value pairs per group and generation, in the head's
// memory. A rank waits for keys that others will set; when a rank dies its generation is aborted,
// and whoever waits or comes later gets the reason. Ranks replay what they set when a head has
// forgotten it.
//
// Pure: replies come out as values. Thread-safety: none.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "muster/v1/cluster.pb.h"

namespace muster::head {

class StoreCore {
 public:
  struct Reply {
    uint64_t connection = 0;
    v1::StoreResult result;
  };

  explicit StoreCore(size_t group_bytes_max) : group_bytes_max_(group_bytes_max) {}

  // A set is answered at once, a wait once the key is there or the generation is aborted.
  void Do(uint64_t connection, const v1::StoreOperation& operation, std::vector<Reply>& replies);
  // Also begins the generation's end: whatever came before `generation` is forgotten.
  void Abort(const v1::StoreAbort& abort, std::vector<Reply>& replies);
  void Close(const std::string& group);              // Forgets all of it; waiters are dropped.
  void CloseAllOf(const std::string& group_prefix);  // Of a driver that ended.
  void ConnectionClosed(uint64_t connection);        // Its waiters are dropped.

  size_t groups() const { return groups_.size(); }

 private:
  struct Generation {
    absl::btree_map<std::string, std::string> values;
    absl::btree_map<std::string, std::vector<std::pair<uint64_t, uint64_t>>>
        waiters;  // Connection, operation.
    absl::Status aborted;
    size_t bytes = 0;
  };
  using Group = absl::btree_map<uint32_t, Generation>;

  const size_t group_bytes_max_;
  absl::btree_map<std::string, Group> groups_;
};

}  // namespace muster::head
