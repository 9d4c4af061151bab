#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/cli/whatif_answer.h"
#include "runtime/cli/whatif_question.h"
#include "scheduler/scheduler.h"

namespace muster::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kUnit = sched::Amount::kUnit;

template <typename T>
std::string MessageOf(const absl::StatusOr<T>& value) {
  return std::string(value.status().message());
}

// One L4 node that is busy, with one request that waits.
sched::Snapshot Busy() {
  sched::Scheduler scheduler;
  std::vector<sched::Action> actions;
  const auto step = [&](int at, decltype(sched::Event::what) what) {
    scheduler.Step({.at = absl::UnixEpoch() + absl::Seconds(at), .what = std::move(what)}, actions);
  };
  step(0,
       sched::NodeJoined{.node = {1},
                         .name = "old",
                         .labels = {{"ray.io/accelerator-type", "L4"}},
                         .total = {.cpus = 4 * kUnit, .gpu_devices = 1, .memory_bytes = 1 << 30}});
  sched::RequestSpec spec{.name = "Score"};
  spec.choices.push_back({.resources = {.cpus = kUnit, .gpus = kUnit}});
  const sched::SpecHandle handle = spec;
  step(0, sched::Requested{.request = {1}, .spec = handle});
  step(10, sched::LeaseFinished{.request = {1}});
  step(10, sched::Requested{.request = {2}, .spec = handle});
  step(12, sched::Requested{.request = {3}, .spec = handle});
  return scheduler.TakeSnapshot();
}

TEST(WhatIfQuestionTest, RequestsAreReadAsEverywhere) {
  const absl::StatusOr<sched::RequestSpec> spec = MakeSpec(
      {.resources = "gpus=1,cpus=0.5, memory=8GiB,resource.license=2",
       .selector = "zone=in(a,b),!c",
       .fallbacks = {"{\"zone\": \"in(c, d)\"} gpus=2 after=2m advance_on=busy", "any", "after=1s"},
       .bundles = 3,
       .priority = 4});
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->choices.size(), 4u);
  EXPECT_EQ(spec->choices[0].resources.cpus, kUnit / 2);
  EXPECT_EQ(spec->choices[0].resources.custom.at("license"), 2 * kUnit);
  EXPECT_EQ(spec->choices[1].selector.ToString(), "zone=in(c,d)");
  EXPECT_EQ(spec->choices[1].resources.gpus, 2 * kUnit);
  EXPECT_EQ(spec->choices[1].resources.cpus, kUnit / 2);
  EXPECT_EQ(spec->choices[1].after, absl::Minutes(2));
  EXPECT_EQ(spec->choices[1].advance_on, 8);
  EXPECT_TRUE(spec->choices[2].selector.empty());
  EXPECT_EQ(spec->choices[3].after, absl::Seconds(1));
  EXPECT_EQ(spec->bundles, 3);
  EXPECT_EQ(spec->priority, 4);
  EXPECT_EQ(MakeSpec({})->choices[0].resources.cpus, kUnit);
  EXPECT_TRUE(MakeSpec({.spec = "{\"fail_if_infeasible\": true}"})->fail_if_infeasible);
}

TEST(WhatIfQuestionTest, NonsenseIsNamed) {
  EXPECT_THAT(MessageOf(MakeSpec({.resources = "gpu=1"})),
              AllOf(StartsWith("--request: \"gpu=1\""), HasSubstr("gpus=")));
  EXPECT_THAT(MessageOf(MakeSpec({.resources = "gpus=1.5"})), StartsWith("--request: "));
  EXPECT_THAT(MessageOf(MakeSpec({.resources = "gpus"})), StartsWith("--request: \"gpus\""));
  EXPECT_THAT(MessageOf(MakeSpec({.selector = "zone=in("})), StartsWith("--label-selector: "));
  EXPECT_THAT(MessageOf(MakeSpec({.fallbacks = {"any zone=a"}})),
              StartsWith("--fallback: \"zone=a\""));
  EXPECT_THAT(MessageOf(MakeSpec({.fallbacks = {"any after=soon"}})), HasSubstr("after"));
  EXPECT_THAT(MessageOf(MakeSpec({.spec = "{\"prio\": 1}"})), StartsWith("--spec: prio: "));
  EXPECT_THAT(MessageOf(MakeSpec({.spec = "{"})), StartsWith("--spec: no JSON"));
}

TEST(WhatIfQuestionTest, NodeIsTheOnlyOneOrTheFirst) {
  EXPECT_TRUE(MakeSpec({.node = "n1"})->affinity.hard());
  EXPECT_EQ(MakeSpec({.node = "n1", .soft = true})->affinity,
            (sched::NodeAffinity{.node = "n1", .soft = true}));
  EXPECT_EQ(MessageOf(MakeSpec({.soft = true})), "--soft: goes with --node");
  const sched::Snapshot busy = Busy();
  EXPECT_THAT(AnswerText(*Answer(busy, *MakeSpec({.node = "gone"}), {}, {})),
              HasSubstr("never: needs 1 CPU, on node gone; 1 node; node gone is not there"));
  EXPECT_THAT(
      AnswerText(*Answer(busy, *MakeSpec({.node = "gone", .soft = true}), {}, {})),
      AllOf(HasSubstr("1 CPU on any node, rather gone, could start"), HasSubstr("now on old")));
  EXPECT_THAT(AnswerText(*Answer(busy, *MakeSpec({.node = "old"}), {}, {})),
              HasSubstr("1 CPU on any node, no other than old, could start"));
}

TEST(WhatIfQuestionTest, AddedNodesHaveWhatIsLeftOutFromTheMostAlike) {
  const sched::Snapshot busy = Busy();
  const absl::StatusOr<std::vector<sched::NodeJoined>> nodes =
      NodesToAdd({"count=2,gpus=1", "name=big,cpus=8,gpus=8,zone=a"}, busy);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  ASSERT_EQ(nodes->size(), 3u);
  EXPECT_EQ((*nodes)[0].name, "new-1");
  EXPECT_EQ((*nodes)[0].node, NodeId{2});
  EXPECT_EQ((*nodes)[0].total.cpus, 4 * kUnit);
  EXPECT_EQ((*nodes)[0].total.memory_bytes, 1 << 30);
  EXPECT_EQ((*nodes)[2].name, "big");
  EXPECT_EQ((*nodes)[2].labels.at("ray.io/node-id"), "big");
  EXPECT_EQ(ToText(*nodes),
            "new-1, new-2: 4 CPUs, 1 GPU, 1 GiB memory; big: 8 CPUs, 8 GPUs, 1 GiB memory, zone=a");
  EXPECT_THAT(MessageOf(NodesToAdd({"name=old,gpus=1"}, busy)), HasSubstr("a node old already"));
  EXPECT_THAT(MessageOf(NodesToAdd({"gpus=x"}, busy)), StartsWith("--add-node: "));
  EXPECT_THAT(MessageOf(NodesToAdd({"gpus=1"}, {})), HasSubstr("cpus= must be given"));
  EXPECT_THAT(MessageOf(NodesToRemove({"new"}, busy)), "there is no node new");
  EXPECT_EQ((*NodesToRemove({"old"}, busy))[0], NodeId{1});
}

TEST(WhatIfQuestionTest, TasksAreFoundByPrefixOrNumber) {
  snapshot::SnapshotFile file{.snapshot = Busy()};
  file.tasks = {{.task = "4f2a", .request = {3}}, {.task = "4f99", .request = {2}}};
  EXPECT_EQ(*FindRequest("4F2", file), RequestId{3});
  EXPECT_EQ(*FindRequest("2", file), RequestId{2});
  EXPECT_THAT(MessageOf(FindRequest("4f", file)), HasSubstr("several"));
  EXPECT_THAT(MessageOf(FindRequest("77", file)), HasSubstr("77"));
}

TEST(WhatIfAnswerTest, WithAndWithoutTheChange) {
  const sched::Snapshot busy = Busy();
  const sched::RequestSpec spec = *MakeSpec({.resources = "gpus=1"});
  const WhatIfChange change{.add =
                                *NodesToAdd({"count=2,gpus=1,ray.io/accelerator-type=L4"}, busy)};
  const absl::StatusOr<WhatIfAnswer> answer = Answer(busy, spec, RequestId{}, change);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const std::string text = AnswerText(*answer);
  EXPECT_THAT(text, StartsWith("A request for 1 CPU, 1 GPU on any node, could start\n"
                               "  as it is: in about 18s on old, choice 1 (any node), GPU 0, when "
                               "request 3 (Score) on old is expected to end (2 ends are guessed "
                               "from earlier leases)\n"));
  EXPECT_THAT(text, HasSubstr("  with new-1, new-2: 4 CPUs, 1 GPU, 1 GiB memory, "
                              "accelerator-type=L4: now on new-2, choice 1 (any node), GPU 0\n"));
  const std::string json = AnswerJson(*answer);
  EXPECT_THAT(json, AllOf(HasSubstr("\"in_s\": 18"), HasSubstr("\"in_s\": 0")));
}

TEST(WhatIfAnswerTest, WhyNotNowAndWhoLost) {
  const sched::Snapshot busy = Busy();
  EXPECT_THAT(
      AnswerText(*Answer(busy, *MakeSpec({.resources = "gpus=2"}), {}, {})),
      AllOf(HasSubstr("as it is: never: needs 2 GPUs; 1 node"), HasSubstr("    1. any node: ")));
  const WhatIfChange change{.add = *NodesToAdd({"gpus=0,cpus=2", "gpus=0,cpus=9"}, busy)};
  EXPECT_THAT(AnswerText(*Answer(busy, *MakeSpec({}), {}, change)),
              AllOf(HasSubstr("now on new-1"), HasSubstr("new-2 lost: 7 more CPUs"),
                    HasSubstr("old lost: it has GPUs, and the work needs none")));
  const WhatIfChange gone{.remove = {NodeId{1}}};
  EXPECT_THAT(AnswerText(*Answer(busy, *MakeSpec({}), {}, gone)),
              AllOf(HasSubstr("without old: never: "), HasSubstr("would end 1 lease that runs")));
}

TEST(WhatIfAnswerTest, AllThatWaitsByClass) {
  const sched::Snapshot busy = Busy();
  const absl::StatusOr<WhatIfTable> as_it_is = AnswerAll(busy, {});
  ASSERT_TRUE(as_it_is.ok()) << as_it_is.status();
  EXPECT_EQ(TableText(*as_it_is),
            "WAITING  WHAT   NEEDS         CHOICES  COULD START\n"
            "1        Score  1 CPU, 1 GPU  any      1 within 8s\n");
  const WhatIfChange change{.add = *NodesToAdd({"gpus=1"}, busy)};
  EXPECT_THAT(TableText(*AnswerAll(busy, change)), HasSubstr("1 within 8s  1 now"));
  EXPECT_THAT(TableJson(*AnswerAll(busy, change)), HasSubstr("\"now\": 1"));
  EXPECT_EQ(TableText(*AnswerAll({}, {})), "Nothing waits.\n");
}

}  // namespace
}  // namespace muster::cli
