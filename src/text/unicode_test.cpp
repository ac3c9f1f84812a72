#include "text/unicode.h"

#include <gtest/gtest.h>

#include <random>

namespace millrace {
namespace {

std::string lower(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    append_lower(out, c.code_point);
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

TEST(UnicodeTest, KnowsCategories) {
  EXPECT_EQ(category_of('A'), Category::Lu);
  EXPECT_EQ(category_of(0x1c5), Category::Lt);
  EXPECT_EQ(category_of(0x661), Category::Nd);
  EXPECT_EQ(category_of(0x2167), Category::Nl);
  EXPECT_EQ(category_of(0x301), Category::Mn);
  EXPECT_EQ(category_of(0x1f600), Category::So);
  EXPECT_EQ(category_of(0x200d), Category::Cf);
  EXPECT_EQ(category_of(0xe000), Category::Co);
  EXPECT_EQ(category_of(0x378), Category::Cn);
  EXPECT_EQ(category_of(0x110000), Category::Cn);
}

TEST(UnicodeTest, KnowsUnicode16) {
  EXPECT_EQ(category_of(0x31350), Category::Lo);  // Unicode 15
  EXPECT_EQ(category_of(0x2ebf0), Category::Lo);  // 15.1
  EXPECT_EQ(category_of(0x10d40), Category::Nd);  // 16
  EXPECT_EQ(category_of(0x11de0), Category::Cn);  // 17
}

TEST(UnicodeTest, CountsWhiteSpaceAndHan) {
  int n_spaces = 0, n_han = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    n_spaces += is_white_space(c);
    n_han += is_in(c, kHan);
  }
  EXPECT_EQ(n_spaces, 25);
  EXPECT_EQ(n_han, 99030);
  EXPECT_FALSE(is_white_space(0x180e));
  EXPECT_FALSE(is_white_space(0x200b));
  EXPECT_TRUE(is_white_space(0x85));
}

TEST(UnicodeTest, Lowers) {
  EXPECT_EQ(lower("ABC xyz ÄÖÜ ΣΊΣΥΦΟΣ ДЖ Ǆ Ა ꟋꟜ Ⴀ"), "abc xyz äöü σίσυφοσ дж ǆ ა ɤƛ ⴀ");
  EXPECT_EQ(lower("İ"), "i̇");
}

TEST(UnicodeTest, TellsWords) {
  for (const uint32_t c : {uint32_t{'a'}, uint32_t{'_'}, 0x661u, 0x301u, 0x200du, 0x24b6u})
    EXPECT_TRUE(is_word(c)) << c;
  for (const uint32_t c : {uint32_t{'-'}, uint32_t{' '}, 0xbdu, 0x1f600u}) EXPECT_FALSE(is_word(c)) << c;
}

TEST(UnicodeTest, Normalizes) {
  EXPECT_EQ(normalize("e\u0301 \u212b \uac00\u11a8 \u0344", NormalForm::nfc),
            "\u00e9 \u00c5 \uac01 \u0308\u0301");
  EXPECT_EQ(normalize("\u00e9 \uac01", NormalForm::nfd), "e\u0301 \u1100\u1161\u11a8");
  EXPECT_EQ(normalize("\ufb01 \u00bd \uff21", NormalForm::nfkc), "fi 1\u20442 A");
  EXPECT_EQ(normalize("a\u0315\u0300\u05ae\u0062", NormalForm::nfc), "\u00e0\u05ae\u0315b");
  EXPECT_EQ(normalize("\u0301x", NormalForm::nfc), "\u0301x");
}

// NFC of stretches is NFC of the whole: what decomposing first and composing at once gives.
TEST(UnicodeTest, NfcOfStretchesIsNfcOfTheWhole) {
  std::mt19937 random(7);
  const uint32_t chars[] = {'a',    'e',     ' ',   0xe9,    0x301,  0x323, 0x302, 0x1100, 0x1161, 0x11a8,
                            0xac00, 0x915,   0x93c, 0x94d,   0x5d0,  0x5b0, 0x5bc, 0x64b,  0x212b, 0x1ec7,
                            0x4e00, 0x1f600, 0x344, 0x1d15e, 0xfb1d, 0x9c7, 0x9be, 0x3099, 0x304b, 0xf71};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const int n_chars = static_cast<int>(random() % 12);
    for (int i = 0; i < n_chars; ++i) append_utf8(text, chars[random() % std::size(chars)]);
    const std::string expected = normalize(normalize(text, NormalForm::nfd) + "", NormalForm::nfc);
    const std::string composed = normalize(text, NormalForm::nfc);
    ASSERT_EQ(composed, expected);
    ASSERT_EQ(normalize(composed, NormalForm::nfd), normalize(text, NormalForm::nfd));
    if (is_surely_nfc(text)) {
      ASSERT_EQ(composed, text);
    }
  }
}

TEST(UnicodeTest, OrdersAMegabyteOfMarks) {
  std::string text = "a";
  for (int i = 0; i < 250'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0316";
  const std::string ordered = normalize(text, NormalForm::nfd);
  EXPECT_EQ(ordered.size(), text.size());
  EXPECT_TRUE(ordered.starts_with("a\u0316\u0316\u0316"));
}

TEST(UnicodeTest, RepairsBrokenUtf8) {
  EXPECT_EQ(repair_utf8("a\xff"
                        "b"),
            "a\ufffdb");
  EXPECT_EQ(repair_utf8("\xe2\x82"), "\ufffd");
  EXPECT_EQ(repair_utf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");
  EXPECT_EQ(repair_utf8("\xf0\x9f\x98x"), "\ufffdx");
  EXPECT_EQ(repair_utf8("\xc0\xaf"), "\ufffd\ufffd");
  EXPECT_TRUE(is_valid_utf8("0123456789abcdef\u00e9"));
  EXPECT_FALSE(is_valid_utf8("0123456789abcdef\xe9"));
}

TEST(UnicodeTest, FindsGraphemeEnds) {
  EXPECT_EQ(grapheme_end("e\u0301x", 0), 3u);
  EXPECT_EQ(grapheme_end("\r\nx", 0), 2u);
  EXPECT_EQ(grapheme_end("\U0001f468\u200d\U0001f469", 0), 11u);
}

}  // namespace
}  // namespace millrace
