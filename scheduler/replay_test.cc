#include "scheduler/replay.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/base/chance.h"
namespace muster::sched {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

SpecHandle Spec(const std::string& name, double cpus, int priority = 0) {
  RequestSpec spec{.priority = priority, .name = name};
  spec.choices.push_back({.resources = {.cpus = static_cast<int64_t>(cpus * Amount::kUnit)}});
  return spec;
}

Event Join(double at, uint64_t node, int64_t cpus) {
  return {.at = At(at),
          .what = NodeJoined{.node = {node},
                             .name = absl::StrCat("n", node),
                             .total = {.cpus = cpus * Amount::kUnit}}};
}
Event Ask(double at, uint64_t id, const SpecHandle& spec) {
  return {.at = At(at), .what = Requested{.request = {id}, .spec = spec}};
}
Event Finish(double at, uint64_t id) {
  return {.at = At(at), .what = LeaseFinished{.request = {id}}};
}

Recording Record(std::vector<Event> events) {
  Recording recording;
  recording.start.now = At(0);
  recording.events = std::move(events);
  return recording;
}

TEST(ReplayTest, MeasuresWhatWasRecorded) {
  const SpecHandle spec = Spec("Score", 1);
  const Recording recording =
      Record({Join(0, 1, 2), Ask(0, 1, spec), Ask(0, 2, spec), Ask(0, 3, spec), Finish(10, 1),
              Ask(15, 4, Spec("Big", 9)), Finish(20, 2), Finish(20, 3)});
  const absl::StatusOr<ReplayResult> result = ReplayAsRecorded(recording);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->requests, 4);
  EXPECT_EQ(result->granted, 3);
  EXPECT_EQ(result->waiting, 1);
  EXPECT_EQ(result->lasted, absl::Seconds(20));
  EXPECT_THAT(result->by_choice, ::testing::ElementsAre(3));
  EXPECT_EQ(result->Delay(50), absl::ZeroDuration());
  EXPECT_EQ(result->Delay(99), absl::Seconds(10));
  EXPECT_NEAR(result->cpu_utilisation, 1.0, 0.01);
  EXPECT_EQ(result->gpu_utilisation, 0);
}

// A lease that comes elsewhere or earlier lasts as long as it did.
TEST(ReplayTest, LeasesLastAsRecorded) {
  const SpecHandle low = Spec("Low", 1);
  const Recording recording = Record({Join(0, 1, 1),
                                      Ask(0, 1, low),
                                      Ask(1, 2, low),
                                      Ask(2, 3, low),
                                      Finish(10, 1),
                                      Finish(14, 2),
                                      Finish(20, 3),
                                      {.at = At(30), .what = Tick{}}});
  SchedulerConfig config = recording.start.config;
  config.waiting_requests_max = 1;  // The third is refused, which it was not.
  const absl::StatusOr<ReplayResult> result = ReplayUnder(recording, config);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->granted, 2);
  EXPECT_EQ(result->refused, 1);
  EXPECT_EQ(result->grants.at({2}).at, At(10));
  EXPECT_NEAR(result->cpu_utilisation, 14.0 / 30, 0.01);
  const ReplayMoves moves = CompareGrants(*ReplayAsRecorded(recording), *result);
  EXPECT_EQ(moves.both, 2);
  EXPECT_EQ(moves.elsewhere, 0);
  EXPECT_EQ(moves.only_first, 1);
  EXPECT_EQ(moves.only_second, 0);
}

TEST(ReplayTest, NotGrantedThereLastsAsItsClassDid) {
  const SpecHandle spec = Spec("Score", 1);
  Recording recording = Record({Join(0, 1, 1),
                                Ask(0, 1, spec),
                                Ask(0, 2, spec),
                                Finish(8, 1),
                                Ask(9, 3, spec),
                                Ask(9, 4, spec),
                                {.at = At(40), .what = Tick{}}});
  recording.start.config.waiting_requests_max = 1;  // Number 4 was refused.
  SchedulerConfig config = recording.start.config;
  config.waiting_requests_max = 10;
  const absl::StatusOr<ReplayResult> result = ReplayUnder(recording, config);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->refused, 0);
  EXPECT_EQ(result->grants.at({2}).at, At(8));  // It never ended there, nor does it here.
  EXPECT_EQ(result->waiting, 2);
}

TEST(ReplayTest, OwnersThatGaveUpGiveUp) {
  const SpecHandle spec = Spec("Score", 1);
  const Recording recording = Record({Join(0, 1, 1),
                                      Ask(0, 1, spec),
                                      Ask(0, 2, spec),
                                      {.at = At(5), .what = RequestCancelled{.request = {2}}},
                                      Finish(9, 1)});
  for (const absl::StatusOr<ReplayResult>& result :
       {ReplayAsRecorded(recording), ReplayUnder(recording, recording.start.config)}) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->gave_up, 1);
    EXPECT_EQ(result->granted, 1);
    EXPECT_EQ(result->waiting, 0);
  }
}

TEST(ReplayTest, NothingRecordedIsNothing) {
  const absl::StatusOr<ReplayResult> result = ReplayUnder(Recording{}, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->requests, 0);
  EXPECT_FALSE(result->Delay(50).has_value());
}

// Under the recorded configuration each decision comes out again, at its time; from the beginning
// and from a snapshot in the middle.
class ReplayProperty : public ::testing::TestWithParam<uint64_t> {};

TEST_P(ReplayProperty, TheSameConfigurationGivesTheSameDecisions) {
  Chance chance(GetParam());
  std::vector<SpecHandle> specs;
  for (int i = 0; i < 6; ++i) {
    RequestSpec spec{.priority = chance.OneIn(4) ? 1 : 0, .name = absl::StrCat("S", i)};
    const int choices = 1 + chance.Below(3);
    for (int c = 0; c < choices; ++c) {
      Choice choice{.resources = {.cpus = (1 + chance.Below(3)) * Amount::kUnit / 2,
                                  .gpus = chance.OneIn(3) ? Amount::kUnit : 0}};
      if (c > 0 && chance.OneIn(2)) choice.after = absl::Seconds(1 + chance.Below(5));
      spec.choices.push_back(choice);
    }
    spec.bundles = chance.OneIn(4) ? 2 : 1;
    specs.push_back(spec);
  }
  Scheduler scheduler;
  Recording whole = Record({});
  Recording half;
  std::vector<std::pair<uint64_t, int>> running;
  absl::Time now = At(0);
  uint64_t next_node = 1, next_request = 1;
  std::vector<Action> actions;
  for (int step = 0; step < 300; ++step) {
    if (step == 150) half.start = scheduler.TakeSnapshot();
    Event event{.at = now, .what = Tick{}};
    const uint64_t node = 1 + chance.Next() % next_node;
    switch (chance.Below(10)) {
      case 0: {
        NodeJoined join{.node = {next_node}, .name = absl::StrCat("n", next_node)};
        ++next_node;
        join.total = {.cpus = (1 + chance.Below(4)) * Amount::kUnit,
                      .gpu_devices = chance.Below(3)};
        event.what = join;
        break;
      }
      case 1:
        if (chance.OneIn(3)) event.what = NodeLost{.node = {node}};
        break;
      case 2:
        event.what = NodeReachable{.node = {node}, .reachable = !chance.OneIn(3)};
        break;
      case 3:
      case 4:
      case 5:
        event.what = Requested{.request = {next_request++}, .spec = chance.Of(specs)};
        break;
      case 6:
        event.what = RequestCancelled{.request = {1 + chance.Next() % next_request}};
        break;
      case 7:
      case 8:
        if (!running.empty()) {
          const auto [id, bundle] = chance.Of(running);
          event.what = LeaseFinished{.request = {id}, .bundle = bundle};
        }
        break;
      default:
        if (!running.empty()) {
          const auto [id, bundle] = chance.Of(running);
          event.what = LeaseBlocked{.request = {id}, .bundle = bundle, .blocked = chance.OneIn(2)};
        }
    }
    // The shell is late at times, but never by a second.
    if (chance.OneIn(2)) now += absl::Milliseconds(chance.Below(900));
    if (scheduler.NextTick() + absl::Milliseconds(900) < now) {
      now = scheduler.NextTick() + absl::Milliseconds(chance.Below(900));
      event.what = Tick{};
    }
    event.at = now;
    whole.events.push_back(event);
    if (step >= 150) half.events.push_back(event);
    actions.clear();
    scheduler.Step(event, actions);
    for (const Action& action : actions) {
      const auto* grant = std::get_if<Grant>(&action);
      if (grant == nullptr) continue;
      for (size_t i = 0; i < grant->placements.size(); ++i) {
        running.emplace_back(grant->request.value, static_cast<int>(i));
      }
    }
  }
  for (const Recording* recording : {&whole, &half}) {
    const absl::StatusOr<ReplayResult> recorded = ReplayAsRecorded(*recording);
    ASSERT_TRUE(recorded.ok()) << recorded.status();
    const absl::StatusOr<ReplayResult> played = ReplayUnder(*recording, recording->start.config);
    ASSERT_TRUE(played.ok()) << played.status();
    EXPECT_EQ(played->grants.size(), recorded->grants.size());
    const ReplayMoves moves = CompareGrants(*recorded, *played);
    EXPECT_EQ(moves.elsewhere, 0);
    EXPECT_EQ(moves.earlier + moves.later, 0);
    EXPECT_EQ(moves.only_first + moves.only_second, 0);
    EXPECT_EQ(played->waiting, recorded->waiting);
    EXPECT_EQ(played->gave_up, recorded->gave_up);
    EXPECT_EQ(played->lost, recorded->lost);
    EXPECT_EQ(played->gpu_utilisation, recorded->gpu_utilisation);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReplayProperty, ::testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace muster::sched
