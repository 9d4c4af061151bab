#include "runtime/client/parts.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace muster::client {
namespace {

TEST(PartsTest, JoinedPartsComeBack) {
  const std::vector<std::string> parts = {"", "a", std::string(1000, 'x'), std::string("\0z", 2)};
  const std::string joined = JoinParts(parts);
  const auto split = SplitParts(joined);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(std::vector<std::string>(split->begin(), split->end()), parts);
}

TEST(PartsTest, NoPartsComeBackAsNone) {
  const std::string joined = JoinParts({});
  ASSERT_TRUE(SplitParts(joined).ok());
  EXPECT_TRUE(SplitParts(joined)->empty());
}

TEST(PartsTest, EveryCutIsRefused) {
  const std::vector<std::string> parts = {"abc", "d"};
  const std::string joined = JoinParts(parts);
  for (size_t size = 0; size < joined.size(); ++size) {
    EXPECT_FALSE(SplitParts(std::string_view(joined).substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(SplitParts(joined + "x").ok());
}

}  // namespace
}  // namespace muster::client
