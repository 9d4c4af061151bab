// Snapshots and recorded events come from files that people edit. None may crash, whatever is in
// them; what is read says the same when written and read again; and what can be loaded keeps the
// scheduler's invariants, also while it goes on.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/snapshot/snapshot_json.h"
#include "scheduler/base/check.h"

namespace muster {
namespace {

void CheckEvent(absl::string_view text) {
  const absl::StatusOr<sched::Event> event = snapshot::ParseEvent(text);
  if (!event.ok()) return;
  const std::string json = snapshot::ToJson(*event);
  const absl::StatusOr<sched::Event> again = snapshot::ParseEvent(json);
  MUSTER_CHECK(again.ok());
  MUSTER_CHECK(snapshot::ToJson(*again) == json);
}

void CheckSnapshot(absl::string_view text) {
  const absl::StatusOr<snapshot::SnapshotFile> file = snapshot::ParseSnapshot(text);
  if (!file.ok()) return;
  const std::string json = ToJson(*file, snapshot::Style::kOneLine);
  const absl::StatusOr<snapshot::SnapshotFile> again = snapshot::ParseSnapshot(json);
  MUSTER_CHECK(again.ok());
  MUSTER_CHECK(ToJson(*again, snapshot::Style::kOneLine) == json);

  std::vector<sched::Action> actions;
  const absl::StatusOr<std::unique_ptr<sched::Scheduler>> loaded =
      sched::Scheduler::Load(file->snapshot, actions);
  if (!loaded.ok()) {
    MUSTER_CHECK(!loaded.status().message().empty());
    return;
  }
  sched::Scheduler& scheduler = **loaded;
  scheduler.CheckInvariants();
  if (scheduler.NextTick() < absl::InfiniteFuture()) {
    scheduler.Step({.at = scheduler.NextTick(), .what = sched::Tick{}}, actions);
    scheduler.CheckInvariants();
  }
  for (const sched::SnapshotNode& node : file->snapshot.nodes) {
    scheduler.Step({.at = file->snapshot.now, .what = sched::NodeLost{node.node}}, actions);
  }
  scheduler.CheckInvariants();
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  muster::CheckSnapshot(text);
  muster::CheckEvent(text);
  return 0;
}
