// The last decisions, kept in a ring: which request got what, when and after how long, and what was
// refused, told to leave or lost. For some of them also the nodes that lost, and by what.
//
// Cost: a grant writes one entry and allocates nothing once the ring is full. Detail looks at all
// nodes; `sampled` takes it as often as pays for itself by kNodesPerDecision nodes looked at for
// each decision, so every time on a small cluster, and rarely on a large one.
// Thread-safety: none. The ring is no part of a snapshot: it is history, and decides nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/base/check.h"
#include "scheduler/events.h"
#include "scheduler/ids.h"
#include "scheduler/node.h"
#include "scheduler/packing.h"
#include "scheduler/prefetch.h"

namespace muster::sched {

enum class DecisionDetail { kOff, kSampled, kAll };
// "off", "sampled", "all". Errors: kInvalidArgument.
absl::StatusOr<DecisionDetail> ParseDecisionDetail(absl::string_view text);
std::string ToString(DecisionDetail detail);

enum class DecisionKind : uint8_t { kGranted, kInfeasible, kRejected, kNotice, kRevoked, kLost };
std::string ToString(DecisionKind kind);  // "granted"

// What the policies look at, exactly: GPUs although none are needed; what stays free of the device
// that a share goes to; free GPUs, and how many of them are whole; free CPUs; free memory (best fit
// compares them in this order, the last two in steps); and GPUs in use, for spread; the score, and
// the pressure on the node's kind in 1/1000, of pack.
inline constexpr int kScoreParts = 9;
using ScoreParts = std::array<int64_t, kScoreParts>;

// What a choice that was tried found.
struct TriedChoice {
  int choice = 0;
  int matching = 0;  // Nodes, by labels.
  int too_small = 0;
  int away = 0;  // Draining or unreachable.
  int busy = 0;
  int candidates = 0;  // With room.
};
struct ScoredNode {
  NodeId node{};
  PlacementRank rank{};
  ScoreParts parts{};
};
struct DecisionSurvey {
  static constexpr int kTriedMax = 8;  // The last of them is that of the winner.
  static constexpr int kRunnersUpMax = 3;
  uint64_t decision = 0;
  PlacementPolicy policy = PlacementPolicy::kBestFit;  // By which the winner won.
  int nodes = 0;                                       // There were.
  int tried = 0;
  int runners_up = 0;
  std::array<TriedChoice, kTriedMax> choices{};
  ScoredNode winner{};
  std::array<ScoredNode, kRunnersUpMax> runner_up{};  // Best first.
};

// Two cache lines, written by each grant and read by nobody in a hurry.
struct alignas(64) Decision {
  uint64_t number = 0;  // From 1.
  absl::Time at{};
  absl::Duration waited{};
  RequestId request{};
  uint64_t of = 0;  // The class; 0: not known.
  NodeId node{};    // Of the first bundle.
  int bundle = 0;   // kNotice, kRevoked, kLost.
  int bundles = 1;
  int choice = 0;
  int open = 0;  // How many choices were open.
  DecisionKind kind = DecisionKind::kGranted;
};

class Decisions {
 public:
  static constexpr int kNodesPerDecision = 16;
  static constexpr int kSurveysKept = 256;

  Decisions(int kept, DecisionDetail detail);

  bool on() const { return kept_ > 0; }

  // The entry to fill in, all of it but its number; on() holds.
  Decision& Add() {
    MUSTER_CHECK(on());
    const size_t at = at_;
    at_ = at + 1 == kept_ ? 0 : at + 1;
    if (at == ring_.size()) ring_.emplace_back();
    if (at_ < ring_.size()) PrefetchLines(&ring_[at_], 1);  // The next.
    ring_[at].number = next_++;
    return ring_[at];
  }
  void SetWhy(uint64_t number, std::string why);  // Of one that is not a grant.
  std::string WhyOf(uint64_t number) const;

  bool surveys() const { return detail_ != DecisionDetail::kOff && on(); }
  // Whether the next decision gets a survey of so many nodes. Counts towards the next where not.
  bool WantsSurvey(int64_t nodes);
  DecisionSurvey& AddSurvey();  // Of the next decision, filled in by the caller.
  void DropSurvey();            // The next decision is another one than that.

  // Newest first.
  std::vector<const Decision*> Newest(size_t most) const;
  const Decision* Find(uint64_t number) const;      // Null: it was never made, or is forgotten.
  const Decision* Latest(RequestId request) const;  // About the request; grants come first.
  const DecisionSurvey* SurveyOf(uint64_t number) const;

 private:
  const size_t kept_;
  const DecisionDetail detail_;
  uint64_t next_ = 1;
  size_t at_ = 0;       // Where the next goes.
  int64_t credit_ = 0;  // Nodes that may be looked at.
  std::vector<Decision> ring_;
  absl::btree_map<uint64_t, std::string> whys_;  // By number; some are of forgotten decisions.
  std::vector<DecisionSurvey> surveys_;
  uint64_t surveyed_ = 0;
};

// A decision in words, names looked up.
struct DecisionView {
  Decision decision{};
  std::string why{};     // All but kGranted.
  std::string name{};    // Of the work: "Score". Empty: its class is forgotten.
  std::string needs{};   // "1 CPU, 1 GPU"
  std::string choice{};  // "accelerator-type=L4"
  int choices = 0;       // How many it had.
  std::string node{};
  struct Tried {
    int choice = 0;
    std::string selector{};
    std::string found{};  // "1 of 3 nodes matches: 1 draining"
  };
  struct Loser {
    std::string node{};
    std::string by{};  // "2 more GPUs would stay free there"
  };
  bool surveyed = false;
  std::string policy{};  // "pack"; where it was surveyed.
  std::vector<Tried> tried{};
  std::vector<Loser> losers{};
  int candidates = 0;  // Nodes with room, the winner among them.
};

// One line: "17  12s ago  granted  Score (request 7)  gpu-2  choice 2 of 3  after 41s".
std::string LineOf(const DecisionView& view, absl::Time now);
// All that is known of it, lines ended by "\n".
std::string ToText(const DecisionView& view, absl::Time now);

// Why `loser` lost: in words, by the first part that differs.
std::string LostBy(PlacementPolicy policy, const ScoredNode& winner, const ScoredNode& loser);

}  // namespace muster::sched
