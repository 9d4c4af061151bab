// Golden scripts: the scheduler's behaviour in words, a statement on each line and below it, after
// ">", what the scheduler does. The statements:
//
//   at 5s                                the clock moves on, from the start of the script
//   join node=1 [name= cpus= gpus= memory= resource.NAME= labels={k=v, ...}]
//   change node=1 labels={k=v, ...}      all labels of the node
//   unreachable node=1                   and: reachable node=1
//   drain node=1 [deadline=30s]          from now
//   lost node=1
//   request id=1 [cpus= gpus= memory= resource.NAME= bundles= priority= on_infeasible=wait|fail
//   name= owner= tenant= job= expected=5m preemptible=yes|no placement=pack|best-fit|spread
//   moves=2 return_after=10m return_grace=5m instead_of=7
//   strategy=[same(rack), pack] inside=7|7/0
//                 choices=[{key: text, ...} [cpus= gpus= memory= resource.NAME= after=
//                 advance_on=a|b], ...]]
//   request id=1 bundles=[{key: text, ...} [count=4 cpus= gpus= memory= resource.NAME=
//                          choices=[...]], ...] [strategy=[...] else=[bundles=[...] [strategy=[...]
//                          after= advance_on=], ...] priority= on_infeasible= name= owner=]
//                                        a placement group; else= has its other shapes, and
//                                        placed_shape=0 says that it was placed before a restart
//   undrain node=2
//   unhealthy node=1 gpu=0 [reason=xid_79]   and: healthy node=1 gpu=0
//   finish id=1 [bundle=0]               and: block id=1 [bundle=0], unblock id=1 [bundle=0]
//   cancel id=1
//   explain id=1                         prints what `muster explain` does
//   status                               prints the nodes, the tenants where there are several, the
//                                        quotas and the classes that wait
//   estimate id=1                        prints when it could start
//   whatif id=1 [of a node as for join]  the same, if one more such node joined now
//   decision id=1                        prints the last decision about it
//   tenant name=a [weight=2]
//   quota name=q [tenant= or job=] [selector={key: text}] and one of cpus= gpus= memory=
//         resource.NAME=                 and: quota_removed name=q
//   config [grace=5s adoption_timeout=30s waiting_max=10 decision_detail=all avoid_for=10s
//           ordering=fair|fifo backfill=greedy|none|easy|conservative reservations_max=64
//           duration_default=1h preemption=yes|no preemption_grace=30s time_slice=1h
//           waiting_per_tenant_max=10 quarantine_grace=30s recall_grace=1m overtaken_max=64
//           reservation_after=1m return_patience=10s placement=pack|best-fit|spread]
//                                        before all others
//   held id=1 [bundle=0 shape=0 choice=0 devices=[0] and as for request]   the next join brings
//   this lease along
//
// cpus=1 where left out, of nodes and requests. A choice's cpus= or gpus= replaces only that
// resource.
// "#" begins a comment. In a ">" line, reason="..." stands for any reason.
//
// Errors: kInvalidArgument, beginning with the number of the line, "12: ...".
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/events.h"
#include "scheduler/scheduler.h"
#include "scheduler/snapshot.h"

namespace muster::sched {

struct ScriptAt {
  absl::Duration since_start{};
};
struct ScriptDrain {
  NodeId node{};
  std::optional<absl::Duration> deadline{};
  std::string reason{};
};
struct ScriptExplain {
  RequestId request{};
};
struct ScriptStatus {};
struct ScriptEstimate {
  RequestId request{};
  std::optional<NodeJoined> node{};  // What if it were there.
};
struct ScriptDecision {
  RequestId request{};
};

struct ScriptStatement {
  int line = 0;  // From 1.
  std::string text{};
  std::variant<decltype(Event::what), ScriptAt, ScriptDrain, ScriptExplain, ScriptStatus,
               ScriptEstimate, ScriptDecision>
      what{};
  std::vector<std::string> expected{};  // The ">" lines below it, without "> ".
};

struct Script {
  SchedulerConfig config{};  // Starts at ScriptStart().
  std::vector<ScriptStatement> statements{};
  std::vector<std::string> lines{};  // All of the text.
};

absl::Time ScriptStart();

absl::StatusOr<Script> ParseScript(absl::string_view text);

// What each statement makes the scheduler do, a line for each action (without "> "), in order of
// the statements. Checks the scheduler's invariants after each. With `through`, the scheduler is
// after each statement replaced by one loaded from what `through` makes of its snapshot, which must
// change nothing.
using ThroughSnapshot = std::function<Snapshot(const Snapshot&)>;
std::vector<std::vector<std::string>> RunScript(const Script& script,
                                                const ThroughSnapshot& through = {});

// Where what was printed differs from what the script expects: "-" what it expects, "+" what was
// printed. Empty: nowhere.
std::string DiffScript(const Script& script, const std::vector<std::vector<std::string>>& printed);

// The script's text with what was printed for its ">" lines.
std::string RewriteScript(const Script& script,
                          const std::vector<std::vector<std::string>>& printed);

}  // namespace muster::sched
