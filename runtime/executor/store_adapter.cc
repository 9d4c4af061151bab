#include "runtime/executor/store_adapter.h"

#include <unistd.h>

#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/collective/communicator.h"

namespace muster::executor {
namespace {

// The head's store as the collectives want it.
class GroupStore final : public Store {
 public:
  explicit GroupStore(ExecutorContext& context) : context_(context) {}
  absl::Status Set(const std::string& key, const std::string& value) override {
    return context_.StoreSet(absl::StrCat("muster/", key), value);
  }
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    return context_.StoreGet(absl::StrCat("muster/", key), timeout);
  }

 private:
  ExecutorContext& context_;
};

class LazyCommunicator final : public Communicator {
 public:
  LazyCommunicator(ExecutorContext& context, const GroupInfo& group, std::string node)
      : group_(group) {
    options_.rank = group.rank;
    options_.size = group.size;
    options_.store = std::make_shared<GroupStore>(context);
    options_.name = absl::StrCat("node ", node, ", pid ", getpid());
  }

  int rank() const override { return group_.rank; }
  int size() const override { return group_.size; }
  absl::Status AllReduceSum(std::span<float> data) override {
    return With(
        [&](Collectives& connected) { return connected.AllReduceSum(data.data(), data.size()); });
  }
  absl::Status Broadcast(std::span<std::byte> data, int root) override {
    return With([&](Collectives& connected) {
      return connected.Broadcast(data.data(), data.size(), root);
    });
  }
  absl::Status Barrier() override {
    return With([](Collectives& connected) { return connected.Barrier(); });
  }
  void Abort(const std::string& why) override {
    std::optional<Collectives> connected;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      aborted_ = absl::AbortedError(why);
      connected = connected_;
    }
    if (connected.has_value()) connected->Abort(why);
  }

 private:
  template <typename Operation>
  absl::Status With(Operation operation) {
    std::optional<Collectives> connected;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!aborted_.ok()) return aborted_;
      connected = connected_;
    }
    if (!connected.has_value()) {
      absl::StatusOr<Collectives> fresh = ConnectCollectives(options_);
      if (!fresh.ok()) return fresh.status();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!aborted_.ok()) return aborted_;
      connected = connected_ = *std::move(fresh);
    }
    return operation(*connected);
  }

  const GroupInfo group_;
  CollectiveOptions options_;
  std::mutex mutex_;
  std::optional<Collectives> connected_;
  absl::Status aborted_;
};

}  // namespace

std::unique_ptr<Collectives> MakeCollectives(ExecutorContext& context, const GroupInfo& group,
                                             const std::string& node) {
  return std::make_unique<Collectives>(std::make_shared<LazyCommunicator>(context, group, node));
}

}  // namespace muster::executor
