// The head: started, crashed, asked.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/snapshot/snapshot_json.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

void ClusterSim::StartHead() {
  head_ = std::make_shared<HeadProcess>();
  head_->id = prng_.Next();
  head::HeadConfig config;
  config.head = head_->id;
  config.address = "head:6379";
  config.start = clock_.now();
  config.node_timeout = plan_.node_timeout;
  config.sharing = plan_.sharing;
  config.placement = plan_.placement;
  config.overtaken_max = plan_.overtaken_max;
  config.reservation_after = plan_.reservation_after;
  for (const std::string& quota : plan_.quotas) {
    config.quotas.push_back(*sched::ParseQuota(quota));
  }
  // A restarted head waits that long for leases to come back with their nodes.
  if (last_worker_ > 0) {
    head_knows_at_ = clock_.now() + sched::SchedulerConfig{}.adoption_timeout + absl::Seconds(1);
  }
  config.tenants.push_back({.tenant = "t1", .weight_milli = 2000});
  head_->core = std::make_unique<head::HeadCore>(config);
  open_questions_ = 0;
  Note("head", 0, "starts");
}

void ClusterSim::CrashHead() {
  Note("head", 0, "crashes");
  const std::shared_ptr<HeadProcess> head = std::exchange(head_, nullptr);
  for (const auto& [id, stream] : head->streams) {
    stream->to_head.Cut();
    stream->to_process.Cut();
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Milliseconds(100)),
                 [this, stream = stream] { StreamIsDown(stream); });
  }
  clock_.After(prng_.Between(absl::Milliseconds(50), absl::Seconds(8)), [this] {
    if (head_ == nullptr) StartHead();
  });
}

void ClusterSim::Do(HeadProcess& head, const head::ToDriver& to) {
  const auto stream = head.streams.find(to.connection);
  if (stream != head.streams.end()) SendToProcess(stream->second, to.message.SerializeAsString());
}

void ClusterSim::Do(HeadProcess& head, const head::ToWorker& to) {
  const auto stream = head.streams.find(to.connection);
  if (stream != head.streams.end()) SendToProcess(stream->second, to.message.SerializeAsString());
}

void ClusterSim::Do(HeadProcess& head, const head::CloseConnection& close) {
  const auto found = head.streams.find(close.connection);
  if (found == head.streams.end()) return;
  const std::shared_ptr<Stream> stream = found->second;
  FlushToProcess(stream);
  stream->to_head.Cut();
  stream->to_process.Send([this, stream] { StreamIsDown(stream); });
  clock_.After(network_.DrawDelay(), [this, stream, alive = head_] { HeadSeesEnd(alive, stream); });
}

void ClusterSim::Do(HeadProcess&, const head::Answer& answer) {
  --open_questions_;
  Note("head", answer.query, "answers", answer.reply);
}

void ClusterSim::ArmTick(const std::shared_ptr<HeadProcess>& head) {
  Arm(head, [this, head] {
    if (head != head_) return;
    if (head->core->NextTick() > clock_.now()) {
      ArmTick(head);
      return;
    }
    StepHead(head::Tick{}, "tick");
    if (head->core->NextTick() <= clock_.now())
      checker_.Fail("the head's tick is due again at once");
  });
}

void ClusterSim::ScheduleQuestion() {
  clock_.After(prng_.Between(absl::Milliseconds(100), absl::Seconds(3)), [this] {
    if (healed_) return;
    ScheduleQuestion();
    if (head_ == nullptr || drivers_.empty()) return;
    const DriverProcess& driver = *Pick(drivers_);
    const uint64_t task = prng_.Below(driver.last_task + 1);
    ++open_questions_;
    StepHead(head::Asked{++last_question_,
                         driver.core->TaskIdOf(task).substr(0, prng_.Percent(80) ? 12 : 1)},
             "asked");
  });
}

// A scheduler loaded from the head's snapshot, through JSON, is as the head's; and what the head
// says of its decisions is in order.
void ClusterSim::CheckSnapshot(const head::HeadCore& core) {
  const std::string json = ToJson(core.TakeSnapshot(), snapshot::Style::kOneLine);
  absl::StatusOr<snapshot::SnapshotFile> file = snapshot::ParseSnapshot(json);
  if (!file.ok()) {
    return checker_.Fail(absl::StrCat("a snapshot cannot be read: ", file.status().message()));
  }
  std::vector<sched::Action> actions;
  const auto loaded = sched::Scheduler::Load(file->snapshot, actions);
  if (!loaded.ok()) {
    return checker_.Fail(absl::StrCat("a snapshot cannot be loaded: ", loaded.status().message()));
  }
  if (!actions.empty()) {
    return checker_.Fail(absl::StrCat("a loaded snapshot is not at rest: ", ToString(actions[0])));
  }
  (*loaded)->CheckInvariants();
  file->snapshot = (*loaded)->TakeSnapshot();
  const std::string again = ToJson(*file, snapshot::Style::kOneLine);
  if (again != json) {
    const size_t at = static_cast<size_t>(
        std::mismatch(json.begin(), json.end(), again.begin(), again.end()).first - json.begin());
    const size_t from = at < 200 ? 0 : at - 200;
    checker_.Fail(absl::StrCat("a loaded snapshot is another one: ", again.substr(from, 400),
                               " where it was ", json.substr(from, 400)));
  }
  CheckGroups(file->snapshot);
  uint64_t before = 0;
  const v1::DecisionsReply last = core.Decisions(0, 100);
  for (const v1::Decision& decision : last.decisions()) {
    if (before != 0 && decision.number() + 1 != before) {
      checker_.Fail("the last decisions are not in order");
    }
    before = decision.number();
  }
}

// Placement groups, from what the scheduler says it knows: one that is placed has all its bundles,
// at most one waits with a part of them, and what runs inside lies in a bundle of its group.
void ClusterSim::CheckGroups(const sched::Snapshot& snapshot) {
  using State = sched::SnapshotBundle::State;
  absl::btree_map<RequestId, const sched::SnapshotRequest*> groups;
  absl::btree_map<uint64_t, const sched::RequestSpec*> specs;
  for (const sched::SnapshotClass& of : snapshot.classes) specs.emplace(of.id, &*of.spec);
  int in_part = 0;
  for (const sched::SnapshotRequest& request : snapshot.requests) {
    if (!specs.at(request.of)->is_group()) continue;
    groups.emplace(request.request, &request);
    int running = 0;
    int ended = 0;
    int others = 0;  // On their way to come or to go.
    for (const sched::SnapshotBundle& bundle : request.bundles) {
      running += bundle.state == State::kRunning;
      ended += bundle.state == State::kEnded;
      others += bundle.state == State::kClosing || bundle.state == State::kMissing;
    }
    if (request.granted() && !request.broken && !request.closing && ended > 0) {
      checker_.Fail(absl::StrCat("placement group ", request.request.ToString(), " has ", running,
                                 " of its bundles, and waits for none"));
    }
    in_part += request.broken && running > 0 && others == 0;
  }
  if (in_part > 1 && clock_.now() >= head_knows_at_) {
    checker_.Fail(absl::StrCat(in_part, " placement groups wait with a part of their bundles"));
  }
  for (const sched::SnapshotRequest& request : snapshot.requests) {
    const std::optional<sched::InsideGroup>& inside = specs.at(request.of)->inside;
    for (const sched::SnapshotBundle& bundle : request.bundles) {
      if (!inside || bundle.state != State::kRunning) continue;
      const auto group = groups.find(inside->group);
      if (group == groups.end() || bundle.inside < 0 ||
          static_cast<size_t>(bundle.inside) >= group->second->bundles.size() ||
          group->second->bundles[static_cast<size_t>(bundle.inside)].placement.node !=
              bundle.placement.node) {
        checker_.Fail(absl::StrCat("request ", request.request.ToString(),
                                   " runs outside its placement group"));
      }
    }
  }
}

}  // namespace muster::sim
