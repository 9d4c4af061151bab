// Quotas and weights that are changed while the cluster runs: what the head's core makes of it, and
// what is left of it in a head that has forgotten.
#include <map>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/head/head_core.h"

namespace muster::head {
namespace {

constexpr int64_t kUnit = 10000;

// A head with its workers, which keep what it tells them, and one driver of the tenant "a".
class HeadSharingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.address = "here";
    StartHead();
  }

  void StartHead() {
    config_.head += 1;
    config_.start = now_;
    head_ = std::make_unique<HeadCore>(config_);
  }

  template <typename What>
  void Step(What what) {
    now_ += absl::Milliseconds(1);
    std::vector<Action> actions;
    head_->Step({now_, std::move(what)}, actions);
    head_->CheckInvariants();
    for (const Action& action : actions) {
      if (const auto* to = std::get_if<ToWorker>(&action)) {
        if (to->message.has_sharing()) kept_[to->connection] = to->message.sharing();
        if (to->message.has_start()) ++started_;
      } else if (const auto* say = std::get_if<Say>(&action)) {
        if (say->warning) absl::StrAppend(&warnings_, say->text, "\n");
      }
    }
  }

  // A worker of two CPUs, by its number; it brings what it was told to keep.
  void Join(uint64_t number) {
    FromWorker from{number, {}};
    v1::WorkerHello& hello = *from.message.mutable_hello();
    hello.set_worker(number);
    hello.set_name(absl::StrCat("n", number));
    hello.mutable_resources()->set_cpus(2 * kUnit);
    *hello.mutable_sharing() = kept_[number];
    Step(from);
  }

  // Asks for `tasks` leases of a CPU each.
  void Ask(int tasks) {
    FromDriver from{100, {}};
    from.message.mutable_hello()->set_driver(7);
    from.message.mutable_hello()->set_tenant("a");
    Step(from);
    for (int i = 0; i < tasks; ++i) {
      FromDriver asks{100, {}};
      v1::LeaseRequest& request = *asks.message.mutable_request();
      request.set_request(++requests_);
      request.set_task_class(1);
      request.mutable_spec()->set_bundles(1);
      request.mutable_spec()->add_choices()->mutable_resources()->set_cpus(kUnit);
      Step(asks);
    }
  }

  absl::Status Set(const v1::SetSharingRequest& request) {
    absl::Status status = head_->CheckSharing(request);
    Step(SharingControl{request});  // The core does not rely on having been asked.
    return status;
  }
  absl::Status SetQuota(const std::string& text) {
    v1::SetSharingRequest request;
    request.set_quota(text);
    return Set(request);
  }
  absl::Status RemoveQuota(const std::string& name) {
    v1::SetSharingRequest request;
    request.set_quota_removed(name);
    return Set(request);
  }
  absl::Status SetWeight(const std::string& tenant, int64_t weight_milli) {
    v1::SetSharingRequest request;
    request.mutable_weight()->set_tenant(tenant);
    request.mutable_weight()->set_weight_milli(weight_milli);
    return Set(request);
  }

  // "few 1/2 cpus run time; t 3": every quota with its use and limit, every weight that is not 1.
  std::string Sharing() {
    std::string text;
    const v1::StatusReply status = head_->Status(now_);
    for (const v1::QuotaStatus& quota : status.quotas()) {
      absl::StrAppend(&text, text.empty() ? "" : "; ", quota.name());
      for (const v1::QuotaStatus::Limit& limit : quota.limits()) {
        absl::StrAppend(&text, " ", limit.used() / kUnit, "/", limit.limit() / kUnit, " ",
                        limit.resource());
      }
      absl::StrAppend(&text, quota.set_at_run_time() ? " run time" : "");
    }
    for (const v1::TenantStatus& tenant : status.tenants()) {
      if (tenant.weight_milli() == 1000) continue;
      absl::StrAppend(&text, text.empty() ? "" : "; ", tenant.name(), " ",
                      sched::WeightToText(tenant.weight_milli()));
    }
    return text;
  }

  HeadConfig config_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  std::unique_ptr<HeadCore> head_;
  std::map<uint64_t, v1::SharingChanges> kept_;  // By worker.
  int started_ = 0;
  uint64_t requests_ = 0;
  std::string warnings_;
};

TEST_F(HeadSharingTest, AQuotaKeepsBackAndItsRemovalLetsGo) {
  Join(1);
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=1").ok());
  Ask(2);
  EXPECT_EQ(started_, 1);
  EXPECT_EQ(Sharing(), "few 1/1 cpus run time");
  const v1::StatusReply status = head_->Status(now_);
  ASSERT_EQ(status.waiting_size(), 1);
  EXPECT_TRUE(absl::StrContains(status.waiting(0).why(), "quota few")) << status.waiting(0).why();
  ASSERT_TRUE(RemoveQuota("few").ok());
  EXPECT_EQ(started_, 2);
  EXPECT_EQ(Sharing(), "");
}

TEST_F(HeadSharingTest, AWiderQuotaOfTheSameNameReplacesIt) {
  config_.quotas = {*sched::ParseQuota("few:tenant=a,cpus=1")};
  StartHead();
  Join(1);
  Ask(3);
  EXPECT_EQ(started_, 1);
  EXPECT_EQ(Sharing(), "few 1/1 cpus");
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=2").ok());
  EXPECT_EQ(started_, 2);
  EXPECT_EQ(Sharing(), "few 2/2 cpus run time");
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=1").ok());  // What is held stays, even above it.
  EXPECT_EQ(Sharing(), "few 2/1 cpus run time");
}

TEST_F(HeadSharingTest, WhatIsWrongChangesNothing) {
  Join(1);
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=1").ok());
  const std::string before = Sharing();
  const std::string kept = kept_[1].SerializeAsString();
  EXPECT_EQ(SetQuota("few:tenant=a").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RemoveQuota("none").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(SetWeight("a", 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Set({}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Sharing(), before);
  EXPECT_EQ(kept_[1].SerializeAsString(), kept);
}

TEST_F(HeadSharingTest, TheBoundIsTheHeads) {
  config_.sharing_limits.quotas_max = 1;
  StartHead();
  ASSERT_TRUE(SetQuota("a:cpus=1").ok());
  EXPECT_EQ(SetQuota("b:cpus=1").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Sharing(), "a 0/1 cpus run time");
}

TEST_F(HeadSharingTest, ANewHeadHearsOfItFromItsFirstWorkerBeforeAnythingIsPlaced) {
  config_.quotas = {*sched::ParseQuota("flag:cpus=100"), *sched::ParseQuota("gone:cpus=0")};
  config_.tenants = {{"b", 2000}};
  StartHead();
  Join(1);
  Join(2);
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=1").ok());
  ASSERT_TRUE(SetQuota("flag:cpus=3").ok());
  ASSERT_TRUE(RemoveQuota("gone").ok());
  ASSERT_TRUE(SetWeight("a", 3000).ok());
  ASSERT_TRUE(SetWeight("b", 1000).ok());
  const std::string before = Sharing();
  EXPECT_EQ(before, "few 0/1 cpus run time; flag 0/3 cpus run time; a 3");

  StartHead();
  EXPECT_EQ(Sharing(), "flag 0/100 cpus; gone 0/0 cpus; b 2");  // Nobody has told it yet.
  Ask(2);
  Join(2);
  EXPECT_EQ(started_, 1);
  Join(1);
  EXPECT_EQ(started_, 1);
  EXPECT_EQ(Sharing(), "few 1/1 cpus run time; flag 1/3 cpus run time; a 3");
  EXPECT_EQ(warnings_, "");
}

TEST_F(HeadSharingTest, AWorkerThatWasAwayIsToldAndDoesNotBringTheOldBack) {
  Join(1);
  Join(2);
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=1").ok());
  Step(WorkerClosed{2});
  ASSERT_TRUE(SetQuota("few:tenant=a,cpus=2").ok());
  EXPECT_NE(kept_[1].SerializeAsString(), kept_[2].SerializeAsString());
  const v1::SharingChanges old = kept_[2];
  Join(2);
  EXPECT_EQ(Sharing(), "few 0/2 cpus run time");
  EXPECT_EQ(kept_[1].SerializeAsString(), kept_[2].SerializeAsString());

  kept_[2] = old;  // It had missed it, and comes first to the next head.
  StartHead();
  Join(2);
  EXPECT_EQ(Sharing(), "few 0/1 cpus run time");
  Join(1);
  EXPECT_EQ(Sharing(), "few 0/2 cpus run time");
  EXPECT_EQ(kept_[1].SerializeAsString(), kept_[2].SerializeAsString());  // And is told.
}

TEST_F(HeadSharingTest, AWorkerThatIsRefusedBringsNothing) {
  kept_[0].add_changes()->set_quota("few:cpus=1");
  kept_[0].mutable_changes(0)->set_stamp(1);
  Join(0);  // No id.
  EXPECT_EQ(Sharing(), "");
}

TEST_F(HeadSharingTest, WhatAWorkerKeptWrongIsSaidAndTheRestTaken) {
  v1::SharingChange& wrong = *kept_[1].add_changes();
  wrong.set_stamp(1);
  wrong.set_quota("few");
  v1::SharingChange& right = *kept_[1].add_changes();
  right.set_stamp(2);
  right.set_quota("some:cpus=1");
  Join(1);
  EXPECT_EQ(Sharing(), "some 0/1 cpus run time");
  EXPECT_TRUE(absl::StrContains(warnings_, "node n1 kept what cannot be: quota \"few\""))
      << warnings_;
  EXPECT_EQ(kept_[1].changes_size(), 1);  // It is told what holds.
}

TEST_F(HeadSharingTest, TheAnswerSaysWhatIsTrueAfterIt) {
  v1::SetSharingRequest request;
  request.set_quota("few:tenant=a,cpus=1");
  ASSERT_TRUE(Set(request).ok());
  EXPECT_EQ(head_->SharingAfter(request).keepers(), 0u);  // Lost with this head.
  Join(1);
  EXPECT_EQ(kept_[1].changes_size(), 1);  // Not any more.
  const v1::SetSharingReply reply = head_->SharingAfter(request);
  EXPECT_EQ(reply.keepers(), 1u);
  EXPECT_EQ(reply.quota().name(), "few");
  EXPECT_EQ(reply.quota().tenant(), "a");
  v1::SetSharingRequest weight;
  weight.mutable_weight()->set_tenant("x");
  weight.mutable_weight()->set_weight_milli(1000);
  ASSERT_TRUE(Set(weight).ok());
  EXPECT_EQ(head_->SharingAfter(weight).tenant().weight_milli(), 1000);
  weight.mutable_weight()->set_weight_milli(2500);
  ASSERT_TRUE(Set(weight).ok());
  EXPECT_EQ(head_->SharingAfter(weight).tenant().weight_milli(), 2500);
}

}  // namespace
}  // namespace muster::head
