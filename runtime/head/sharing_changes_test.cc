#include "runtime/head/sharing_changes.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace muster::head {
namespace {

v1::SetSharingRequest SetQuota(const std::string& text) {
  v1::SetSharingRequest request;
  request.set_quota(text);
  return request;
}

v1::SetSharingRequest RemoveQuota(const std::string& name) {
  v1::SetSharingRequest request;
  request.set_quota_removed(name);
  return request;
}

v1::SetSharingRequest SetWeight(const std::string& tenant, int64_t weight_milli) {
  v1::SetSharingRequest request;
  request.mutable_weight()->set_tenant(tenant);
  request.mutable_weight()->set_weight_milli(weight_milli);
  return request;
}

class SharingChangesTest : public ::testing::Test {
 protected:
  // What a head says to the request, and whether it changed anything.
  absl::Status Do(SharingChanges& head, const v1::SetSharingRequest& request) {
    const absl::StatusOr<v1::SharingChange> change = head.Read(request, now_);
    if (!change.ok()) return change.status();
    const auto event = head.Take(*change);
    if (!event.ok()) return event.status();
    return event->has_value() ? absl::OkStatus() : absl::AlreadyExistsError("known");
  }

  // All that `from` knows, as a worker would bring it.
  static int Bring(const v1::SharingChanges& from, SharingChanges& to) {
    int taken = 0;
    for (const v1::SharingChange& change : from.changes()) {
      const auto event = to.Take(change);
      taken += event.ok() && event->has_value();
    }
    return taken;
  }

  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(SharingChangesTest, WhatIsWrongIsNamedAndChangesNothing) {
  SharingChanges head({}, {}, {});
  struct {
    v1::SetSharingRequest request;
    absl::StatusCode code;
    std::string said;
  } const cases[] = {
      {{}, absl::StatusCode::kInvalidArgument, "nothing is asked"},
      {SetQuota("h100"), absl::StatusCode::kInvalidArgument, "quota \"h100\""},
      {SetQuota("h100:gpus=-1"), absl::StatusCode::kInvalidArgument, "gpus"},
      {SetQuota(":gpus=1"), absl::StatusCode::kInvalidArgument, "needs a name"},
      {SetQuota("q:gpus=1,zone=" + std::string(5000, 'a')), absl::StatusCode::kInvalidArgument,
       "the quota has 5014 bytes; allowed: at most 4096"},
      {RemoveQuota("x"), absl::StatusCode::kNotFound, "there is no quota \"x\""},
      {RemoveQuota(""), absl::StatusCode::kInvalidArgument, "name, which is missing"},
      {RemoveQuota("a b"), absl::StatusCode::kInvalidArgument, "a b"},
      {SetWeight("a", 0), absl::StatusCode::kInvalidArgument,
       "tenant a: a weight of 0; allowed: 0.001 to 1000000"},
      {SetWeight("a", sched::kWeightMax + 1), absl::StatusCode::kInvalidArgument,
       "a weight of 1000000.001"},
      {SetWeight("a", -2000), absl::StatusCode::kInvalidArgument, "a weight of -2"},
      {SetWeight("", 2000), absl::StatusCode::kInvalidArgument, "a weight needs a tenant"},
      {SetWeight("a b", 2000), absl::StatusCode::kInvalidArgument, "tenant: \"a b\""},
  };
  for (const auto& wrong : cases) {
    const absl::Status status = Do(head, wrong.request);
    EXPECT_EQ(status.code(), wrong.code) << wrong.request.ShortDebugString();
    EXPECT_NE(status.message().find(wrong.said), std::string::npos) << status;
  }
  EXPECT_EQ(head.Kept().changes_size(), 0);
}

TEST_F(SharingChangesTest, RunTimeLiesOverFlagsByName) {
  const std::vector<sched::Quota> flags = {*sched::ParseQuota("a:gpus=1"),
                                           *sched::ParseQuota("b:gpus=1")};
  SharingChanges head({}, flags, {});
  ASSERT_TRUE(Do(head, RemoveQuota("a")).ok());
  ASSERT_TRUE(Do(head, SetQuota("b:gpus=2")).ok());
  ASSERT_TRUE(Do(head, SetQuota("c:gpus=3")).ok());
  EXPECT_EQ(head.QuotasInForce(), (std::set<std::string>{"b", "c"}));
  EXPECT_EQ(Do(head, RemoveQuota("a")).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(head.QuotaSetAtRunTime("b"));
  EXPECT_FALSE(head.QuotaSetAtRunTime("a"));

  SharingChanges again({}, flags, {});  // Started with the same flags.
  EXPECT_FALSE(again.QuotaSetAtRunTime("b"));
  EXPECT_EQ(Bring(head.Kept(), again), 3);
  EXPECT_EQ(again.QuotasInForce(), head.QuotasInForce());
  EXPECT_EQ(again.Kept().SerializeAsString(), head.Kept().SerializeAsString());
  EXPECT_EQ(Bring(head.Kept(), again), 0);  // Said again, it changes nothing.
}

TEST_F(SharingChangesTest, TheLaterOfTwoChangesHoldsInWhateverOrderTheyComeBack) {
  SharingChanges head({}, {}, {});
  ASSERT_TRUE(Do(head, SetQuota("q:gpus=1")).ok());
  ASSERT_TRUE(Do(head, SetWeight("t", 2000)).ok());
  const v1::SharingChanges missed_the_rest = head.Kept();
  ASSERT_TRUE(Do(head, SetWeight("t", 3000)).ok());  // At the same time: stamps differ even so.
  ASSERT_TRUE(Do(head, RemoveQuota("q")).ok());
  for (const bool old_first : {false, true}) {
    SharingChanges again({}, {}, {});
    if (old_first) Bring(missed_the_rest, again);
    Bring(head.Kept(), again);
    if (!old_first) {
      EXPECT_EQ(Bring(missed_the_rest, again), 0);
    }
    EXPECT_EQ(again.Kept().SerializeAsString(), head.Kept().SerializeAsString()) << old_first;
    EXPECT_TRUE(again.QuotasInForce().empty());
  }
}

TEST_F(SharingChangesTest, WhatANewHeadIsToldIsLaterThanWhatWorkersKept) {
  SharingChanges head({}, {}, {});
  ASSERT_TRUE(Do(head, SetQuota("q:gpus=1")).ok());
  SharingChanges again({}, {}, {});  // No worker has come back to it yet.
  now_ += absl::Seconds(1);
  ASSERT_TRUE(Do(again, SetQuota("q:gpus=2")).ok());
  EXPECT_EQ(Bring(head.Kept(), again), 0);
  ASSERT_EQ(again.Kept().changes_size(), 1);
  EXPECT_EQ(again.Kept().changes(0).quota(), "q:gpus=2");
}

TEST_F(SharingChangesTest, WhatWorkersKeptIsNotTrusted) {
  SharingChanges head({}, {}, {});
  v1::SharingChange change;
  change.set_quota("q:gpus=1");
  EXPECT_EQ(head.Take(change).status().code(), absl::StatusCode::kInvalidArgument);  // No stamp.
  change.set_stamp(~uint64_t{0});
  EXPECT_EQ(head.Take(change).status().code(), absl::StatusCode::kInvalidArgument);
  change.set_stamp(5);
  change.set_quota("q:gpus=x");
  EXPECT_EQ(head.Take(change).status().code(), absl::StatusCode::kInvalidArgument);
  change.mutable_weight()->set_tenant("t");
  EXPECT_EQ(head.Take(change).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(head.Kept().changes_size(), 0);
  // The last stamp there is: then nothing can be set any more, which is said.
  change.set_quota("q:gpus=1");
  change.set_stamp(uint64_t{7'258'118'400} * 1'000'000'000);
  EXPECT_TRUE(head.Take(change).ok());
  EXPECT_EQ(Do(head, SetQuota("r:gpus=1")).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SharingChangesTest, QuotasAndWeightsHaveABound) {
  SharingChanges head({{"t0", 2000}}, {*sched::ParseQuota("q0:gpus=1")},
                      {.quotas_max = 2, .weights_max = 2});
  EXPECT_TRUE(Do(head, SetQuota("q1:gpus=1")).ok());
  const absl::Status full = Do(head, SetQuota("q2:gpus=1"));
  EXPECT_EQ(full, absl::ResourceExhaustedError("quota q2: there are 2 quotas already, which is the "
                                               "most allowed; remove one of them"));
  EXPECT_TRUE(Do(head, SetQuota("q0:gpus=9")).ok());  // Not one more.
  EXPECT_TRUE(Do(head, RemoveQuota("q0")).ok());
  EXPECT_TRUE(Do(head, SetQuota("a2:gpus=1")).ok());

  EXPECT_TRUE(Do(head, SetWeight("t1", 5)).ok());
  EXPECT_EQ(Do(head, SetWeight("t2", 5)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Do(head, SetWeight("t2", 1000)).ok());  // As everybody's.
  EXPECT_TRUE(Do(head, SetWeight("t0", 1000)).ok());
  EXPECT_TRUE(Do(head, SetWeight("t2", 5)).ok());

  // All of it comes back, though in between there would be one too many by name.
  SharingChanges again({{"t0", 2000}}, {*sched::ParseQuota("q0:gpus=1")},
                       {.quotas_max = 2, .weights_max = 2});
  EXPECT_EQ(Bring(head.Kept(), again), head.Kept().changes_size());
  EXPECT_EQ(again.QuotasInForce(), (std::set<std::string>{"a2", "q1"}));
}

TEST_F(SharingChangesTest, WhatWasRemovedIsForgottenInTime) {
  SharingChanges head({}, {*sched::ParseQuota("flag:gpus=1")}, {.undone_kept = 3});
  ASSERT_TRUE(Do(head, RemoveQuota("flag")).ok());
  for (int i = 0; i < 10; ++i) {
    const std::string name = absl::StrCat("q", i);
    ASSERT_TRUE(Do(head, SetQuota(name + ":gpus=1")).ok());
    ASSERT_TRUE(Do(head, RemoveQuota(name)).ok());
  }
  std::set<std::string> kept;
  for (const v1::SharingChange& change : head.Kept().changes()) kept.insert(change.quota_removed());
  EXPECT_EQ(kept, (std::set<std::string>{"flag", "q7", "q8", "q9"}));
}

}  // namespace
}  // namespace muster::head
