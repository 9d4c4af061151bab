#include "scheduler/cluster.h"

#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"

namespace muster::sched {

Node* Cluster::FindNode(NodeId id) const {
  const auto found = nodes_.find(id);
  return found == nodes_.end() ? nullptr : found->second;
}

Node* Cluster::FindNode(absl::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Node* Cluster::AddNode(NodeId id, const std::string& name, const Labels& labels,
                       const NodeResources& total) {
  lost_.erase(std::remove_if(lost_.begin(), lost_.end(),
                             [&](const NodeView& view) { return view.node == id; }),
              lost_.end());
  Node* const node = slab_.New(id, name, index_.labels(), *index_.capacity().UseShape(total));
  const bool added = nodes_.emplace(id, node).second;
  MUSTER_CHECK(added);
  InsertById(sorted_, node);
  by_name_.emplace(node->name, node);
  index_.Add(node, WithAliases(labels));
  feasibility_.Came(*node);
  ++nodes_version_;
  topology_.NodesChanged(/*grew=*/true);
  return node;
}

void Cluster::Relabel(Node* node, const Labels& labels) {
  feasibility_.Going(*node);
  index_.Relabel(node, WithAliases(labels));
  feasibility_.Gone(*node);
  feasibility_.Came(*node);
  ++nodes_version_;
  topology_.NodesChanged(/*grew=*/false);
}

void Cluster::CountQuarantined(Node* node) {
  feasibility_.Going(*node);
  const bool grew = node->quarantined.size() < static_cast<size_t>(node->shape->devices_out);
  index_.capacity().Reshape(node, static_cast<int>(node->quarantined.size()));
  feasibility_.Gone(*node);
  feasibility_.Came(*node);
  ++nodes_version_;
  topology_.NodesChanged(grew);
}

void Cluster::RemoveNode(Node* node) {
  MUSTER_CHECK(node->leases.empty());
  feasibility_.Going(*node);
  NodeView view = node->View();
  index_.Remove(node);
  EraseById(sorted_, node);
  feasibility_.Gone(*node);
  ++nodes_version_;
  const auto named = by_name_.find(node->name);
  if (named != by_name_.end() && named->second == node) by_name_.erase(named);
  topology_.NodesChanged(/*grew=*/false);
  view.state = NodeState::kLost;
  lost_.push_back(std::move(view));
  if (lost_.size() > static_cast<size_t>(lost_nodes_kept_)) lost_.pop_front();
  NodeShape* const shape = node->shape;
  NodeShape* const whole = &node->whole;
  nodes_.erase(node->id);
  slab_.Delete(node);
  if (shape != whole) index_.capacity().ReleaseShape(shape);
  index_.capacity().ReleaseShape(whole);
}

std::vector<NodeView> Cluster::Views() const {
  std::vector<NodeView> views(lost_.begin(), lost_.end());
  for (const Node* node : sorted_) views.push_back(node->View());
  std::sort(views.begin(), views.end(),
            [](const NodeView& a, const NodeView& b) { return a.node < b.node; });
  return views;
}

SchedulingClass* Cluster::FindClass(const SpecHandle& spec) const {
  const auto found = class_of_spec_.find(spec);
  return found == class_of_spec_.end() ? nullptr : found->second;
}

SchedulingClass* Cluster::Use(const SpecHandle& spec) {
  SchedulingClass*& of = class_of_spec_[spec];
  if (of == nullptr) of = MakeClass(next_class_++, spec);
  return Use(of);
}

SchedulingClass* Cluster::Use(SchedulingClass* of) {
  if (of->idle_since) {
    idle_.erase(*of->idle_since);
    of->idle_since.reset();
  }
  ++of->requests;
  return of;
}

SchedulingClass* Cluster::MakeClass(uint64_t id, const SpecHandle& spec) {
  auto made = std::make_unique<SchedulingClass>(id, spec);
  SchedulingClass* const of = made.get();
  classes_.emplace(id, std::move(made));
  for (const Choice& choice : of->spec.choices) {
    of->selectors.push_back(index_.Acquire(choice.selector));
  }
  if (of->spec.inside) {  // It is placed in what its group has.
  } else if (of->spec.is_group() || of->spec.bundles > 1 || !of->spec.strategy.empty()) {
    topology_.UseHierarchy();
    of->plan = MakeGroupPlan(of->spec, index_, topology_);
  }
  return of;
}

SchedulingClass* Cluster::RestoreClass(uint64_t id, const SpecHandle& spec, uint64_t idle_since) {
  if (class_of_spec_.contains(spec) || idle_.contains(idle_since)) return nullptr;
  SchedulingClass* const of = MakeClass(id, spec);
  class_of_spec_.emplace(spec, of);
  of->idle_since = idle_since;
  idle_.emplace(idle_since, of);
  return of;
}

void Cluster::RestoreLost(NodeView view) {
  lost_.push_back(std::move(view));
  if (lost_.size() > static_cast<size_t>(lost_nodes_kept_)) lost_.pop_front();
}

void Cluster::Unuse(SchedulingClass* of) {
  MUSTER_CHECK(of->requests > 0);
  if (--of->requests > 0) return;
  of->idle_since = next_idle_++;
  idle_.emplace(*of->idle_since, of);
  DropIdleClasses();
}

void Cluster::DropIdleClasses() {
  while (idle_.size() > static_cast<size_t>(idle_classes_kept_)) {
    SchedulingClass* const oldest = idle_.begin()->second;
    idle_.erase(idle_.begin());
    feasibility_.Forget(*oldest);
    for (const int selector : oldest->selectors) index_.Release(selector);
    if (oldest->plan != nullptr) ReleaseGroupPlan(*oldest->plan, index_, topology_);
    class_of_spec_.erase(oldest->handle);
    classes_.erase(oldest->id);
  }
}

void Cluster::CheckInvariants() const {
  MUSTER_CHECK(nodes_.size() == sorted_.size());
  MUSTER_CHECK(std::is_sorted(sorted_.begin(), sorted_.end(),
                              [](const Node* a, const Node* b) { return a->id < b->id; }));
  index_.CheckInvariants(sorted_);
  topology_.CheckInvariants(sorted_);
  MUSTER_CHECK(idle_.size() <= static_cast<size_t>(idle_classes_kept_));
  MUSTER_CHECK(class_of_spec_.size() == classes_.size());
  for (const auto& [id, of] : classes_) {
    MUSTER_CHECK((of->requests == 0) == of->idle_since.has_value());
    MUSTER_CHECK(of->watched == of->waits());
    if (of->waits()) feasibility_.CheckInvariants(*of);
  }
}

}  // namespace muster::sched
