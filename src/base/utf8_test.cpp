#include "base/utf8.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <unordered_set>

namespace millrace {
namespace {

// The whole character that `bytes` are, decided by trying all encodings of their length: no shared logic.
std::optional<uint32_t> brute_force(std::string_view bytes) {
  uint32_t value = 0;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  constexpr uint8_t kLead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  constexpr uint8_t kLeadMask[] = {0, 0x80, 0xe0, 0xf0, 0xf8};
  const size_t n = bytes.size();
  if (n < 1 || n > 4 || (byte(0) & kLeadMask[n]) != kLead[n]) return std::nullopt;
  value = byte(0) & static_cast<uint8_t>(~kLeadMask[n]);
  for (size_t i = 1; i < n; ++i) {
    if (byte(i) / 64 != 2) return std::nullopt;
    value = value * 64 + byte(i) % 64;
  }
  const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < kSmallest[n] || value > 0x10ffff || is_surrogate) return std::nullopt;
  return value;
}

std::string encoded(uint32_t value) {
  const auto byte = [](uint32_t bits) { return static_cast<char>(bits); };
  const auto last = [&](int i) { return byte(0x80 + (value >> 6 * i) % 64); };
  if (value < 0x80) return {byte(value)};
  if (value < 0x800) return {byte(0xc0 + value / 64), last(0)};
  if (value < 0x10000) return {byte(0xe0 + value / 4096), last(1), last(0)};
  return {byte(0xf0 + value / 262144), last(2), last(1), last(0)};
}

// Whether some character begins with `bytes` and goes on: looked up in a table of all beginnings.
bool is_beginning(const std::string& bytes) {
  static const std::unordered_set<std::string> kBeginnings = [] {
    std::unordered_set<std::string> all;
    for (uint32_t value = 0; value <= 0x10ffff; ++value) {
      const std::string whole = encoded(value);
      if (!brute_force(whole)) continue;  // a surrogate
      for (size_t n = 1; n < whole.size(); ++n) all.insert(whole.substr(0, n));
    }
    return all;
  }();
  return kBeginnings.contains(bytes);
}

Utf8Char expected_at(std::string_view text, size_t at) {
  for (int n = 1; n <= 4 && at + n <= text.size(); ++n) {
    if (const auto value = brute_force(text.substr(at, n))) return {*value, n, true};
  }
  int n = 1;  // the longest beginning of a character
  while (n < 3 && at + n + 1 <= text.size() && is_beginning(std::string(text.substr(at, n + 1)))) ++n;
  return {0xfffd, n, false};
}

void expect_decoded(std::string_view text) {
  for (size_t at = 0; at < text.size(); ++at) {
    const Utf8Char found = next_utf8(text, at);
    const Utf8Char expected = expected_at(text, at);
    ASSERT_EQ(found.is_valid, expected.is_valid) << testing::PrintToString(std::string(text)) << at;
    ASSERT_EQ(found.code_point, expected.code_point) << testing::PrintToString(std::string(text)) << at;
    ASSERT_EQ(found.n_bytes, expected.n_bytes) << testing::PrintToString(std::string(text)) << at;
  }
}

TEST(Utf8, DecodesAllPairsOfBytes) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) expect_decoded(std::string{static_cast<char>(a), static_cast<char>(b)});
  }
}

TEST(Utf8, DecodesBytesAtTheEdgesOfEveryRange) {
  constexpr uint8_t kEdges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
                                0xdf, 0xe0, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf3, 0xf4, 0xf5, 0xff};
  std::string text(4, '\0');
  for (const uint8_t a : kEdges) {
    for (const uint8_t b : kEdges) {
      for (const uint8_t c : kEdges) {
        for (const uint8_t d : kEdges) {
          text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c), static_cast<char>(d)};
          expect_decoded(text);
        }
      }
    }
  }
}

TEST(Utf8, EveryCodePointIsReadBack) {
  for (uint32_t code_point = 0; code_point <= 0x10ffff; ++code_point) {
    if (code_point >= 0xd800 && code_point <= 0xdfff) continue;
    std::string text;
    append_utf8(text, code_point);
    const Utf8Char c = next_utf8(text, 0);
    ASSERT_TRUE(c.is_valid) << code_point;
    ASSERT_EQ(c.code_point, code_point);
    ASSERT_EQ(static_cast<size_t>(c.n_bytes), text.size());
  }
}

TEST(Utf8, TellsTextsFromBytes) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("aé€😀"));
  EXPECT_FALSE(is_utf8("a\xff"));
  EXPECT_FALSE(is_utf8("\xe2\x82"));
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));
  EXPECT_FALSE(is_utf8("\xc0\x80"));
}

TEST(Utf8, CountsUnfinishedBytesAtTheEnd) {
  EXPECT_EQ(n_unfinished_utf8(""), 0);
  EXPECT_EQ(n_unfinished_utf8("é"), 0);
  EXPECT_EQ(n_unfinished_utf8("a\xc3"), 1);
  EXPECT_EQ(n_unfinished_utf8("\xe2\x82"), 2);
  EXPECT_EQ(n_unfinished_utf8("\xf0\x9f\x98"), 3);
  EXPECT_EQ(n_unfinished_utf8("\xe0\x80"), 0);  // overlong: it can never be finished
  EXPECT_EQ(n_unfinished_utf8("\xff"), 0);
  EXPECT_EQ(n_unfinished_utf8("\x80\x80\x80\x80"), 0);
}

// The bytes said to be unfinished are the shortest end after which every cut leaves whole characters.
TEST(Utf8, UnfinishedBytesAreBeginningsOnly) {
  std::mt19937 random(1);
  constexpr char kBytes[] = "a\x80\xbf\xc3\xe2\xe0\xed\xf0\xf4\x9f\x90";
  for (int round = 0; round < 50000; ++round) {
    std::string text(random() % 6, '\0');
    for (char& c : text) c = kBytes[random() % (sizeof kBytes - 1)];
    size_t expected = 0;
    for (size_t n = 1; n <= 3 && n <= text.size(); ++n) {
      if (is_beginning(text.substr(text.size() - n))) expected = n;
    }
    ASSERT_EQ(static_cast<size_t>(n_unfinished_utf8(text)), expected) << testing::PrintToString(text);
  }
}

}  // namespace
}  // namespace millrace
