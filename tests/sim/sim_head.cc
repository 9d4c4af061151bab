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
  if (ToJson(*file, snapshot::Style::kOneLine) != json) {
    checker_.Fail(absl::StrCat("a loaded snapshot is another one: ", json));
  }
  uint64_t before = 0;
  const v1::DecisionsReply last = core.Decisions(0, 100);
  for (const v1::Decision& decision : last.decisions()) {
    if (before != 0 && decision.number() + 1 != before) {
      checker_.Fail("the last decisions are not in order");
    }
    before = decision.number();
  }
}

}  // namespace muster::sim
