#include "runtime/head/store_core.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/wire/protocol.h"

namespace muster::head {
namespace {

StoreCore::Reply MakeReply(uint64_t connection, uint64_t operation, const absl::Status& status,
                           const std::string& value = "") {
  StoreCore::Reply reply;
  reply.connection = connection;
  reply.result.set_id(operation);
  *reply.result.mutable_status() = ToProto(status);
  reply.result.set_value(value);
  return reply;
}

}  // namespace

void StoreCore::Do(uint64_t connection, const v1::StoreOperation& operation,
                   std::vector<Reply>& replies) {
  Generation& generation = groups_[operation.group()][operation.generation()];
  if (!generation.aborted.ok()) {
    replies.push_back(MakeReply(connection, operation.id(), generation.aborted));
    return;
  }
  const std::string& key = operation.key();
  if (!operation.has_value()) {
    const auto found = generation.values.find(key);
    if (found != generation.values.end()) {
      replies.push_back(MakeReply(connection, operation.id(), absl::OkStatus(), found->second));
    } else {
      generation.waiters[key].emplace_back(connection, operation.id());
    }
    return;
  }
  const size_t grows = key.size() + operation.value().size();
  if (generation.bytes + grows > group_bytes_max_) {
    replies.push_back(MakeReply(
        connection, operation.id(),
        absl::ResourceExhaustedError(absl::StrCat("the group's store is full: key \"", key,
                                                  "\" with ", operation.value().size(),
                                                  " bytes does not fit in ", group_bytes_max_))));
    return;
  }
  generation.bytes += grows;
  generation.values[key] = operation.value();
  replies.push_back(MakeReply(connection, operation.id(), absl::OkStatus()));
  const auto waiting = generation.waiters.find(key);
  if (waiting == generation.waiters.end()) return;
  for (const auto& [waiter, id] : waiting->second) {
    replies.push_back(MakeReply(waiter, id, absl::OkStatus(), operation.value()));
  }
  generation.waiters.erase(waiting);
}

void StoreCore::Abort(const v1::StoreAbort& abort, std::vector<Reply>& replies) {
  Group& group = groups_[abort.group()];
  group.erase(group.begin(), group.lower_bound(abort.generation()));
  Generation& generation = group[abort.generation()];
  generation.aborted = FromProto(abort.status());
  if (generation.aborted.ok()) generation.aborted = absl::AbortedError("the group was aborted");
  for (const auto& [key, waiters] : generation.waiters) {
    for (const auto& [waiter, id] : waiters) {
      replies.push_back(MakeReply(waiter, id, generation.aborted));
    }
  }
  generation.waiters.clear();
  generation.values.clear();
  generation.bytes = 0;
}

void StoreCore::Close(const std::string& group) { groups_.erase(group); }

void StoreCore::CloseAllOf(const std::string& group_prefix) {
  auto group = groups_.lower_bound(group_prefix);
  while (group != groups_.end() && absl::StartsWith(group->first, group_prefix)) {
    group = groups_.erase(group);
  }
}

void StoreCore::ConnectionClosed(uint64_t connection) {
  for (auto& [name, group] : groups_) {
    for (auto& [number, generation] : group) {
      for (auto waiters = generation.waiters.begin(); waiters != generation.waiters.end();) {
        std::erase_if(waiters->second, [&](const auto& w) { return w.first == connection; });
        waiters = waiters->second.empty() ? generation.waiters.erase(waiters) : std::next(waiters);
      }
    }
  }
}

}  // namespace muster::head
