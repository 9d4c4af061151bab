// What `muster status` and `muster explain` are answered.
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/convert.h"
#include "runtime/wire/protocol.h"

namespace muster::head {
namespace {

v1::ChoiceStatus StatusOf(const sched::ChoiceExplanation& choice) {
  v1::ChoiceStatus status;
  status.set_selector(choice.selector);
  status.set_state(choice.state == sched::ChoiceState::kOpen ? "open" : "opens_later");
  status.set_why(choice.why);
  status.set_needs(choice.needs);
  status.set_matching_nodes(choice.matching_nodes);
  status.set_nodes(choice.nodes);
  return status;
}

}  // namespace

v1::StatusReply HeadCore::Status(absl::Time now) const {
  v1::StatusReply reply;
  reply.set_address(config_.address);
  reply.set_version(kVersion);
  reply.set_pid(config_.pid);
  reply.set_uptime_ns(absl::ToInt64Nanoseconds(now - config_.start));
  for (const sched::NodeView& view : scheduler_.Nodes()) {
    const auto found = nodes_.find(view.node);
    if (found == nodes_.end() || found->second.presence == Presence::kLeft) continue;
    *reply.add_nodes() = NodeStatusOf(view, found->second, now);
  }
  FillSharing(reply);
  ReportGroups(now, reply);
  for (const sched::WaitingClass& waiting : scheduler_.Waiting(now)) {
    v1::WaitingStatus& row = *reply.add_waiting();
    row.set_class_name(waiting.spec.name);
    row.set_needs(waiting.needs);
    row.set_since_ns(absl::ToInt64Nanoseconds(waiting.since));
    row.set_choices_summary(waiting.choices_summary);
    row.set_why(waiting.why);
    row.set_count(waiting.requests.size());
    for (const sched::ChoiceExplanation& choice : waiting.choices)
      *row.add_choices() = StatusOf(choice);
    const Request& first = requests_.at(waiting.requests.front());
    if (first.task_class == 0) {
      for (RequestId id : waiting.requests) row.add_requests(requests_.at(id).task_id);
      continue;
    }
    for (const v1::Backlog::Class& backlog : drivers_.at(first.driver).backlog.classes()) {
      if (backlog.task_class() != first.task_class) continue;
      row.set_count(std::max<uint64_t>(backlog.queued(), 1));
      *row.mutable_requests() = backlog.task_ids();
    }
  }
  return reply;
}

void HeadCore::On(const Asked& asked) {
  Query& query = queries_[asked.query];
  query.prefix = absl::AsciiStrToLower(asked.task_prefix);
  query.deadline = now_ + config_.explain_timeout;
  for (const auto& [id, driver] : drivers_) {
    if (driver.connection == 0) continue;
    query.pending.insert(driver.connection);
    v1::ToDriver message;
    message.mutable_find_tasks()->set_query(asked.query);
    message.mutable_find_tasks()->set_prefix(query.prefix);
    Tell(driver, std::move(message));
  }
  AnswerIfComplete(asked.query, false);
}

void HeadCore::OnFound(ConnectionId connection, const v1::TasksFound& found) {
  const auto query = queries_.find(found.query());
  if (query == queries_.end() || query->second.pending.erase(connection) == 0) return;
  const uint64_t driver = driver_of_.at(connection);
  for (const v1::FoundTask& task : found.tasks()) query->second.found.emplace_back(driver, task);
  AnswerIfComplete(found.query(), false);
}

void HeadCore::AnswerIfComplete(uint64_t id, bool now) {
  const auto query = queries_.find(id);
  if (query == queries_.end()) return;
  if (!query->second.pending.empty() && !now) return;
  actions_->push_back(Answer{id, MakeReply(query->second)});
  queries_.erase(query);
}

v1::ExplainReply HeadCore::MakeReply(const Query& query) const {
  v1::ExplainReply reply;
  if (query.found.empty()) {
    FillEnded(query.prefix, reply);
    return reply;
  }
  if (query.found.size() > 1) {
    reply.set_found(v1::ExplainReply::FOUND_SEVERAL);
    for (const auto& [driver, task] : query.found) {
      reply.add_candidates(absl::StrCat(task.task_id(), " ", task.name(), " (", task.state(), ")"));
    }
    return reply;
  }
  const auto& [driver, task] = query.found.front();
  reply.set_found(v1::ExplainReply::FOUND_ONE);
  *reply.mutable_task() = task;
  if (const std::optional<RequestId> request = RequestOf(task, driver)) {
    reply.set_request(request->value);
  }
  if (task.state() == "waiting") {
    FillWaiting(task, driver, reply);
  } else if (task.state() == "running") {
    FillRunning(task, reply);
  } else {
    reply.set_text(absl::StrCat(task.name(), task.has_lease() ? " has " : " is ", task.state(),
                                task.detail().empty() ? "" : ": ", task.detail(), "\n"));
    if (!task.has_lease() || reply.request() == 0) return reply;
    if (const auto view = scheduler_.LatestDecision(RequestId{reply.request()})) {
      reply.set_node(view->node);
      reply.set_choice(static_cast<uint32_t>(view->decision.choice));
      reply.set_text(absl::StrCat(reply.text(), sched::ToText(*view, now_)));
    }
  }
  return reply;
}

void HeadCore::FillWaiting(const v1::FoundTask& task, uint64_t driver,
                           v1::ExplainReply& reply) const {
  std::optional<sched::Explanation> why;
  if (const auto known = drivers_.find(driver);
      known != drivers_.end()) {  // It may have ended since.
    const auto number = known->second.requests.find(task.request());
    if (number != known->second.requests.end()) why = scheduler_.Explain(number->second, now_);
  }
  if (!why.has_value()) {
    reply.set_text(absl::StrCat(
        task.name(), " waits in its driver for a lease that runs other tasks of its class; ",
        task.before_in_class(), " before it.\n"));
    return;
  }
  if (why->granted) {
    reply.set_text(absl::StrCat(task.name(),
                                " is about to start: its executor is being made ready on ",
                                NameOf(why->placements.front().node), "\n"));
    return;
  }
  why->before_in_class = static_cast<int>(task.before_in_class());
  why->waited = absl::Nanoseconds(task.waited_ns());
  FillStart(RequestId{reply.request()}, reply, *why);
  reply.set_needs(why->needs);
  reply.set_what_would_help(why->what_would_help);
  for (const sched::ChoiceExplanation& choice : why->choices)
    *reply.add_choices() = StatusOf(choice);
  reply.set_text(sched::ToText(*why, task.name(), now_));
}

std::string HeadCore::NameOf(NodeId id) const {
  const auto node = nodes_.find(id);
  return node == nodes_.end() ? "that is not back since the head's start" : node->second.name;
}

void HeadCore::FillRunning(const v1::FoundTask& task, v1::ExplainReply& reply) const {
  const Request* request = Find(task.lease());
  if (request == nullptr || task.lease().bundle() >= request->leases.size()) {
    reply.set_text(absl::StrCat(task.name(), " runs on a lease from before the head's start\n"));
    return;
  }
  const Lease& lease = request->leases[task.lease().bundle()];
  reply.set_node(NameOf(lease.node));
  reply.set_choice(lease.placement.choice());
  reply.set_text(absl::StrCat(task.name(), " runs on node ", reply.node(), " by choice ",
                              lease.placement.choice() + 1, " of ", request->spec.choices_size(),
                              ".\n"));
}

}  // namespace muster::head
