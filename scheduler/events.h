// What the scheduler is told (events) and what it wants done (actions): plain values, each with a
// one-line ToString(). Actions are done in list order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "scheduler/choice.h"
#include "scheduler/ids.h"
#include "scheduler/labels.h"
#include "scheduler/resources.h"
#include "scheduler/sharing.h"
#include "scheduler/spec_handle.h"

namespace muster::sched {

// What one bundle of a request (a lease of one rank; a plain request has one bundle) holds.
struct Placement {
  NodeId node{};
  int choice = 0;         // Index into the request's choices; of a placement group, the bundle's.
  Resources resources{};  // What is held: the choice's own shape.
  GpuShares devices{};    // Which devices, by index on the node, lowest first.
};

// --- Events ---

// A lease that ran on the node before it joined: the head lost its memory, or the worker its link.
//   - Request unknown: it is taken as granted; its other bundles may come with other nodes.
//   - Request waiting (its owner asked again): granted where it is, once all its bundles are there.
//   - Ignored: a bundle that is known to be elsewhere or ended, and a placement that the node has
//     no room for (CPUs may be overcommitted, since blocked leases lend theirs out).
struct HeldLease {
  RequestId request{};
  int bundle = 0;
  SpecHandle spec{};      // As it was asked for, so that losses can be reported in the same words.
  Placement placement{};  // `node` is the joining one.
  int shape = 0;          // Of a placement group: by which it was placed, and by which level.
  int level = 0;
};
// The node goes away, or is to be emptied: it gets nothing new. Said again, it replaces what was
// said before, and who was told of another deadline is told of the new one, also of a later one or
// none.
//   - With a deadline, each lease there gets a Notice, and is revoked once it is over. A bundle of
//   a
//     placement group is given up (LeaseLost) and placed anew as soon as nothing runs inside it.
//   - Without one nothing is told, and leases stay as long as they like.
//   - draining = false takes it back: the node gets new work again, and who was told to leave for
//   it
//     may stay (NoticeWithdrawn); what was revoked already ends.
struct NodeDraining {
  NodeId node{};
  std::optional<absl::Time> deadline{};
  std::string reason{};  // For people: "kernel update".
  bool draining = true;
};
// The state of one GPU. An unhealthy one is in quarantine: it counts as not there for what is new,
// and a lease that holds any of it gets a Notice with SchedulerConfig::quarantine_grace as its
// time; a placement group's bundle is given up as where its node drains. Said again, only the
// reason is taken. Healthy gives it back, and who is still there may stay. Ignored for a device
// that the node does not have.
struct DeviceHealth {
  NodeId node{};
  int device = 0;  // Index on the node.
  bool healthy = true;
  std::string reason{};  // "xid 79"
};
struct NodeJoined {  // Ignored if a node with this id is there; a lost node may join again.
  NodeId node{};
  std::string name{};  // As users see it, e.g. "6f1c2a"; explanations use it.
  Labels labels{};
  NodeResources total{};
  std::vector<HeldLease> held{};
  // What was said of it before the head lost its memory: applied before anything new is placed.
  std::optional<NodeDraining> drain{};
  std::vector<DeviceHealth> unhealthy{};
};
struct NodeChanged {  // All labels, not only those that changed.
  NodeId node{};
  Labels labels{};
};
// The head cannot talk to the node at the moment: nothing new is placed there, leases stay.
struct NodeReachable {
  NodeId node{};
  bool reachable = true;
};
struct NodeLost {  // Also a drained node that has left. Its leases end: see LeaseLost.
  NodeId node{};
};
// An id that waits already is ignored. For an id that is granted the Grant is said again: its owner
// has not heard of it. An id whose bundles came back in part (see HeldLease) waits for the others.
struct Requested {
  RequestId request{};
  SpecHandle spec{};
  // Of a placement group that was placed before the head lost its memory: by which shape. Its
  // bundles come back with their nodes, or are placed anew once they have been waited for.
  int placed_shape = -1;
  // Asked for instead of that one, which was told to return to an earlier choice and has ended: the
  // room that is kept for it is taken, whoever waits. Nothing kept (any more): as any request.
  RequestId instead_of{};
};
// Still waiting: forgotten. Already granted: every bundle is freed; a placement group's once what
// runs inside it has ended, which is told so by Revoke.
struct RequestCancelled {
  RequestId request{};
};
// One bundle of a granted request gives its resources back. A placement group goes on: the bundle
// is placed anew.
struct LeaseFinished {
  RequestId request{};
  int bundle = 0;
};
// The lease's task waits for other tasks: its CPUs are lent out (never GPUs, memory or custom
// resources). Blocked = false takes them back at once, even if the node is then overcommitted until
// others finish.
struct LeaseBlocked {
  RequestId request{};
  int bundle = 0;
  bool blocked = true;
};
// A tenant's weight: with twice another's it is due twice as much. Tenants are known by their name
// in RequestSpec; one that was never set has weight 1.
struct TenantSet {
  std::string tenant{};
  int64_t weight_milli = kWeightUnit;  // 1 to kWeightMax; else ignored.
};
// Limits what a tenant or a job may hold of the nodes that the selector matches. Replaces a quota
// of that name. What is held already stays, even above the limit. Ignored if Validate() refuses it.
struct QuotaSet {
  Quota quota{};
};
struct QuotaRemoved {
  std::string name{};
};
struct Tick {};  // Time has passed: `after` timers are looked at.

struct Event {
  absl::Time at{};  // Stamped by the shell; the core has no clock of its own.
  std::variant<NodeJoined, NodeChanged, NodeReachable, NodeDraining, DeviceHealth, NodeLost,
               Requested, RequestCancelled, LeaseFinished, LeaseBlocked, TenantSet, QuotaSet,
               QuotaRemoved, Tick>
      what;
};

// --- Actions ---

// All bundles at once, in order: placements.size() == spec.bundles, or of a placement group the
// bundles of its shape. A placement group's is said again, whole, once what it lost has been placed
// anew; the bundles that were not said to be lost are where they were.
struct Grant {
  RequestId request{};
  absl::InlinedVector<Placement, 1> placements{};
  int shape = 0;  // By which shape and level of the strategy; 0 where there are none.
  int level = 0;
};
// No node there now could ever satisfy the request, by any choice. With fail_if_infeasible the
// request is then gone; otherwise it goes on waiting, and this is said once per spell of
// infeasibility.
struct Infeasible {
  RequestId request{};
  bool failed = false;
  std::string reason{};  // "needs 1 GPU on accelerator-type=H100; 3 nodes, all L4"
};
struct Rejected {  // The request is not queued; `reason` names the bound or the mistake.
  RequestId request{};
  std::string reason{};
};
// The node is gone with this bundle; other bundles of the request go on. Also said of every bundle
// of a request whose other bundles did not come back (SchedulerConfig::adoption_timeout): the
// request is gone, and what still runs of it is to be stopped; `node` is 0 for a bundle that was
// never seen. Of a placement group also said of the bundles that it gives up to be placed anew as a
// whole; the request goes on, and is granted again.
struct LeaseLost {
  RequestId request{};
  int bundle = 0;
  NodeId node{};
};

// Why a lease is to end before its work is done.
enum class LeavingReason {
  kDraining,           // Its node goes away.
  kUnhealthy,          // Its device is in quarantine.
  kPreempted,          // Work of higher priority needs what it holds.
  kRecalled,           // Its time slice is over, and others wait.
  kReturnToPreferred,  // An earlier choice of its own has room again.
  kGroupEnded,         // It runs inside a placement group that was removed or is placed anew.
};
std::string ToString(LeavingReason reason);  // "preempted"

// The holder of the lease is asked to save its work and give the lease back by `deadline` (absent:
// when the node goes, which nobody knows yet). Nothing is free before LeaseFinished comes.
struct Notice {
  RequestId request{};
  int bundle = 0;
  LeavingReason reason = LeavingReason::kDraining;
  std::optional<absl::Time> deadline{};
  std::string why{};  // "request 7 of priority 5 (Train) needs its GPUs"
};
// The deadline of a Notice is over: the lease is to be killed. LeaseFinished follows, as ever.
struct Revoke {
  RequestId request{};
  int bundle = 0;
  LeavingReason reason = LeavingReason::kDraining;
  std::string why{};
};

// A Notice holds no longer: its lease may stay. Not said of one that has been revoked.
struct NoticeWithdrawn {
  RequestId request{};
  int bundle = 0;
};
// A draining node has no leases any more, and may be taken away. Said once a drain.
struct NodeEmpty {
  NodeId node{};
};

using Action = std::variant<Grant, Infeasible, Rejected, LeaseLost, Notice, NoticeWithdrawn, Revoke,
                            NodeEmpty>;

std::string ToString(const Event& event);

// As in golden scripts: "grant request=1 node=1 choice=0 gpus=[0]". The grant of several bundles is
// one line for each: "grant request=1 bundle=0 node=1 choice=0\ngrant request=1 bundle=1 ...".
std::string ToString(const Action& action);

}  // namespace muster::sched
