// What `muster explain --decision` and `muster status --snapshot` are answered, and when a waiting
// request could start.
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/head/head_core.h"
#include "runtime/wire/protocol.h"
#include "scheduler/forecast.h"
#include "scheduler/snapshot.h"

namespace muster::head {
namespace {

constexpr size_t kDecisionsMax = 1000;  // In one answer.

}  // namespace

v1::Decision HeadCore::ProtoOf(const sched::DecisionView& view) const {
  const sched::Decision& decision = view.decision;
  v1::Decision proto;
  proto.set_number(decision.number);
  proto.set_ago_ns(absl::ToInt64Nanoseconds(now_ - decision.at));
  proto.set_kind(sched::ToString(decision.kind));
  proto.set_request(decision.request.value);
  proto.set_name(view.name);
  proto.set_needs(view.needs);
  proto.set_node(view.node);
  proto.set_choice(static_cast<uint32_t>(decision.choice));
  proto.set_choices(static_cast<uint32_t>(view.choices));
  proto.set_selector(view.choice);
  proto.set_waited_ns(absl::ToInt64Nanoseconds(decision.waited));
  proto.set_why(view.why);
  proto.set_bundles(static_cast<uint32_t>(decision.bundles));
  proto.set_surveyed(view.surveyed);
  proto.set_candidates(static_cast<uint32_t>(view.candidates));
  for (const sched::DecisionView::Tried& tried : view.tried) {
    v1::Decision::Tried& to = *proto.add_tried();
    to.set_choice(static_cast<uint32_t>(tried.choice));
    to.set_selector(tried.selector);
    to.set_found(tried.found);
  }
  for (const sched::DecisionView::Loser& loser : view.losers) {
    v1::Decision::Loser& to = *proto.add_losers();
    to.set_node(loser.node);
    to.set_by(loser.by);
  }
  proto.set_line(sched::LineOf(view, now_));
  proto.set_text(sched::ToText(view, now_));
  if (const auto live = requests_.find(decision.request); live != requests_.end()) {
    proto.set_task_id(live->second.task_id);
  } else if (const EndedRequest* over = ended_.FindById(decision.request)) {
    proto.set_task_id(over->task_id);
  }
  return proto;
}

v1::DecisionsReply HeadCore::Decisions(uint64_t number, uint32_t most) const {
  v1::DecisionsReply reply;
  if (number > 0) {
    const std::optional<sched::DecisionView> view = scheduler_.FindDecision(number);
    if (view) *reply.add_decisions() = ProtoOf(*view);
    return reply;
  }
  for (const sched::DecisionView& view :
       scheduler_.NewestDecisions(std::min<size_t>(most, kDecisionsMax))) {
    *reply.add_decisions() = ProtoOf(view);
  }
  return reply;
}

v1::DecisionsReply HeadCore::DecisionsAbout(const v1::ExplainReply& explained) const {
  v1::DecisionsReply reply;
  if (explained.found() == v1::ExplainReply::FOUND_SEVERAL) {
    reply.set_found("several tasks' ids begin so");
    return reply;
  }
  if (explained.found() == v1::ExplainReply::FOUND_NONE) {
    reply.set_found("no task's id begins so");
    return reply;
  }
  std::optional<sched::DecisionView> view;
  if (explained.request() != 0) view = scheduler_.LatestDecision(RequestId{explained.request()});
  if (view) {
    *reply.add_decisions() = ProtoOf(*view);
  } else {
    reply.set_found(explained.task().state() == "waiting"
                        ? "it waits: nothing has been decided about it yet"
                        : "what was decided about it is no longer known");
  }
  return reply;
}

EndedRequest HeadCore::AsEnded(const Request& request) {
  return {.request = request.id,
          .driver = request.driver,
          .number = request.number,
          .task_id = request.task_id,
          .name = request.spec.name()};
}

void HeadCore::Ended(const Request& request) { ended_.Add(AsEnded(request)); }

std::optional<RequestId> HeadCore::RequestOf(const v1::FoundTask& task, uint64_t driver) const {
  const bool has_lease = task.has_lease();
  const uint64_t number = has_lease ? task.lease().request() : task.request();
  const uint64_t owner = has_lease ? task.lease().driver() : driver;
  if (const auto known = drivers_.find(owner); known != drivers_.end()) {
    const auto request = known->second.requests.find(number);
    if (request != known->second.requests.end()) return request->second;
  }
  if (const EndedRequest* over = ended_.Find(owner, number)) return over->request;
  return std::nullopt;
}

// A task that no driver knows: its driver is gone, or has forgotten it. What is left is the lease
// that was asked for it.
void HeadCore::FillEnded(const std::string& prefix, v1::ExplainReply& reply) const {
  std::vector<EndedRequest> over;
  for (const EndedRequest* one : ended_.ByTask(prefix)) over.push_back(*one);
  for (const auto& [id, request] : requests_) {  // Of a driver that is gone: about to end.
    const auto driver = drivers_.find(request.driver);
    if (driver != drivers_.end() && driver->second.connection != 0) continue;
    if (absl::StartsWith(request.task_id, prefix)) over.push_back(AsEnded(request));
  }
  if (over.empty()) return;
  if (over.size() > 1) {
    reply.set_found(v1::ExplainReply::FOUND_SEVERAL);
    for (const EndedRequest& one : over) {
      reply.add_candidates(absl::StrCat(one.task_id, " ", one.name, " (ended)"));
    }
    return;
  }
  const EndedRequest& one = over.front();
  reply.set_found(v1::ExplainReply::FOUND_ONE);
  reply.set_request(one.request.value);
  reply.mutable_task()->set_task_id(one.task_id);
  reply.mutable_task()->set_name(one.name);
  reply.mutable_task()->set_state("ended");
  const std::optional<sched::DecisionView> view = scheduler_.LatestDecision(one.request);
  reply.set_text(absl::StrCat(one.name, " has ended, and its driver does not know it any more.\n",
                              view ? sched::ToText(*view, now_) : ""));
  if (view) reply.set_node(view->node);
}

void HeadCore::FillStart(RequestId request, v1::ExplainReply& reply,
                         sched::Explanation& why) const {
  reply.set_starts_in_ns(-1);
  if (nodes_.size() + requests_.size() > config_.estimate_size_max) {
    why.starts = "not estimated in so large a cluster; muster whatif --task does";
    return;
  }
  sched::Snapshot snapshot = scheduler_.TakeSnapshot();
  snapshot.now = std::max(snapshot.now, now_);
  snapshot.config.decisions_kept = 0;
  const absl::StatusOr<std::unique_ptr<sched::Forecast>> forecast =
      sched::Forecast::Make(snapshot, {.steps_max = config_.estimate_steps_max});
  if (!forecast.ok()) return;
  const sched::StartEstimate estimate = (*forecast)->Run({request}).front();
  why.starts = sched::ToText(estimate, now_);
  if (estimate.when == sched::StartEstimate::When::kKnown) {
    reply.set_starts_in_ns(std::max<int64_t>(absl::ToInt64Nanoseconds(estimate.at - now_), 0));
  }
  reply.set_starts(why.starts);
}

snapshot::SnapshotFile HeadCore::TakeSnapshot() const {
  snapshot::SnapshotFile file{.muster = kVersion, .head = config_.address};
  for (const auto& [id, request] : requests_) {
    if (!request.task_id.empty()) file.tasks.push_back({.task = request.task_id, .request = id});
  }
  file.snapshot = scheduler_.TakeSnapshot();
  return file;
}

}  // namespace muster::head
