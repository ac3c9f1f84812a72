// Every hand-written scanner beside PCRE2 with the same pattern, on random texts.
#include "text/tokenizers/scanners.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "text/tokenizers/patterns.h"
#include "text/tokenizers/regex_scanner.h"

namespace millrace {
namespace {

class Collector final : public PieceSink {
 public:
  void take(TextPiece piece) override { pieces.emplace_back(piece.text); }
  std::vector<std::string> pieces;
};

std::vector<std::string> pieces_of(const SplitStep& step, std::string_view text) {
  Collector collector;
  step.split({text, true}, collector);
  return collector.pieces;
}

// Characters that Unicode 14, PCRE2's, has the same properties for.
std::string random_text(std::mt19937& random) {
  static const std::string parts[] = {"a",
                                      "b",
                                      "Z",
                                      "'s",
                                      "'S",
                                      "'re",
                                      "'LL",
                                      "'",
                                      "\xc5\xbf",
                                      " ",
                                      "  ",
                                      "\t",
                                      "\n",
                                      "\r\n",
                                      "\xc2\xa0",
                                      "\xe3\x80\x80",
                                      "1",
                                      "23",
                                      "4567",
                                      "\xd9\xa1",
                                      "\xc2\xbd",
                                      "\xe2\x85\xa7",
                                      "!",
                                      "?",
                                      "-",
                                      "_",
                                      "/",
                                      "$",
                                      "+",
                                      "\xc2\xa3",
                                      "\xe2\x82\xac",
                                      "\xc3\xa9",
                                      "\xc3\x89",
                                      "e\xcc\x81",
                                      "\xcc\x81",
                                      "\xe4\xb8\xad",
                                      "\xe6\x96\x87",
                                      "\xe3\x81\x82",
                                      "\xe3\x82\xa2",
                                      "\xed\x95\x9c",
                                      "\xe0\xa4\x95\xe0\xa5\x8d",
                                      "\xc7\x85",
                                      "\xca\xb0",
                                      "\xc2\xaa",
                                      "\xe2\x80\x8d",
                                      "\xf0\x9f\x98\x80",
                                      "\xef\xbc\x81",
                                      "\xe3\x80\x82",
                                      "\x01",
                                      "\xf0\x9d\x90\x80",
                                      "\xf0\xa0\x80\x80",
                                      "\xe3\x80\x87",
                                      "\xe3\x80\x85",
                                      "AB",
                                      "abC"};
  std::string text;
  for (size_t i = random() % 14; i > 0; --i) text += parts[random() % std::size(parts)];
  return text;
}

void expect_same(std::string_view pattern, std::string_view for_pcre) {
  const auto ours = make_pattern_split(pattern);
  const auto theirs = make_split(RegexScanner(for_pcre));
  std::mt19937 random(11);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random_text(random);
    ASSERT_EQ(pieces_of(*ours, text), pieces_of(*theirs, text))
        << pattern << "\non: " << testing::PrintToString(text);
  }
}

class ScannerTest : public testing::TestWithParam<const char*> {};
TEST_P(ScannerTest, IsThePattern) { expect_same(GetParam(), GetParam()); }
INSTANTIATE_TEST_SUITE_P(
    Patterns, ScannerTest,
    testing::Values(patterns::kGpt2, patterns::kCl100k, patterns::kQwen2, patterns::kQwen35, patterns::kO200k,
                    patterns::kTekken, patterns::kDeepseekMain, patterns::kDeepseekCjk, R"(\p{N})",
                    R"(\p{N}{1,3})", R"(\p{N}+)", "[0-9][0-9][0-9]", "[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                    R"(\s+$)", "[一-龥ࠀ-一가-퟿]+",
                    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"));

// PCRE2 has no && in classes: there a lookahead says the same.
TEST(ScannerTest, KimiIsThePattern) {
  std::string pcre = patterns::kKimi;
  const auto replace = [&pcre](std::string_view from, std::string_view by) {
    for (size_t at = pcre.find(from); at != std::string::npos; at = pcre.find(from, at + by.size())) {
      pcre.replace(at, from.size(), by);
    }
  };
  replace(R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])",
          R"((?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]))");
  replace(R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])", R"((?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}]))");
  expect_same(patterns::kKimi, pcre);
}

TEST(ScannerTest, AsciiSetsAreTheTables) {
  for (uint32_t c = 0; c < 128; ++c) EXPECT_EQ(kAsciiSets[c], sets_of(c)) << c;
}

TEST(ScannerTest, KnowsLettersThatPcreDoesNot) {
  const auto step = make_pattern_split(patterns::kCl100k);
  EXPECT_EQ(pieces_of(*step, "\U00031350\U00031351 x").size(), 2u);
}

TEST(RegexScannerTest, RefusesWhatItCannotRead) {
  EXPECT_THROW(RegexScanner("(a"), Error);
  EXPECT_THROW(RegexScanner("[a&&[b]]"), Error);
  EXPECT_THROW(RegexScanner("[\\W]"), Error);
  EXPECT_THROW(RegexScanner(std::string(100'000, 'a')), Error);
}

TEST(RegexScannerTest, GivesUpOnEndlessBacktracking) {
  const RegexScanner scanner("(a|a|b)*(a|a|b)*c");
  EXPECT_THROW(scanner.next(std::string(2000, 'a') + "dc", 0), Error);
}

TEST(SplitTest, AppliesEveryBehavior) {
  const std::string text = "the-final--countdown";
  const auto pieces = [&](SplitBehavior behavior) {
    return pieces_of(*make_text_split("-", {.behavior = behavior}), text);
  };
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces(SplitBehavior::removed), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(pieces(SplitBehavior::isolated), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(pieces(SplitBehavior::contiguous), (Pieces{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(pieces(SplitBehavior::merged_with_previous), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(pieces(SplitBehavior::merged_with_next), (Pieces{"the", "-final", "-", "-countdown"}));
}

}  // namespace
}  // namespace millrace
