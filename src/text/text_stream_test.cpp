#include "text/text_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "text/unicode.h"

namespace millrace {
namespace {

std::string run(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  TextStream stream(std::move(stops));
  std::string text;
  for (const std::string& piece : pieces) text += stream.push(piece);
  return text + stream.flush();
}

TEST(TextStreamTest, HoldsBackAHalfCharacter) {
  TextStream stream;
  EXPECT_EQ(stream.push("a\xf0\x9f"), "a");
  EXPECT_EQ(stream.push("\x98"), "");
  EXPECT_EQ(stream.push("\x80!"), "\U0001f600!");
  EXPECT_EQ(stream.flush(), "");
}

TEST(TextStreamTest, RepairsWhatIsBroken) {
  EXPECT_EQ(run({}, {"a\xff", "b"}), "a\ufffdb");
  EXPECT_EQ(run({}, {"\xe2\x82"}), "\ufffd");
  EXPECT_EQ(run({}, {"\xe2\x82", "x"}), "\ufffdx");
}

TEST(TextStreamTest, StopsAcrossPieces) {
  TextStream stream({"</s>", "\nUser:"});
  EXPECT_EQ(stream.push("Hello\nUs"), "Hello");
  EXPECT_EQ(stream.push("e"), "");
  EXPECT_EQ(stream.push("ful <"), "\nUseful ");
  EXPECT_EQ(stream.push("/s> more"), "");
  EXPECT_TRUE(stream.is_stopped());
  EXPECT_EQ(stream.stop(), "</s>");
  EXPECT_EQ(stream.push("more"), "");
  EXPECT_EQ(stream.flush(), "");
}

TEST(TextStreamTest, GivesWhatWasHeldAtTheEnd) {
  TextStream stream({"stop"});
  EXPECT_EQ(stream.push("a sto"), "a ");
  EXPECT_EQ(stream.flush(), "sto");
  EXPECT_FALSE(stream.is_stopped());
}

TEST(TextStreamTest, TheStopThatEndsFirstWins) {
  EXPECT_EQ(run({"abcd", "bc"}, {"xabcd"}), "xa");
  EXPECT_EQ(run({"bc", "abc"}, {"xabc"}), "x");
  EXPECT_EQ(run({"", "zz"}, {"xyz"}), "xyz");
}

TEST(TextStreamTest, AnyCutGivesTheSame) {
  std::mt19937 random(3);
  const std::string parts[] = {
      "a",    "b",    "ab",       "\xc3\xa9", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\xff",
      "\xe2", "\x82", "\xf0\x9f", "ba",       "aab",          "\xed\xa0\x80",     "<|end|>"};
  const std::vector<std::string> stops = {"aba",
                                          "\xe4\xb8\xad"
                                          "a",
                                          "<|end|>", "bb\xc3\xa9"};
  for (int round = 0; round < 5000; ++round) {
    std::string bytes;
    for (size_t i = random() % 20; i > 0; --i) bytes += parts[random() % std::size(parts)];
    std::vector<std::string> pieces;
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = 1 + random() % 4;
      pieces.push_back(bytes.substr(at, n));
      at += n;
    }
    const std::string cut = run(stops, pieces);
    ASSERT_EQ(cut, run(stops, {bytes}));
    ASSERT_TRUE(is_valid_utf8(cut));
    ASSERT_EQ(run({}, pieces), repair_utf8(bytes));
  }
}

// At every moment what was given out is a beginning of the text before the first stop.
TEST(TextStreamTest, NeverGivesAPartOfAStop) {
  const std::string text = "one two <|en|<|e<|end|> three";
  TextStream stream({"<|end|>"});
  std::string given;
  for (const char c : text) {
    given += stream.push({&c, 1});
    ASSERT_TRUE(std::string("one two <|en|<|e").starts_with(given)) << given;
  }
  EXPECT_EQ(given, "one two <|en|<|e");
}

}  // namespace
}  // namespace millrace
