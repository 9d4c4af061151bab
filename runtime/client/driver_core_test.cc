#include "runtime/client/driver_core.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"

namespace muster::client {
namespace {

// A driver that is welcome at the head, and what it has done.
class DriverCoreTest : public ::testing::Test {
 protected:
  DriverCoreTest() {
    DriverConfig config;
    config.driver = 7;
    config.start = now_;
    core_ = std::make_unique<DriverCore>(config);
    v1::RequestSpec spec;
    spec.add_choices()->mutable_resources()->set_cpus(10000);
    spec.set_bundles(1);
    class_ = core_->AddClass(spec);
    Do(HeadUp{});
    v1::ToDriver welcome;
    welcome.mutable_welcome()->set_head(1);
    Do(FromHead{welcome});
  }

  template <typename What>
  void Do(What what) {
    Event event;
    event.at = now_;
    event.what = std::move(what);
    actions_.clear();
    core_->Step(std::move(event), actions_);
    core_->CheckInvariants();
    for (const Action& action : actions_) {
      if (const auto* to = std::get_if<ToHead>(&action)) {
        if (to->message.has_request()) {
          requests_.push_back(to->message.request().request());
          last_request_ = to->message.request();
          const auto& avoid = to->message.request().spec().avoid();
          avoided_.assign(avoid.begin(), avoid.end());
          affinity_ = to->message.request().spec().affinity().node();
        }
      } else if (const auto* done = std::get_if<Complete>(&action)) {
        completed_.push_back(absl::StrCat(*static_cast<const TaskNumber*>(done->cookie.get()), " ",
                                          done->status.ToString()));
      } else if (const auto* sent = std::get_if<ToExecutor>(&action)) {
        for (const v1::PushTask& task : sent->message.push().tasks()) {
          pushed_.push_back(task.sequence());
        }
        if (sent->message.has_cancel()) aborted_.push_back(sent->lease);
      }
    }
  }
  void SubmitTask(TaskNumber number, std::vector<TaskNumber> producers = {},
                  absl::Duration timeout = absl::InfiniteDuration()) {
    Submit submit;
    submit.task = number;
    submit.task_class = class_;
    submit.call.name = "f";
    submit.timeout = timeout;
    submit.cookie = std::make_shared<TaskNumber>(number);
    for (TaskNumber producer : producers) {
      ArgumentSlot slot;
      slot.producer = producer;
      submit.call.arguments.push_back(std::move(slot));
    }
    Do(std::move(submit));
  }
  void Grant(uint64_t request, uint32_t bundle = 0) {
    v1::ToDriver message;
    message.mutable_granted()->mutable_lease()->set_driver(7);
    message.mutable_granted()->mutable_lease()->set_request(request);
    message.mutable_granted()->mutable_lease()->set_bundle(bundle);
    message.mutable_granted()->set_node("n1");
    Do(FromHead{message});
  }
  void EndLease(uint64_t request, uint32_t bundle, v1::LeaseEnd end) {
    v1::ToDriver message;
    message.mutable_lease_ended()->mutable_lease()->set_driver(7);
    message.mutable_lease_ended()->mutable_lease()->set_request(request);
    message.mutable_lease_ended()->mutable_lease()->set_bundle(bundle);
    message.mutable_lease_ended()->set_end(end);
    message.mutable_lease_ended()->set_message("killed by signal 9 (killed)");
    Do(FromHead{message});
  }
  void Result(LeaseNumber lease, TaskNumber task, absl::Duration ran = absl::Milliseconds(1)) {
    v1::FromExecutor message;
    v1::TaskResult& result = *message.mutable_results()->add_results();
    result.set_sequence(task);
    result.set_run_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(ran)));
    result.set_value("v");
    Do(FromExecutor{lease, message});
  }

  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  std::unique_ptr<DriverCore> core_;
  ClassNumber class_ = 0;
  std::vector<Action> actions_;  // Of the last event.
  std::vector<uint64_t> requests_;
  std::vector<std::string> avoided_;  // By the last request.
  std::string affinity_;              // Of the last request.
  std::vector<TaskNumber> pushed_;
  std::vector<std::string> completed_;
  v1::LeaseRequest last_request_;
  std::vector<LeaseNumber> aborted_;
};

// A group of two ranks, which runs on leases 1 and 2.
class LeavingTest : public DriverCoreTest {
 protected:
  LeavingTest() {
    SubmitGroup submit;
    submit.task = 1;
    submit.spec.add_choices();
    submit.spec.set_bundles(2);
    submit.spec.mutable_return_to_preferred()->set_moves(2);
    submit.call.name = "train";
    submit.cookie = std::make_shared<TaskNumber>(1);
    Do(std::move(submit));
    Grant(1, 0);
    Grant(1, 1);
  }
  void Tell(uint32_t bundle, uint64_t kept_for) {
    v1::ToDriver message;
    message.mutable_draining()->mutable_lease()->set_driver(7);
    message.mutable_draining()->mutable_lease()->set_request(1);
    message.mutable_draining()->mutable_lease()->set_bundle(bundle);
    message.mutable_draining()->set_kept_for(kept_for);
    Do(FromHead{message});
  }
  void Leave(LeaseNumber lease, TaskNumber task) {
    v1::FromExecutor message;
    message.mutable_results()->add_results()->set_sequence(task);
    message.mutable_results()->mutable_results(0)->set_left(true);
    Do(FromExecutor{lease, message});
  }
};

TEST_F(LeavingTest, GroupReturnsOnceAllRanksHaveLeft) {
  Tell(0, 99);
  Tell(1, 99);
  Leave(1, 1);
  EXPECT_TRUE(aborted_.empty());  // The other may save yet.
  EXPECT_EQ(requests_.size(), 1u);
  Leave(2, 1);
  ASSERT_EQ(requests_, (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(last_request_.instead_of(), 99u);
  EXPECT_EQ(last_request_.spec().return_to_preferred().moves(), 1u);
  EXPECT_TRUE(completed_.empty());  // And no restart was needed: there was none.
}

TEST_F(LeavingTest, RequestSaidAgainNamesNothingThatIsKept) {
  Tell(0, 99);
  Tell(1, 99);
  Leave(1, 1);
  Leave(2, 1);
  Do(HeadDown{"gone"});
  Do(HeadUp{});
  EXPECT_EQ(last_request_.request(), 2u);
  EXPECT_EQ(last_request_.instead_of(), 0u);
}

TEST_F(LeavingTest, RanksThatWereNotToldAreAborted) {
  Tell(0, 0);
  Leave(1, 1);
  EXPECT_EQ(aborted_, std::vector<LeaseNumber>{2});
  Result(2, 1);
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_EQ(last_request_.instead_of(), 0u);
  EXPECT_EQ(last_request_.spec().return_to_preferred().moves(), 2u);  // It was no move.
}

TEST_F(LeavingTest, ErrorsOfRanksThatWereLeftAloneDoNotCount) {
  Tell(0, 99);
  Tell(1, 99);
  v1::FromExecutor message;
  v1::TaskResult& result = *message.mutable_results()->add_results();
  result.set_sequence(1);
  result.set_code(static_cast<int>(absl::StatusCode::kAborted));
  Do(FromExecutor{2, message});  // Before it is known why.
  Leave(1, 1);
  ASSERT_EQ(requests_.size(), 2u);
  now_ += absl::Minutes(1);
  Do(Tick{});
  EXPECT_TRUE(completed_.empty());
}

TEST_F(LeavingTest, RanksThatMayStayAfterAllAreAbortedWhereOthersHaveGone) {
  Tell(0, 99);
  Tell(1, 99);
  Leave(1, 1);
  v1::ToDriver stays;
  stays.mutable_stays()->mutable_lease()->set_driver(7);
  stays.mutable_stays()->mutable_lease()->set_request(1);
  stays.mutable_stays()->mutable_lease()->set_bundle(1);
  Do(FromHead{stays});
  EXPECT_EQ(aborted_, std::vector<LeaseNumber>{2});
  Result(2, 1);
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_EQ(last_request_.instead_of(), 0u);
}

TEST_F(LeavingTest, KilledAtTheDeadlineItReturnsAsWell) {
  Tell(0, 99);
  Tell(1, 99);
  EndLease(1, 0, v1::LEASE_END_EXECUTOR_DIED);
  EndLease(1, 1, v1::LEASE_END_EXECUTOR_DIED);
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_EQ(last_request_.instead_of(), 99u);
}

TEST_F(DriverCoreTest, TaskThatLeftIsRunAgainAsTheSameAttempt) {
  SubmitTask(1);
  Grant(1);
  SubmitTask(2);
  v1::FromExecutor message;
  message.mutable_results()->add_results()->set_sequence(1);
  message.mutable_results()->mutable_results(0)->set_left(true);
  Do(FromExecutor{1, message});
  EXPECT_TRUE(completed_.empty());
  ASSERT_GE(requests_.size(), 2u);
  Grant(requests_.back());
  EXPECT_EQ(pushed_.back(), 1u);
  Result(2, 1);
  EXPECT_EQ(completed_, std::vector<std::string>{"1 OK"});
}

TEST_F(DriverCoreTest, TaskRunsOnceItsRequestIsGranted) {
  SubmitTask(1);
  ASSERT_EQ(requests_, std::vector<uint64_t>{1});
  Grant(1);
  EXPECT_EQ(pushed_, std::vector<TaskNumber>{1});
  Result(1, 1);
  EXPECT_EQ(completed_, std::vector<std::string>{"1 OK"});
  EXPECT_EQ(core_->unfinished(), 0u);
}

TEST_F(DriverCoreTest, TasksThatWantAnotherNodeDoNotShareALease) {
  SubmitTask(1);
  Grant(1);
  EXPECT_EQ(pushed_, std::vector<TaskNumber>{1});
  Result(1, 1);  // The lease is idle now.
  v1::RequestSpec spec;
  spec.add_choices()->mutable_resources()->set_cpus(10000);
  spec.set_bundles(1);
  spec.mutable_affinity()->set_node("n2");
  class_ = core_->AddClass(spec);
  SubmitTask(2);
  EXPECT_EQ(pushed_, std::vector<TaskNumber>{1});
  ASSERT_EQ(requests_, (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(affinity_, "n2");
}

TEST_F(DriverCoreTest, ResultTakenTwiceQueuesTheTaskOnce) {
  SubmitTask(1);
  Grant(1);
  SubmitTask(2, {1, 1});
  Result(1, 1);
  EXPECT_EQ(pushed_, (std::vector<TaskNumber>{1, 2}));
}

TEST_F(DriverCoreTest, TaskBehindOneThatTakesLongAsksForALease) {
  SubmitTask(1);
  Grant(1);
  Result(1, 1);  // Short so far.
  SubmitTask(2);
  SubmitTask(3);
  EXPECT_EQ(pushed_, (std::vector<TaskNumber>{1, 2}));
  EXPECT_EQ(requests_.size(), 1u);  // The lease will soon be free, as far as is known.
  ASSERT_LE(core_->NextTick(), now_ + absl::Milliseconds(5));
  now_ += absl::Milliseconds(5);
  Do(Tick{});
  EXPECT_EQ(requests_.size(), 2u);
}

TEST_F(DriverCoreTest, TaskWithATimeoutGoesAlone) {
  SubmitTask(1);
  Grant(1);
  Result(1, 1, absl::Microseconds(1));  // So short that many would be pushed at once.
  SubmitTask(2);
  SubmitTask(3, {}, absl::Seconds(1));
  for (TaskNumber number = 4; number < 500; ++number) SubmitTask(number);
  Result(1, 2, absl::Microseconds(1));
  EXPECT_EQ(pushed_.back(), 3u);
}

TEST_F(DriverCoreTest, ReasonThatDoesNotComeIsTheConnections) {
  SubmitTask(1);
  Grant(1);
  for (int attempt = 0; attempt < 4; ++attempt) {
    Do(LeaseBroke{static_cast<LeaseNumber>(attempt + 1),
                  "its executor closed the connection, it seems"});
    if (attempt < 3) Grant(requests_.back());
  }
  now_ += absl::Seconds(2);
  Do(Tick{});
  ASSERT_EQ(completed_.size(), 1u);
  EXPECT_EQ(completed_[0],
            "1 UNAVAILABLE: f failed on node n1 (pid 0) after 4 attempts: its executor closed the "
            "connection, it seems");
}

TEST_F(DriverCoreTest, EndOfAGroupsLastRankEndsIt) {
  SubmitGroup submit;
  submit.task = 1;
  submit.spec.add_choices();
  submit.spec.set_bundles(2);
  submit.call.name = "train";
  submit.cookie = std::make_shared<TaskNumber>(1);
  Do(std::move(submit));
  Grant(1, 0);
  Grant(1, 1);
  EXPECT_EQ(pushed_.size(), 2u);
  Do(CancelAsked{1, false});
  EndLease(1, 0, v1::LEASE_END_EXECUTOR_DIED);
  EndLease(1, 1, v1::LEASE_END_EXECUTOR_DIED);
  EXPECT_EQ(completed_, std::vector<std::string>{"1 CANCELLED: train was cancelled"});
  EXPECT_EQ(core_->unfinished(), 0u);
  EXPECT_EQ(core_->leases(), 0u);
}

TEST_F(DriverCoreTest, OpenLeasesServeOnWhereTheHeadIsGivenUp) {
  SubmitTask(1);
  Grant(1);
  Result(1, 1);
  SubmitTask(2);
  SubmitTask(3);
  Do(HeadDown{"no muster head at h"});
  now_ += absl::Seconds(61);
  Do(Tick{});
  EXPECT_EQ(completed_, std::vector<std::string>{"1 OK"});
  Result(1, 2);
  Result(1, 3);
  EXPECT_EQ(completed_, (std::vector<std::string>{"1 OK", "2 OK", "3 OK"}));
  now_ += absl::Seconds(2);
  Do(Tick{});  // The idle lease is given back; whatever comes now cannot be leased.
  SubmitTask(4);
  EXPECT_EQ(completed_.back(), "4 UNAVAILABLE: f: no muster head at h (waited 1m for it)");
}

TEST_F(DriverCoreTest, WorkThatFailedOnANodeAsksForOthersForAWhile) {
  SubmitTask(1);
  EXPECT_TRUE(avoided_.empty());
  Grant(1);
  Do(LeaseBroke{1, "its executor closed the connection"});
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_EQ(avoided_, std::vector<std::string>{"n1"});
  Grant(2);
  Result(2, 1);
  EndLease(2, 0, v1::LEASE_END_RETURNED);
  now_ += absl::Seconds(60);
  SubmitTask(2);
  ASSERT_EQ(requests_.size(), 3u);
  EXPECT_TRUE(avoided_.empty());
}

TEST_F(DriverCoreTest, LeaseThatWasToldToLeaveAndMayStayIsUsedAgain) {
  SubmitTask(1);
  Grant(1);
  v1::ToDriver message;
  message.mutable_draining()->mutable_lease()->set_driver(7);
  message.mutable_draining()->mutable_lease()->set_request(1);
  message.mutable_draining()->set_reason("draining");
  Do(FromHead{message});
  SubmitTask(2);
  ASSERT_EQ(pushed_, std::vector<TaskNumber>{1});  // Nothing more goes there.
  const v1::LeaseKey lease = message.draining().lease();
  *message.mutable_stays()->mutable_lease() = lease;
  Do(FromHead{message});
  Result(1, 1);
  EXPECT_EQ(pushed_, (std::vector<TaskNumber>{1, 2}));
}

TEST_F(DriverCoreTest, DeathOfALeaseThatWasToldToLeaveAvoidsNothing) {
  SubmitTask(1);
  Grant(1);
  v1::ToDriver message;
  message.mutable_draining()->mutable_lease()->set_driver(7);
  message.mutable_draining()->mutable_lease()->set_request(1);
  Do(FromHead{message});
  Do(LeaseBroke{1, "its executor closed the connection"});
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_TRUE(avoided_.empty());
}

}  // namespace
}  // namespace muster::client
