#include "engine/rate_limit.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using std::chrono::seconds;

TEST(RateLimit, ABucketForEachKeyThatFillsAgain) {
  RateLimit limit(6);
  const RateLimit::Time begin{};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(limit.ask("a", begin + seconds(1)), 0.0);
  EXPECT_NEAR(limit.ask("a", begin + seconds(1)), 10.0, 1e-9);
  EXPECT_EQ(limit.ask("b", begin + seconds(1)), 0.0);
  EXPECT_NEAR(limit.ask("a", begin + seconds(7)), 4.0, 1e-9);
  EXPECT_EQ(limit.ask("a", begin + seconds(12)), 0.0);
  EXPECT_GT(limit.ask("a", begin + seconds(12)), 0.0);
  int n_taken = 0;
  while (limit.ask("a", begin + seconds(100000)) == 0.0) ++n_taken;
  EXPECT_EQ(n_taken, 6) << "a bucket holds no more than a minute's";
}

TEST(RateLimit, ZeroIsNone) {
  RateLimit limit(0);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.ask("a", {}), 0.0);
}

}  // namespace
}  // namespace millrace
