#include "runtime/head/ended_requests.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace muster::head {
namespace {

EndedRequest Ended(uint64_t number, const std::string& task) {
  return {.request = RequestId{number + 100},
          .driver = 1,
          .number = number,
          .task_id = task,
          .name = "Score"};
}

TEST(EndedRequestsTest, FoundByLeaseUntilForgotten) {
  EndedRequests ended(2);
  for (uint64_t number = 1; number <= 3; ++number) ended.Add(Ended(number, "a"));
  EXPECT_EQ(ended.size(), 2u);
  EXPECT_EQ(ended.Find(1, 1), nullptr);
  ASSERT_NE(ended.Find(1, 3), nullptr);
  EXPECT_EQ(ended.Find(1, 3)->request, RequestId{103});
  EXPECT_EQ(ended.Find(2, 3), nullptr);
  EXPECT_EQ(ended.FindById(RequestId{101}), nullptr);
  ASSERT_NE(ended.FindById(RequestId{103}), nullptr);
  EXPECT_EQ(ended.FindById(RequestId{103})->number, 3u);
}

TEST(EndedRequestsTest, OneThatComesAgainIsTheNewer) {
  EndedRequests ended(2);
  ended.Add(Ended(1, "a"));
  ended.Add(Ended(1, "b"));
  EXPECT_EQ(ended.Find(1, 1)->task_id, "b");
  ended.Add(Ended(2, "c"));  // The older of the two goes; the newer is still found.
  ASSERT_NE(ended.Find(1, 1), nullptr);
  EXPECT_EQ(ended.Find(1, 1)->task_id, "b");
  ended.Add(Ended(3, "d"));
  EXPECT_EQ(ended.Find(1, 1), nullptr);
}

TEST(EndedRequestsTest, FoundByTaskNewestFirst) {
  EndedRequests ended(10);
  ended.Add(Ended(1, "4f2a"));
  ended.Add(Ended(2, ""));
  ended.Add(Ended(3, "4f2b"));
  ended.Add(Ended(4, "4f2a"));
  const auto found = ended.ByTask("4f");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0]->number, 4u);
  EXPECT_EQ(found[1]->number, 3u);
  EXPECT_TRUE(ended.ByTask("5").empty());
  EXPECT_EQ(ended.ByTask("").size(), 2u);
}

TEST(EndedRequestsTest, NothingIsKeptWhereNothingIsAskedFor) {
  EndedRequests ended(0);
  ended.Add(Ended(1, "a"));
  EXPECT_EQ(ended.size(), 0u);
}

}  // namespace
}  // namespace muster::head
