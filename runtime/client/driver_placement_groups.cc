// Placement groups: reservations that tasks and groups run in. The head places them and places them
// anew; the driver knows where they are, and says so again to a head that has forgotten.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/client/driver_core.h"
#include "runtime/wire/protocol.h"

namespace muster::client {

void DriverCore::On(CreateGroup& create) {
  PlacementGroup& group = placement_groups_[create.request];
  group.number = create.group;
  group.request = create.request;
  group.spec = std::move(create.spec);
  group.cookie = std::move(create.cookie);
  group.asked_at = now_;
  SendGroup(group);
}

void DriverCore::On(const RemoveGroup& remove) {
  const auto found = placement_groups_.find(remove.request);
  if (found == placement_groups_.end()) return;
  v1::DriverMessage message;
  message.mutable_cancel()->set_request(remove.request);
  Tell(std::move(message));
  FailGroup(found->second, absl::FailedPreconditionError("the placement group was removed"));
}

void DriverCore::SendGroup(const PlacementGroup& group) {
  v1::DriverMessage message;
  v1::LeaseRequest& request = *message.mutable_request();
  request.set_request(group.request);
  *request.mutable_spec() = group.spec;
  request.set_task_id(TaskIdOf(group.number));
  if (!group.bundles.empty()) request.set_placed_shape(group.shape + 1);
  Tell(std::move(message));
}

// The shape is that of the last bundle that was placed: another one means all of them anew.
void DriverCore::OnBundlePlaced(PlacementGroup& group, const v1::Granted& granted) {
  const uint32_t shape = granted.placement().shape();
  if (static_cast<int>(shape) >= group.spec.shapes_size()) return;
  if (group.bundles.empty() || group.shape != shape) {
    size_t bundles = 0;
    for (const v1::BundleSpec& bundle : group.spec.shapes(static_cast<int>(shape)).bundles()) {
      bundles += bundle.count();
    }
    group.shape = shape;
    group.bundles.assign(bundles, {});
  }
  if (granted.lease().bundle() >= group.bundles.size()) return;
  BundleOfGroup& bundle = group.bundles[granted.lease().bundle()];
  bundle.node = granted.node();
  bundle.labels = {granted.labels().begin(), granted.labels().end()};
  group.infeasible.clear();
  SayGroup(group);
}

void DriverCore::OnBundleLost(PlacementGroup& group, uint32_t bundle) {
  if (bundle >= group.bundles.size()) return;
  group.bundles[bundle] = {};
  SayGroup(group);
}

void DriverCore::SayGroup(const PlacementGroup& group) {
  GroupChanged changed;
  changed.cookie = group.cookie;
  changed.placed = !group.bundles.empty() &&
                   std::none_of(group.bundles.begin(), group.bundles.end(),
                                [](const BundleOfGroup& bundle) { return bundle.node.empty(); });
  changed.bundles = group.bundles;
  actions_->push_back(std::move(changed));
}

void DriverCore::FailGroup(PlacementGroup& group, absl::Status status) {
  GroupChanged changed;
  changed.cookie = std::move(group.cookie);
  changed.status = std::move(status);
  placement_groups_.erase(group.request);
  actions_->push_back(std::move(changed));
}

void DriverCore::OnGroupInfeasible(PlacementGroup& group, const v1::Infeasible& message) {
  const std::string name = absl::StrCat("placement group ", group.spec.name());
  if (message.failed()) {
    FailGroup(group, absl::FailedPreconditionError(
                         absl::StrCat(name, " can be placed nowhere: ", message.reason())));
    return;
  }
  group.infeasible = message.reason();
  PrintInfeasible(name, message.reason(), group.next_print);
}

void DriverCore::TickPlacementGroups() {
  std::vector<uint64_t> over;
  for (auto& [request, group] : placement_groups_) {
    if (!group.infeasible.empty() && now_ >= group.next_print) {
      PrintInfeasible(absl::StrCat("placement group ", group.spec.name()), group.infeasible,
                      group.next_print);
    }
    if (gave_up_on_head_ && group.bundles.empty()) over.push_back(request);
  }
  for (const uint64_t request : over) FailGroup(placement_groups_.at(request), HeadIsGone());
}

void DriverCore::FindGroups(const v1::FindTasks& find, v1::TasksFound& answer) const {
  for (const auto& [request, group] : placement_groups_) {
    if (!absl::StartsWith(TaskIdOf(group.number), find.prefix())) continue;
    v1::FoundTask& found = *answer.add_tasks();
    found.set_task_id(TaskIdOf(group.number));
    found.set_name(absl::StrCat("placement group ", group.spec.name()));
    found.set_request(request);
    found.set_waited_ns(absl::ToInt64Nanoseconds(now_ - group.asked_at));
    std::string where;
    bool placed = !group.bundles.empty();
    for (size_t i = 0; i < group.bundles.size(); ++i) {
      placed = placed && !group.bundles[i].node.empty();
      absl::StrAppend(&where, i == 0 ? "" : ", ", "bundle ", i, " on ", group.bundles[i].node);
    }
    found.set_state(placed ? "placed" : "waiting");
    if (placed) found.set_detail(where);
  }
}

}  // namespace muster::client
