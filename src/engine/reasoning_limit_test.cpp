// Reasoning is followed by its signs, however the tokens cut them.
#include "engine/reasoning_limit.h"

#include <gtest/gtest.h>

#include "grammar/testing/list_tokenizer.h"

namespace millrace {
namespace {

class Follower {
 public:
  Follower(int64_t max_tokens, bool has_begun)
      : limit_(syntax_of_template("<tool_call></tool_call>"), tokenizer_,
               {.begins_in_reasoning = has_begun, .has_tools = true}, max_tokens),
        watch_(limit_) {}

  // Whether the end must come after these tokens.
  bool is_spent_after(std::string_view text) {
    for (const char c : text) watch_.take(static_cast<uint8_t>(c));
    return watch_.is_spent();
  }
  void take(std::string_view piece) { watch_.take(*tokenizer_.find_piece(piece)); }
  const ReasoningLimit& limit() const { return limit_; }

 private:
  ListTokenizer tokenizer_ = ListTokenizer::of_bytes({"<tool>", "k>"});
  ReasoningLimit limit_;
  ReasoningWatch watch_;
};

TEST(ReasoningLimit, CountsAllThatStandsBetweenTheSigns) {
  Follower follower(3, false);
  EXPECT_FALSE(follower.is_spent_after("\nWell.<thin"));
  follower.take("k>");
  EXPECT_FALSE(follower.is_spent_after("ab"));
  EXPECT_TRUE(follower.is_spent_after("c"));
  EXPECT_FALSE(follower.is_spent_after("</think>"));
  EXPECT_TRUE(follower.is_spent_after("so<think>")) << "the second time, too";
  EXPECT_EQ(follower.limit().end().size(), 7u);
}

TEST(ReasoningLimit, ACallHoldsNone) {
  Follower follower(0, false);
  EXPECT_FALSE(follower.is_spent_after(R"(<tool_call>{"name": "say", "arguments": {"text": "<think>ab)"));
}

TEST(ReasoningLimit, APromptMayHaveBegunIt) {
  Follower follower(0, true);
  EXPECT_TRUE(follower.is_spent_after(""));
  EXPECT_FALSE(follower.is_spent_after("\xc3")) << "a character is not cut";
  EXPECT_TRUE(follower.is_spent_after("\xa4"));
}

}  // namespace
}  // namespace millrace
