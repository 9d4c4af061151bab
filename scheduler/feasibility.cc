#include "scheduler/feasibility.h"

#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/placement_constraints.h"

namespace muster::sched {
namespace {

// New nodes change something: for the class as a whole, or for which choices open.
bool NewNodesMatter(const SchedulingClass& of) {
  if (!of.Feasible()) return true;
  if (!of.opens_later()) return false;
  return std::find(of.nodes_for_choice.begin(), of.nodes_for_choice.end(), 0) !=
         of.nodes_for_choice.end();
}

}  // namespace

bool Feasibility::IsCounted(const SchedulingClass& of) {
  return of.spec.bundles > 1 || IsConstrained(of.spec);
}

bool Feasibility::CouldHold(const SchedulingClass& of, int choice, const Node& node) {
  return SelectorIndex::Selected(node, of.selectors[choice]) &&
         node.empty().Fits(of.spec.choices[choice].resources);
}

bool Feasibility::IsPossible(const SchedulingClass& of, int choice) const {
  if (of.nodes_for_choice[choice] > 0) return true;
  if (IsCounted(of)) return false;
  // Nobody has asked while another choice was possible.
  return index_.capacity().AnyEver(index_.matched(of.selectors[choice]),
                                   of.spec.choices[choice].resources) != nullptr;
}

void Feasibility::Watch(SchedulingClass& of) {
  if (of.watched) return;
  of.watched = true;
  if (!of.counted()) {  // The scheduler looks by itself when nodes have changed.
    uncounted_.emplace(of.id, &of);
    return;
  }
  if (IsCounted(of)) {
    std::fill(of.nodes_for_choice.begin(), of.nodes_for_choice.end(), 0);
    std::fill(of.bundles_for_open.begin(), of.bundles_for_open.end(), 0);
    for (const Node* node : nodes_) of.Count(*node, +1);
    counted_.emplace(of.id, &of);
    return;
  }
  if (!of.witnessed) FindWitnesses(of);
  if (NewNodesMatter(of)) lacking_.emplace(of.id, &of);
}

void Feasibility::Unwatch(SchedulingClass& of) {
  if (!of.watched) return;
  of.watched = false;
  counted_.erase(of.id);
  uncounted_.erase(of.id);
  // Nobody tells it of new nodes from now on.
  if (lacking_.erase(of.id) > 0) of.witnessed = false;
}

void Feasibility::Forget(SchedulingClass& of) {
  MUSTER_CHECK(!of.watched);
  for (Node* node : of.witnesses) {
    const auto found = stands_for_.find(node);
    if (found == stands_for_.end()) continue;
    auto& classes = found->second;
    classes.erase(std::remove(classes.begin(), classes.end(), &of), classes.end());
  }
  if (of.may_have_changed) changed_.erase(std::find(changed_.begin(), changed_.end(), &of));
}

void Feasibility::FindWitnesses(SchedulingClass& of) {
  for (int i = 0; i < of.choices(); ++i) {
    Node* node = of.witnesses[i];
    if (node == nullptr) {
      node =
          index_.capacity().AnyEver(index_.matched(of.selectors[i]), of.spec.choices[i].resources);
    }
    SetWitness(of, i, node);
  }
  of.witnessed = true;
}

void Feasibility::SetWitness(SchedulingClass& of, int choice, Node* node) {
  if (node != nullptr && of.witnesses[choice] != node) {
    std::vector<SchedulingClass*>& classes = stands_for_[node];
    if (classes.empty() || classes.back() != &of) classes.push_back(&of);
  }
  of.witnesses[choice] = node;
  of.nodes_for_choice[choice] = node == nullptr ? 0 : 1;
  for (int open = 1; open <= of.choices(); ++open) {
    of.bundles_for_open[open] =
        std::max(of.bundles_for_open[open - 1], of.nodes_for_choice[open - 1]);
  }
}

void Feasibility::Came(Node& node) {
  for (const auto& [id, of] : uncounted_) Note(*of);
  for (const auto& [id, of] : counted_) {
    of->Count(node, +1);
    Note(*of);
  }
  for (auto next = lacking_.begin(); next != lacking_.end();) {
    SchedulingClass& of = *next->second;
    for (int i = 0; i < of.choices(); ++i) {
      if (of.witnesses[i] != nullptr || !CouldHold(of, i, node)) continue;
      SetWitness(of, i, &node);
      Note(of);
    }
    next = NewNodesMatter(of) ? std::next(next) : lacking_.erase(next);
  }
}

void Feasibility::Going(Node& node) {
  for (const auto& [id, of] : counted_) {
    of->Count(node, -1);
    Note(*of);
  }
}

void Feasibility::Gone(Node& node) {
  for (const auto& [id, of] : uncounted_) Note(*of);
  const auto found = stands_for_.find(&node);
  if (found == stands_for_.end()) return;
  const std::vector<SchedulingClass*> classes = std::move(found->second);
  stands_for_.erase(found);
  for (SchedulingClass* of : classes) {
    bool stood = false;
    for (int i = 0; i < of->choices(); ++i) {
      if (of->witnesses[i] != &node) continue;
      SetWitness(*of, i, nullptr);
      stood = true;
    }
    if (!stood) continue;
    of->witnessed = false;
    if (!of->watched) continue;
    FindWitnesses(*of);
    Note(*of);
    if (NewNodesMatter(*of)) lacking_.emplace(of->id, of);
  }
}

void Feasibility::Note(SchedulingClass& of) {
  if (of.may_have_changed) return;
  of.may_have_changed = true;
  changed_.push_back(&of);
}

std::vector<SchedulingClass*> Feasibility::TakeChanged() {
  std::vector<SchedulingClass*> changed = std::exchange(changed_, {});
  for (SchedulingClass* of : changed) of->may_have_changed = false;
  return changed;
}

void Feasibility::CheckInvariants(const SchedulingClass& of) const {
  MUSTER_CHECK(of.watched);
  if (!of.counted()) return;
  SchedulingClass fresh(0, of.handle);
  fresh.selectors = of.selectors;
  for (const Node* node : nodes_) fresh.Count(*node, +1);
  if (IsCounted(of)) {
    MUSTER_CHECK(fresh.nodes_for_choice == of.nodes_for_choice);
    MUSTER_CHECK(fresh.bundles_for_open == of.bundles_for_open);
    return;
  }
  MUSTER_CHECK(fresh.Feasible() == of.Feasible());
  for (int i = 0; i < of.choices(); ++i) {
    MUSTER_CHECK(of.witnesses[i] == nullptr || CouldHold(of, i, *of.witnesses[i]));
    MUSTER_CHECK((of.witnesses[i] != nullptr) == (of.nodes_for_choice[i] > 0));
    if (!of.opens_later()) continue;
    MUSTER_CHECK((fresh.nodes_for_choice[i] > 0) == (of.nodes_for_choice[i] > 0));
    MUSTER_CHECK(fresh.Feasible(i + 1) == of.Feasible(i + 1));
  }
}

}  // namespace muster::sched
