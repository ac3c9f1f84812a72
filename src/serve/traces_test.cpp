#include "serve/traces.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace millrace {
namespace {

TEST(TraceParent, AsTheStandardHasIt) {
  const auto parent = TraceParent::of_header("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  ASSERT_TRUE(parent);
  EXPECT_EQ(parent->trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(parent->span_id, "b7ad6b7169203331");
  EXPECT_TRUE(parent->is_sampled);
  EXPECT_FALSE(TraceParent::of_header("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")->is_sampled);
  // A version of the future may say more.
  EXPECT_TRUE(TraceParent::of_header("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what"));
}

TEST(TraceParent, NothingElse) {
  for (const char* wrong : {"", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
                            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x"})
    EXPECT_FALSE(TraceParent::of_header(wrong)) << wrong;
}

TEST(HttpTarget, OfAUrl) {
  const auto target = HttpTarget::of_url("http://collector:4318/base", "--otlp");
  EXPECT_EQ(target.host, "collector");
  EXPECT_EQ(target.port, "4318");
  EXPECT_EQ(target.path, "/base");
  EXPECT_EQ(HttpTarget::of_url("http://[::1]:80", "--otlp").host, "::1");
  EXPECT_EQ(HttpTarget::of_url("http://x", "--otlp").port, "80");
  for (const char* wrong :
       {"", "x:1", "https://x", "http://", "http://:1", "http://x:", "http://x:y", "http://x/ y"})
    EXPECT_THROW(HttpTarget::of_url(wrong, "--otlp"), Error) << wrong;
}

}  // namespace
}  // namespace millrace
