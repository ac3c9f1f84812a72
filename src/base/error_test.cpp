#include "base/error.h"

#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"

namespace millrace {
namespace {

TEST(Error, CarriesKindAndSentence) {
  try {
    fail(ErrorKind::does_not_fit, "expected {}, found {}", 1, "two");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::does_not_fit);
    EXPECT_STREQ(error.what(), "expected 1, found two");
  }
}

TEST(Check, AbortsWithThePlace) {
  check(true, "never said");
  EXPECT_DEATH(check(false, "what went wrong"), "bug: what went wrong .*error_test.cpp:");
}

TEST(Printable, LeavesTextAlone) {
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("blk.0 \"é😀\" \\"), "blk.0 \"é😀\" \\");
}

TEST(Printable, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(printable("\x1b[31m"), "\\x1b[31m");
  EXPECT_EQ(printable("a\nb\tc\rd"), "a\\x0ab\\x09c\\x0dd");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\x7f"), "\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\xc2\\x9b31m");  // the escape of eight bits
  EXPECT_EQ(printable("\xff\xe2\x82"), "\\xff\\xe2\\x82");
}

TEST(Printable, CutsWhatIsLong) {
  EXPECT_EQ(printable(std::string(120, 'a')), std::string(120, 'a'));
  EXPECT_EQ(printable(std::string(121, 'a')), std::string(120, 'a') + "...");
  EXPECT_EQ(printable("€€€", 4), "€€...");
}

TEST(Printable, IsAlwaysOneLineOfUtf8) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 20, '\0');
    for (char& c : text) c = static_cast<char>(random());
    const std::string shown = printable(text, 16);
    ASSERT_TRUE(is_utf8(shown));
    ASSERT_LE(shown.size(), 16u + 12 + 3);
    for (const char c : shown) ASSERT_TRUE(static_cast<uint8_t>(c) >= 0x20 && c != 0x7f);
  }
}

}  // namespace
}  // namespace millrace
