#include "scheduler/events.h"

#include <type_traits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::sched {
namespace {

std::string Devices(const Placement& placement) {
  if (placement.devices.empty()) return "";
  return absl::StrCat(
      " gpus=[",
      absl::StrJoin(placement.devices, ",",
                    [](std::string* out, GpuShare share) { absl::StrAppend(out, share.device); }),
      "]");
}

std::string Where(const Placement& placement) {
  return absl::StrCat("node=", placement.node.ToString(), " choice=", placement.choice,
                      Devices(placement));
}

std::string Braced(const Labels& labels) {
  return absl::StrCat("{", absl::StrJoin(labels, ", ", absl::PairFormatter("=")), "}");
}

std::string Lease(RequestId request, int bundle) {
  return absl::StrCat("request=", request.ToString(), " bundle=", bundle);
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text), "\"");
}

std::string Text(const NodeDraining& e);
std::string Text(const DeviceHealth& e);
std::string Text(const NodeJoined& e) {
  std::string text = absl::StrCat("join node=", e.node.ToString(), " name=", e.name,
                                  " labels=", Braced(e.labels), " total=", Quoted(ToText(e.total)));
  for (const HeldLease& held : e.held) {
    absl::StrAppend(&text, " held={", Lease(held.request, held.bundle), " ", Where(held.placement),
                    "}");
  }
  if (e.drain) absl::StrAppend(&text, " {", Text(*e.drain), "}");
  for (const DeviceHealth& health : e.unhealthy) absl::StrAppend(&text, " {", Text(health), "}");
  return text;
}
std::string Text(const NodeChanged& e) {
  return absl::StrCat("change node=", e.node.ToString(), " labels=", Braced(e.labels));
}
std::string Text(const NodeReachable& e) {
  return absl::StrCat(e.reachable ? "reachable" : "unreachable", " node=", e.node.ToString());
}
std::string Text(const NodeDraining& e) {
  if (!e.draining) return absl::StrCat("undrain node=", e.node.ToString());
  return absl::StrCat(
      "drain node=", e.node.ToString(),
      e.deadline ? absl::StrCat(" deadline=", absl::FormatTime(*e.deadline, absl::UTCTimeZone()))
                 : "",
      e.reason.empty() ? "" : absl::StrCat(" reason=", Quoted(e.reason)));
}
std::string Text(const DeviceHealth& e) {
  return absl::StrCat(e.healthy ? "healthy" : "unhealthy", " node=", e.node.ToString(),
                      " gpu=", e.device,
                      e.reason.empty() ? "" : absl::StrCat(" reason=", Quoted(e.reason)));
}
std::string Text(const NodeLost& e) { return absl::StrCat("lost node=", e.node.ToString()); }
std::string Text(const Requested& e) {
  std::string text = absl::StrCat("request id=", e.request.ToString(), " bundles=", e.spec->bundles,
                                  " priority=", e.spec->priority,
                                  e.spec->fail_if_infeasible ? " on_infeasible=fail" : "");
  if (!e.spec->affinity.node.empty()) {
    absl::StrAppend(&text, e.spec->affinity.soft ? " soft_affinity=" : " affinity=",
                    Quoted(e.spec->affinity.node));
  }
  if (e.spec->placement) absl::StrAppend(&text, " placement=", ToString(*e.spec->placement));
  if (!e.spec->avoid.empty()) {
    absl::StrAppend(&text, " avoid=[", absl::StrJoin(e.spec->avoid, ", "), "]");
  }
  if (!e.spec->tenant.empty()) absl::StrAppend(&text, " tenant=", e.spec->tenant);
  if (!e.spec->job.empty()) absl::StrAppend(&text, " job=", e.spec->job);
  if (e.spec->expected_duration != absl::InfiniteDuration()) {
    absl::StrAppend(&text, " expected=", absl::FormatDuration(e.spec->expected_duration));
  }
  if (!e.spec->preemptible) absl::StrAppend(&text, " preemptible=no");
  if (const ReturnToPreferred& back = e.spec->return_to_preferred; back.moves > 0) {
    absl::StrAppend(&text, " moves=", back.moves,
                    " return_after=", absl::FormatDuration(back.after),
                    " return_grace=", absl::FormatDuration(back.grace));
  }
  for (const Choice& choice : e.spec->choices) {
    absl::StrAppend(&text, " choice={", choice.selector.ToString(), "} ",
                    Quoted(ToText(choice.resources)), " after=", absl::FormatDuration(choice.after),
                    " advance_on=", AdvanceOnToText(choice.advance_on));
  }
  if (!e.spec->strategy.empty())
    absl::StrAppend(&text, " strategy=[", ToText(e.spec->strategy), "]");
  for (const GroupShape& shape : e.spec->shapes) {
    absl::StrAppend(&text, " shape={", ToText(shape.strategy), "}");
    for (const BundleSpec& bundle : shape.bundles) {
      absl::StrAppend(&text, " {",
                      absl::StrJoin(bundle.choices, ", ",
                                    [](std::string* out, const Choice& c) {
                                      absl::StrAppend(out, "{", c.selector.ToString(), "} ",
                                                      Quoted(ToText(c.resources)));
                                    }),
                      "}");
    }
  }
  if (e.placed_shape >= 0) absl::StrAppend(&text, " placed_shape=", e.placed_shape);
  if (e.instead_of != RequestId{}) absl::StrAppend(&text, " instead_of=", e.instead_of.ToString());
  if (e.spec->inside) {
    absl::StrAppend(&text, " inside=", e.spec->inside->group.ToString(), "/",
                    e.spec->inside->bundle);
  }
  return text;
}
std::string Text(const RequestCancelled& e) {
  return absl::StrCat("cancel id=", e.request.ToString());
}
std::string Text(const LeaseFinished& e) {
  return absl::StrCat("finish ", Lease(e.request, e.bundle));
}
std::string Text(const LeaseBlocked& e) {
  return absl::StrCat(e.blocked ? "block " : "unblock ", Lease(e.request, e.bundle));
}
std::string Text(const TenantSet& e) {
  return absl::StrCat("tenant name=", e.tenant, " weight=", WeightToText(e.weight_milli));
}
std::string Text(const QuotaSet& e) { return absl::StrCat("quota ", ToText(e.quota)); }
std::string Text(const QuotaRemoved& e) { return absl::StrCat("quota_removed name=", e.name); }
std::string Text(const Tick&) { return "tick"; }

std::string Text(const Grant& a) {
  const std::string how = absl::StrCat(a.shape > 0 ? absl::StrCat(" shape=", a.shape) : "",
                                       a.level > 0 ? absl::StrCat(" level=", a.level) : "");
  if (a.placements.size() == 1) {
    return absl::StrCat("grant request=", a.request.ToString(), " ", Where(a.placements[0]), how);
  }
  std::string text;
  for (size_t i = 0; i < a.placements.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : "\n", "grant ", Lease(a.request, static_cast<int>(i)), " ",
                    Where(a.placements[i]), how);
  }
  return text;
}
std::string Text(const Infeasible& a) {
  return absl::StrCat("infeasible request=", a.request.ToString(), a.failed ? " failed=true" : "",
                      " reason=", Quoted(a.reason));
}
std::string Text(const Rejected& a) {
  return absl::StrCat("rejected request=", a.request.ToString(), " reason=", Quoted(a.reason));
}
std::string Text(const LeaseLost& a) {
  return absl::StrCat("lost ", Lease(a.request, a.bundle), " node=", a.node.ToString());
}
std::string Text(const Notice& a) {
  return absl::StrCat(
      "notice ", Lease(a.request, a.bundle), " reason=", ToString(a.reason),
      a.deadline ? absl::StrCat(" deadline=", absl::FormatTime(*a.deadline, absl::UTCTimeZone()))
                 : "",
      " why=", Quoted(a.why));
}
std::string Text(const NoticeWithdrawn& a) {
  return absl::StrCat("withdrawn ", Lease(a.request, a.bundle));
}
std::string Text(const NodeEmpty& a) { return absl::StrCat("empty node=", a.node.ToString()); }
std::string Text(const Revoke& a) {
  return absl::StrCat("revoke ", Lease(a.request, a.bundle), " reason=", ToString(a.reason),
                      " why=", Quoted(a.why));
}

}  // namespace

std::string ToString(LeavingReason reason) {
  switch (reason) {
    case LeavingReason::kDraining:
      return "draining";
    case LeavingReason::kUnhealthy:
      return "unhealthy";
    case LeavingReason::kPreempted:
      return "preempted";
    case LeavingReason::kRecalled:
      return "recalled";
    case LeavingReason::kReturnToPreferred:
      return "return_to_preferred";
    case LeavingReason::kGroupEnded:
      return "group_ended";
  }
  return "";
}

std::string ToString(const Event& event) {
  return std::visit([](const auto& what) { return Text(what); }, event.what);
}

std::string ToString(const Action& action) {
  return std::visit([](const auto& what) { return Text(what); }, action);
}

}  // namespace muster::sched
